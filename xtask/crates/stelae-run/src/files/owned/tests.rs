use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;
use crate::files::test_folder;

/// Who is asked about: only what is in the test's folder, which lies among shared ones itself.
fn found(path: &Utf8Path, within: &Utf8Path) -> Option<Shared> {
    let accounts = Accounts::read();
    let mut check = |folder: &Path, about: &About| {
        let why = accusation(folder, about, &accounts, None).filter(|_| folder.starts_with(within));
        why.map(|why| shared(folder, why))
    };
    walk(path, &mut check).unwrap()
}

fn mode(path: &Utf8Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_above_that_others_can_write_to_is_found() {
    let (_guard, folder) = test_folder();
    let path = folder.join("a/b/workspace");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(found(&path, &folder), None);
    // Sticky does not help: whoever may add a file adds `.cargo`.
    for shared in [0o1777, 0o777, 0o702, 0o703] {
        mode(&folder.join("a"), shared);
        let found = found(&path, &folder).unwrap();
        assert_eq!(found.folder.as_str(), folder.join("a").as_str());
        assert!(found.why.contains(&format!("{shared:04o}")), "{found:?}");
        let failure = found.failure(&path, "name another: --workspace PATH");
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "folder-not-private")
        );
        assert_eq!(failure.hint.unwrap(), "name another: --workspace PATH");
    }
    mode(&folder.join("a"), 0o755);
    assert_eq!(found(&path, &folder), None);
    // The folder itself counts, when it is there.
    fs::create_dir(&path).unwrap();
    mode(&path, 0o757);
    assert_eq!(found(&path, &folder).unwrap().folder, path.as_str());
}

#[test]
fn a_folder_of_another_user_is_found_whatever_its_mode() {
    if !geteuid().is_root() {
        return;
    }
    let (_guard, folder) = test_folder();
    fs::create_dir_all(folder.join("theirs/sub")).unwrap();
    chown(folder.join("theirs"), Some(65534), None).unwrap();
    let found_there = found(&folder.join("theirs/sub/w"), &folder).unwrap();
    assert!(found_there.why.starts_with("it belongs to uid 65534"), "{found_there:?}");
    assert_eq!(found_there.failure(&folder, "elsewhere").hint.unwrap(), "elsewhere");
    // By a group that others are in.
    chown(folder.join("theirs"), Some(0), Some(65534)).unwrap();
    assert_eq!(found(&folder.join("theirs/sub/w"), &folder), None);
    mode(&folder.join("theirs"), 0o775);
    assert!(found(&folder.join("theirs/sub/w"), &folder).unwrap().why.starts_with("the group 65534"));
    chown(folder.join("theirs"), Some(0), Some(0)).unwrap();
    assert_eq!(found(&folder.join("theirs/sub/w"), &folder), None, "root's own group has no other member");
}

#[test]
fn a_symlink_counts_with_where_it_lies_and_where_it_leads() {
    let (_guard, folder) = test_folder();
    for name in ["open", "private/real"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    mode(&folder.join("open"), 0o777);
    symlink(folder.join("private/real"), folder.join("open/link")).unwrap();
    symlink("../open", folder.join("private/out")).unwrap();
    symlink("real", folder.join("private/in")).unwrap();
    symlink("loop", folder.join("private/loop")).unwrap();
    let at = |path: &str| found(&folder.join(path), &folder).map(|shared| shared.folder);
    // Who can exchange the link decides where it leads.
    assert_eq!(at("open/link/w"), Some(folder.join("open").into_string()));
    assert_eq!(at("private/out/w"), Some(folder.join("open").into_string()));
    assert_eq!(at("private/in/w"), None);
    assert_eq!(at("private/real/../in/w"), None);
    assert!(walk(&folder.join("private/loop/w"), &mut |_, _| None).is_err());
}

#[test]
fn the_shared_folder_for_temporary_files_is_refused() {
    if Utf8Path::new("/tmp").metadata().is_ok_and(|tmp| tmp.permissions().mode() & 0o002 != 0) {
        assert_eq!(find_shared(Utf8Path::new("/tmp/stelae/w")).unwrap().unwrap().folder, "/tmp");
    }
    assert_eq!(find_shared(Utf8Path::new("/")).unwrap(), None);
}
