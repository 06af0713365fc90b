//! Write protection: which of the user's folders the stack and the agents of a run cannot write to, and what of them they still
//! have to write. Pure: paths are resolved before, and carried out by `stelae_run::protection`.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// What a process finds when it is started behind the protection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteProtection {
    /// Folders that are read-only, with every mount in them. None of them is in another.
    pub read_only: Vec<Utf8PathBuf>,
    /// What of them stays as it is: folders and files.
    pub writable: Vec<Utf8PathBuf>,
    /// Folders in whose place the process finds another one.
    pub replaced: Vec<Replaced>,
    /// Descriptors that the process may inherit besides its standard streams are files in these folders; all others are closed.
    pub inherited: Vec<Utf8PathBuf>,
    /// Who cannot undo it.
    pub lock: Lock,
}

/// A folder, and the one that is found in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The folder.
    pub folder: Utf8PathBuf,
    /// What is found there.
    pub by: Utf8PathBuf,
}

/// What keeps the process from undoing the protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// It is in a user namespace that does not own the mounts, or has no capabilities in the one that does: the kernel refuses.
    UserNamespace,
    /// Nothing: it is root, and user namespaces are not allowed. A mistake is prevented, an attack by root is not.
    Nothing,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectionReport {
    /// Version of this document.
    pub schema: u32,
    /// Whether the stack and the agents could not write to the user's folders.
    pub prevented: bool,
    /// Why not; or what the protection does not cover.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<WriteProtection>,
}

impl ProtectionReport {
    /// For a run whose stack can write wherever its user can.
    pub fn not_prevented(why: impl Into<String>) -> Self {
        Self { schema: 1, prevented: false, why: vec![why.into()], protection: None }
    }
}

/// The folders to protect: each once, none in another, and none that is part of what stays writable. The second list has what
/// cannot be protected: the root of the file system, in which everything lies that a process has to write.
pub fn outermost(
    folders: Vec<Utf8PathBuf>,
    writable: &[Utf8PathBuf],
) -> (Vec<Utf8PathBuf>, Vec<Utf8PathBuf>) {
    let (root, mut folders): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|folder| folder.as_path() == Utf8Path::new("/"));
    folders.sort();
    let mut outermost: Vec<Utf8PathBuf> = Vec::new();
    for folder in folders {
        let within = |others: &[Utf8PathBuf]| others.iter().any(|other| folder.starts_with(other));
        if !within(&outermost) && !within(writable) {
            outermost.push(folder);
        }
    }
    (outermost, root.into_iter().take(1).collect())
}

/// The home of the user with this number, as a line of `/etc/passwd` has it.
pub fn home_in_passwd(passwd: &str, uid: u32) -> Option<&Utf8Path> {
    let uid = uid.to_string();
    let home = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&uid.as_str())).then(|| fields.get(5).copied()).flatten()
    })?;
    Some(Utf8Path::new(home)).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&str]) -> Vec<Utf8PathBuf> {
        paths.iter().map(Utf8PathBuf::from).collect()
    }

    #[test]
    fn a_folder_in_another_is_protected_with_it() {
        let folders = paths(&["/home/me/.cargo", "/srv/src", "/home/me", "/home/me2", "/home/me"]);
        let (folders, not) = outermost(folders, &[]);
        assert_eq!((folders, not), (paths(&["/home/me", "/home/me2", "/srv/src"]), vec![]));
    }

    #[test]
    fn the_root_cannot_be_protected_and_is_named() {
        let (folders, not) = outermost(paths(&["/", "/root", "/"]), &[]);
        assert_eq!((folders, not), (paths(&["/root"]), paths(&["/"])));
    }

    #[test]
    fn what_is_writable_is_not_protected() {
        let (folders, _) = outermost(paths(&["/w/home", "/w", "/home"]), &paths(&["/w"]));
        assert_eq!(folders, paths(&["/home"]));
    }

    #[test]
    fn a_home_is_found_by_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:M,,:/home/me:/bin/zsh\nodd:x:10\nno:x:7:7:::\n";
        assert_eq!(home_in_passwd(passwd, 1000).unwrap(), "/home/me");
        assert_eq!(home_in_passwd(passwd, 0).unwrap(), "/root");
        assert_eq!([10, 7, 5].map(|uid| home_in_passwd(passwd, uid)), [None; 3]);
    }
}
