//! Keeps paths inside of their folder, every symlink followed.

use std::fs;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

/// Whether a file in one of these folders is meant, after every symlink on the way is followed. Nothing has to exist.
///
/// # Errors
/// Why it cannot be told, or where the path leads instead.
pub(crate) fn confine(path: &Utf8Path, folders: &[&Utf8Path]) -> Result<(), String> {
    let parent = path.parent().ok_or("it names no file")?;
    let leads_to = follow(parent)?;
    for folder in folders {
        if leads_to.starts_with(follow(folder)?) {
            return Ok(());
        }
    }
    Err(format!("it leads into {leads_to}"))
}

/// The path with the symlinks of its existing part followed.
pub(crate) fn follow(path: &Utf8Path) -> Result<Utf8PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{path} is not absolute"));
    }
    if path.components().any(|part| part == Utf8Component::ParentDir) {
        return Err(format!("{path} contains `..`"));
    }
    let mut existing = path;
    loop {
        match existing.canonicalize_utf8() {
            Ok(real) => {
                let rest = path.strip_prefix(existing).map_err(|error| error.to_string())?;
                return Ok(if rest.as_str().is_empty() { real } else { real.join(rest) });
            }
            // A symlink to nowhere may lead anywhere by the time it is used.
            Err(error) if fs::symlink_metadata(existing).is_ok() => {
                return Err(format!("{existing}: {error}"));
            }
            Err(error) => existing = existing.parent().ok_or_else(|| error.to_string())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::test_folder as folder;

    #[test]
    fn paths_stay_in_their_folder() {
        let (_guard, dir) = folder();
        let home = dir.join("home");
        let inside = |path: &str| confine(&dir.join(path), &[&home]);
        // Neither has to exist.
        assert_eq!(inside("home/a/b.json"), Ok(()));
        assert_eq!(inside("b.json"), Err(format!("it leads into {dir}")));
        assert_eq!(inside("homely/b.json"), Err(format!("it leads into {dir}/homely")));
        fs::create_dir_all(home.join("sub")).unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        symlink(dir.join("other"), home.join("out")).unwrap();
        symlink(home.join("sub"), dir.join("in")).unwrap();
        symlink(dir.join("nowhere"), home.join("dangling")).unwrap();
        assert_eq!(inside("home/sub/b.json"), Ok(()));
        assert_eq!(inside("in/b.json"), Ok(()));
        assert_eq!(inside("home/out/b.json"), Err(format!("it leads into {dir}/other")));
        assert_eq!(inside("home/out/deeper/b.json"), Err(format!("it leads into {dir}/other/deeper")));
        assert!(inside("home/dangling/b.json").unwrap_err().starts_with(&format!("{home}/dangling: ")));
        assert!(inside("home/../b.json").unwrap_err().ends_with("contains `..`"));
        assert!(confine("b.json".into(), &[&home]).is_err());
    }
}
