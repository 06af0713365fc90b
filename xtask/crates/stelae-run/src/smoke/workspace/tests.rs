use super::*;
use crate::files::await_unlocked;

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("w")).unwrap();
    (folder, path)
}

/// Clears what the run `r` has left at this path.
fn clear(path: &Utf8Path) -> Result<Option<Utf8PathBuf>, Failure> {
    clear_run("r", path)
}

fn clear_run(run: &str, path: &Utf8Path) -> Result<Option<Utf8PathBuf>, Failure> {
    Workspace::clear(&Dead::new(run, Some(path.to_owned())), Utf8Path::new("/no/such/folder"))
}

fn kind(result: Result<Workspace, Failure>) -> String {
    result.unwrap_err().kind
}

#[test]
fn a_strangers_folder_is_never_touched() {
    let (_keep, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("precious"), "x").unwrap();
    for if_exists in [IfExists::Refuse, IfExists::Reuse, IfExists::Replace] {
        assert_eq!(kind(Workspace::create(&path, "r", if_exists)), "workspace-not-ours");
    }
    assert!(path.join("precious").exists());
}

#[test]
fn what_was_killed_while_it_was_made_is_cleared() {
    let (_keep, path) = folder();
    fs::create_dir(unfinished(&path)).unwrap();
    fs::write(unfinished(&path).join(LOCK), "").unwrap();
    clear(&path).unwrap();
    assert!(!unfinished(&path).exists());
    let workspace = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
    assert!(!unfinished(&path).exists());
    assert_eq!(clear(&path).unwrap_err().kind, "workspace-in-use");
    drop(workspace);
    await_unlocked(&path.join(LOCK));
    clear(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn what_is_being_made_is_left_to_whoever_makes_it() {
    let (_keep, path) = folder();
    fs::create_dir(unfinished(&path)).unwrap();
    let making = lock(&unfinished(&path), open_folder(&unfinished(&path)).unwrap().as_fd()).unwrap();
    clear(&path).unwrap();
    assert!(unfinished(&path).join(LOCK).exists());
    // The folder that is in the way is named, and not the one that is not there.
    let failure = Workspace::create(&path, "r", IfExists::Refuse).unwrap_err();
    assert_eq!((failure.kind.as_str(), failure.on), ("workspace", vec![unfinished(&path).into_string()]));
    drop(making);
    await_unlocked(&unfinished(&path).join(LOCK));
    clear(&path).unwrap();
    assert!(!unfinished(&path).exists());
}

#[test]
fn what_an_agent_has_renewed_outlives_whoever_removes_its_home() {
    use stelae_model::agent::{Agent, Model};
    use stelae_model::env::{Environment, Layers};
    let (keep, path) = folder();
    let user = Utf8Path::from_path(keep.path()).unwrap().join("auth.json");
    let process = vec![("CODEX_HOME".to_owned(), user.parent().unwrap().to_string())];
    let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
    let run_that_is_killed = |key: &str| {
        fs::write(&user, r#"{"OPENAI_API_KEY":"the-old-one"}"#).unwrap();
        drop(Workspace::create(&path, "r", IfExists::Reuse).unwrap());
        let at = path.join(AGENT_HOMES).join("install");
        let mut home = AgentHome::create(&at).unwrap();
        home.lend_credentials(Agent::Codex, Model::Live, &host).unwrap();
        home.leave();
        fs::remove_file(at.join("auth.json")).unwrap();
        fs::write(at.join("auth.json"), key).unwrap();
        await_unlocked(&path.join(LOCK));
    };
    run_that_is_killed("renewed");
    drop(Workspace::create(&path, "s", IfExists::Replace).unwrap());
    assert_eq!(fs::read_to_string(&user).unwrap(), "renewed");
    await_unlocked(&path.join(LOCK));
    run_that_is_killed("renewed again");
    clear(&path).unwrap();
    assert_eq!((fs::read_to_string(&user).unwrap().as_str(), path.exists()), ("renewed again", false));
}

#[test]
fn ours_is_refused_reused_or_replaced_as_told() {
    let (_keep, path) = folder();
    let first = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
    fs::write(path.join("file"), "x").unwrap();
    assert_eq!(kind(Workspace::create(&path, "s", IfExists::Replace)), "workspace-in-use");
    drop(first);
    await_unlocked(&path.join(LOCK));
    assert_eq!(kind(Workspace::create(&path, "s", IfExists::Refuse)), "workspace-exists");
    await_unlocked(&path.join(LOCK));
    assert!(Workspace::create(&path, "s", IfExists::Reuse).is_ok() && path.join("file").exists());
    await_unlocked(&path.join(LOCK));
    let replaced = Workspace::create(&path, "s", IfExists::Replace).unwrap();
    assert!(!path.join("file").exists());
    replaced.remove().unwrap();
    assert!(!path.exists());
    assert_eq!(kind(Workspace::open(&path)), "workspace-gone");
}

/// A folder of its user's that lies where the workspace was, with the very marker in it, is not the workspace; that is found where
/// a server has moved it.
#[test]
fn a_workspace_that_was_renamed_is_removed_where_it_is_and_a_copy_of_it_is_not() {
    let (keep, path) = folder();
    let base = Utf8Path::from_path(keep.path()).unwrap();
    let workspaces = base.join("cache/workspaces");
    let deep = workspaces.join("other-run/repo");
    fs::create_dir_all(&deep).unwrap();
    let copy = |to: &Utf8Path| {
        fs::create_dir_all(to).unwrap();
        fs::write(to.join("precious"), "x").unwrap();
        fs::copy(base.join("moved").join(MARKER), to.join(MARKER)).unwrap();
    };
    // Under way: the folder is open.
    let workspace = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
    fs::rename(&path, base.join("moved")).unwrap();
    copy(&path);
    workspace.remove().unwrap();
    assert!(!base.join("moved").exists() && path.join("precious").exists());
    fs::remove_dir_all(&path).unwrap();

    // Killed: by the marker, beside where it was, or below the folder of all workspaces.
    for to in [base.join("moved"), deep.join("moved")] {
        let workspace = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
        let dead = Dead { folder: Some(workspace.id().unwrap()), ..Dead::new("r", Some(path.clone())) };
        drop(workspace);
        await_unlocked(&path.join(LOCK));
        fs::rename(&path, &to).unwrap();
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("precious"), "x").unwrap();
        fs::copy(to.join(MARKER), path.join(MARKER)).unwrap();
        let anonymous = Dead { folder: None, ..dead.clone() };
        assert_eq!(Workspace::clear(&Dead::new("s", Some(path.clone())), &workspaces).unwrap(), None);
        for dead in [&dead, &anonymous] {
            assert!(Workspace::find(&dead.run, dead.folder, &path, &workspaces).unwrap().is_some());
        }
        await_unlocked(&to.join(LOCK));
        assert_eq!(Workspace::clear(&dead, &workspaces).unwrap(), Some(to.clone()));
        assert!(!to.exists() && path.join("precious").exists());
        assert_eq!(Workspace::clear(&dead, &workspaces).unwrap(), None);
        fs::remove_dir_all(&path).unwrap();
    }
}

/// Another run works there by now: what an earlier one has left is not its workspace.
#[test]
fn a_dead_run_does_not_take_the_workspace_of_the_next() {
    let (_keep, path) = folder();
    drop(Workspace::create(&path, "r", IfExists::Refuse).unwrap());
    await_unlocked(&path.join(LOCK));
    drop(Workspace::create(&path, "s", IfExists::Reuse).unwrap());
    await_unlocked(&path.join(LOCK));
    assert_eq!(clear(&path).unwrap(), None);
    assert!(path.exists());
    assert_eq!(clear_run("s", &path).unwrap(), Some(path.clone()));
}

/// What a server can put in the place of the marker or of the lock: nothing waits, and nothing is followed.
#[test]
fn a_marker_that_is_none_makes_no_workspace() {
    let (keep, path) = folder();
    let base = Utf8Path::from_path(keep.path()).unwrap();
    drop(Workspace::create(&path, "r", IfExists::Refuse).unwrap());
    await_unlocked(&path.join(LOCK));
    let marker = fs::read(path.join(MARKER)).unwrap();
    let hostile: [&dyn Fn(&Utf8Path); 6] = [
        &|path| rustix::fs::mkfifoat(CWD, path.as_str(), Mode::RWXU).unwrap(),
        &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        &|path| std::os::unix::fs::symlink(base.join("elsewhere"), path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
        &|path| File::create(path).unwrap().set_len(6 << 30).unwrap(),
        &|path| fs::write(path, "{").unwrap(),
    ];
    fs::write(base.join("elsewhere"), &marker).unwrap();
    for put in hostile {
        crate::files::remove_tree(&path.join(MARKER), Deadline::after(REMOVED_WITHIN)).unwrap();
        put(&path.join(MARKER));
        assert_eq!(kind(Workspace::open(&path)), "workspace-not-ours");
        assert_eq!(clear(&path).unwrap(), None);
    }
    crate::files::remove_tree(&path.join(MARKER), Deadline::after(REMOVED_WITHIN)).unwrap();
    fs::write(path.join(MARKER), &marker).unwrap();
    for put in &hostile[..4] {
        crate::files::remove_tree(&path.join(LOCK), Deadline::after(REMOVED_WITHIN)).unwrap();
        put(&path.join(LOCK));
        assert_eq!(kind(Workspace::open(&path)), "workspace");
    }
    crate::files::remove_tree(&path.join(LOCK), Deadline::after(REMOVED_WITHIN)).unwrap();
    Workspace::open(&path).unwrap().remove().unwrap();
}

#[test]
fn a_folder_of_it_that_leads_elsewhere_is_refused() {
    let (keep, path) = folder();
    let workspace = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
    workspace.folder("home").unwrap();
    workspace.folder("home").unwrap();
    std::os::unix::fs::symlink(keep.path(), path.join("config")).unwrap();
    assert_eq!(workspace.folder("config").unwrap_err().kind, "workspace");
}
