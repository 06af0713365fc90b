//! Credentials that are lent to a home, and how they come back.
//!
//! They are a link to the file of their user. An agent that gets newer ones writes them through it; or it puts a file in the
//! place of the link. The ones before may be worth nothing by then, so that file becomes the user's: nobody is logged out by a
//! test. A note says what was lent, for the session that takes it back. The harness writes to the file that the note names, so the
//! notes lie in a folder of their own, which no process behind the write protection can reach.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::symlink;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use crate::files::{self, limits, read_regular, read_untrusted};

/// How a note is called: `<name of the home>.json`, in [`notes_of`] the folder of the home.
const NOTE: &str = ".json";
/// The files that hold credentials, of all agents.
const NAMES: [&str; 2] = ["auth.json", ".credentials.json"];
/// Shorter texts in a file of credentials are no secrets: `Bearer`, an address.
const SHORTEST_SECRET: usize = 16;

/// Credentials that are lent.
#[derive(Debug)]
pub(super) struct Lent {
    /// In the home.
    link: Utf8PathBuf,
    /// In the folder of notes.
    note: Utf8PathBuf,
    noted: Noted,
    /// What they held when they were lent, as far as this session knows.
    held: Vec<u8>,
}

/// The note: no secret is in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    /// The name of the link.
    name: String,
    /// Their user's file, as its user names it.
    original: Utf8PathBuf,
    /// SHA-256 of what they held.
    sha256: String,
}

impl Lent {
    /// Lends the user's file `original` to the home, under this name there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn lend(home: &Utf8Path, name: &str, original: Utf8PathBuf) -> io::Result<Self> {
        let held = read_regular(&original)?;
        let noted = Noted { name: name.to_owned(), original, sha256: digest(&held) };
        let lent = Self { link: home.join(name), note: note_of(home), noted, held };
        if let Some(folder) = lent.note.parent() {
            files::create_private_dirs(folder)?;
        }
        // Before the link: what is lent is known, whichever process dies now.
        files::replace_json(&lent.note, &lent.noted)?;
        symlink(&lent.noted.original, &lent.link)?;
        Ok(lent)
    }

    /// What an earlier session has lent to the home.
    ///
    /// # Errors
    /// Exit 10, `agent-home`: there is a note that cannot be read.
    pub(super) fn earlier(home: &Utf8Path) -> Result<Option<Self>, Failure> {
        let note = note_of(home);
        let bytes = match read_untrusted(&note, limits::MARKER) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read,
        };
        let noted = bytes.and_then(|bytes| {
            let noted: Noted = serde_json::from_slice(&bytes)?;
            // Without write protection a server can write it: one that names another file would have the harness overwrite that.
            if NAMES.contains(&noted.name.as_str()) && noted.original.file_name() == Some(&noted.name) {
                Ok(noted)
            } else {
                Err(io::Error::other("it names a file that holds no credentials"))
            }
        });
        let noted = noted.map_err(|error| {
            let what = "what was lent to an agent is not known";
            Failure::new(ExitCode::StepFailed, "agent-home", what)
                .on(note.to_string())
                .because(error.to_string())
                .hint(format!("log in again if you have to, then: rm {}", shell_word(note.as_str())))
        })?;
        Ok(Some(Self { link: home.join(&noted.name), note, noted, held: Vec::new() }))
    }

    /// Their user's file, as its user names it.
    pub(super) fn original(&self) -> &Utf8Path {
        &self.noted.original
    }

    /// The homes in a folder to which something is lent.
    pub(super) fn homes(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
        let entries = notes_of(folder).read_dir_utf8().into_iter().flatten().flatten();
        let mut homes: Vec<_> =
            entries.filter_map(|entry| Some(folder.join(entry.file_name().strip_suffix(NOTE)?))).collect();
        homes.sort();
        homes
    }

    /// What is secret in them: when they were lent, and now.
    pub(super) fn secrets(&self) -> BTreeSet<String> {
        let now = [&self.noted.original, &self.link].map(|path| read_regular(path).unwrap_or_default());
        now.iter().chain([&self.held]).flat_map(|bytes| secrets_of(bytes)).collect()
    }

    /// Ends the loan. Newer ones become the user's, unless the user has got others meanwhile.
    ///
    /// # Errors
    /// Exit 10, `agent-home`: the newer ones cannot be given back, and stay where they are.
    pub(super) fn give_back(&self) -> Result<(), Failure> {
        self.give_newer_back().map_err(|error| {
            let [from, to] = [&self.link, &self.noted.original].map(|path| shell_word(path.as_str()));
            let what = "credentials that an agent has renewed cannot be given back to their user";
            Failure::new(ExitCode::StepFailed, "agent-home", what)
                .on(self.link.to_string())
                .because(error.to_string())
                .hint(format!("the old ones may be worth nothing any more: cp {from} {to}"))
        })?;
        // Neither is a secret of ours any more: a link, and a digest.
        std::fs::remove_file(&self.link).ok();
        std::fs::remove_file(&self.note).ok();
        Ok(())
    }

    fn give_newer_back(&self) -> io::Result<()> {
        if !self.link.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        let newer = read_untrusted(&self.link, limits::CREDENTIAL)?;
        // A user may keep them elsewhere, and have a symlink here: that stays one.
        let original = self.noted.original.canonicalize_utf8();
        let original = original.unwrap_or_else(|_| self.noted.original.clone());
        let untouched = read_regular(&original).is_ok_and(|now| digest(&now) == self.noted.sha256);
        if untouched && digest(&newer) != self.noted.sha256 {
            files::replace(&original, &newer, files::Readable::ByOwner)?;
        }
        Ok(())
    }
}

/// Where the notes about the homes in a folder are.
pub(crate) fn notes_of(homes: &Utf8Path) -> Utf8PathBuf {
    format!("{homes}-loans").into()
}

fn note_of(home: &Utf8Path) -> Utf8PathBuf {
    let name = home.file_name().unwrap_or_default();
    notes_of(home.parent().unwrap_or(home)).join(format!("{name}{NOTE}"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every text in a file of credentials that is long enough to be one.
fn secrets_of(bytes: &[u8]) -> Vec<String> {
    fn collect(value: &Value, secrets: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= SHORTEST_SECRET => secrets.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
            Value::Object(members) => members.values().for_each(|value| collect(value, secrets)),
            _ => {}
        }
    }
    let mut secrets = Vec::new();
    collect(&serde_json::from_slice(bytes).unwrap_or_default(), &mut secrets);
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user's file, lent to a home that is left to a person; and what an agent puts in the place of the link.
    fn left(root: &Utf8Path, original: &str, newer: Option<&str>) -> Lent {
        let (file, home) = (root.join("auth.json"), root.join("agent/s"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(&file, original).unwrap();
        Lent::lend(&home, "auth.json", file).unwrap();
        if let Some(newer) = newer {
            std::fs::remove_file(home.join("auth.json")).unwrap();
            std::fs::write(home.join("auth.json"), newer).unwrap();
        }
        assert_eq!(Lent::homes(&root.join("agent")), [home.as_path()]);
        Lent::earlier(&home).unwrap().unwrap()
    }

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
        (guard, path)
    }

    #[test]
    fn another_session_gives_back_what_is_newer() {
        let (_guard, root) = folder();
        let read = || std::fs::read_to_string(root.join("auth.json")).unwrap();
        left(&root, "old", Some("new")).give_back().unwrap();
        assert_eq!(read(), "new");
        assert_eq!(root.join("agent/s").read_dir_utf8().unwrap().count(), 0);
        assert_eq!(Lent::homes(&root.join("agent")), Vec::<Utf8PathBuf>::new());
        assert!(Lent::earlier(&root.join("agent/s")).unwrap().is_none());

        left(&root, "old", None).give_back().unwrap();
        assert_eq!(read(), "old");
    }

    #[test]
    fn what_its_user_got_meanwhile_is_newer_still() {
        let (_guard, root) = folder();
        let lent = left(&root, "old", Some("new"));
        std::fs::write(root.join("auth.json"), "a login meanwhile").unwrap();
        lent.give_back().unwrap();
        assert_eq!(std::fs::read_to_string(root.join("auth.json")).unwrap(), "a login meanwhile");
    }

    #[test]
    fn a_symlink_of_the_users_stays_one() {
        let (_guard, root) = folder();
        std::fs::write(root.join("kept-elsewhere"), "").unwrap();
        symlink(root.join("kept-elsewhere"), root.join("auth.json")).unwrap();
        left(&root, "old", Some("new")).give_back().unwrap();
        assert_eq!(root.join("auth.json").read_link_utf8().unwrap(), root.join("kept-elsewhere"));
        assert_eq!(std::fs::read_to_string(root.join("kept-elsewhere")).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_given_back_stays() {
        let (_guard, root) = folder();
        let home = root.join("agent/s");
        std::fs::create_dir_all(&home).unwrap();
        // Nobody can put a file there, not even root.
        let lent = Lent::lend(&home, "auth.json", "/proc/version".into()).unwrap();
        std::fs::remove_file(home.join("auth.json")).unwrap();
        std::fs::write(home.join("auth.json"), "new").unwrap();
        let failure = lent.give_back().unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "agent-home"));
        assert_eq!(std::fs::read_to_string(home.join("auth.json")).unwrap(), "new");
        assert!(note_of(&home).exists());

        std::fs::write(note_of(&home), "{").unwrap();
        assert_eq!(Lent::earlier(&home).unwrap_err().kind, "agent-home");
    }

    /// Where nothing is protected, a note of a server's own must not have the harness write to just any file of the user.
    #[test]
    fn a_note_that_names_another_file_is_refused() {
        let (_guard, root) = folder();
        let (home, victim) = (root.join("agent/s"), root.join(".bashrc"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir(notes_of(&root.join("agent"))).unwrap();
        std::fs::write(&victim, "precious").unwrap();
        for (name, original) in [
            ("auth.json", victim.clone()),
            (".bashrc", victim.clone()),
            ("../.bashrc", victim.clone()),
            ("auth.json", root.join("auth.json/..")),
        ] {
            let noted = Noted { name: name.to_owned(), original, sha256: digest(b"precious") };
            files::replace_json(&note_of(&home), &noted).unwrap();
            std::fs::write(home.join("auth.json"), "alias ls=evil").unwrap();
            let failure = Lent::earlier(&home).unwrap_err();
            assert_eq!(failure.why, ["it names a file that holds no credentials"], "{name}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
}
