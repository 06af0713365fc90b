use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;
use rustix::fs::{mkdirat, renameat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::files::test_folder;

/// Set in the process that a test starts for itself.
const INSIDE: &str = "STELAE_TEST_INSIDE";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(300))
}

fn count(folder: &Utf8Path) -> usize {
    folder.read_dir_utf8().unwrap().count()
}

/// Runs the test of this name once more, in a process of its own that `prefix` starts. Gives whether this is that process.
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts itself again: mounts and limits are a process's own"
)]
fn alone(prefix: &[&str], name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut words = prefix.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", &format!("files::remove::tests::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[expect(clippy::disallowed_methods, reason = "a test mounts as a hostile server does")]
fn mount(args: &[&str]) {
    let output = Command::new("mount").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn all_kinds_go_and_what_they_lead_to_stays() {
    let (_guard, folder) = test_folder();
    let (tree, kept) = (folder.join("tree"), folder.join("kept"));
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("precious"), "x").unwrap();
    fs::write(tree.join("a/file"), "x").unwrap();
    fs::hard_link(kept.join("precious"), tree.join("a/hard")).unwrap();
    symlink(&kept, tree.join("a/link")).unwrap();
    symlink("..", tree.join("a/b/up")).unwrap();
    rustix::fs::mkfifoat(CWD, tree.join("a/pipe").as_str(), Mode::RUSR).unwrap();
    drop(std::os::unix::net::UnixListener::bind(tree.join("a/socket")).unwrap());
    fs::write(tree.join(std::ffi::OsStr::from_bytes(b"no-\xff-text").to_str().unwrap_or("no-text")), "")
        .unwrap();
    remove_tree(&tree, soon()).unwrap();
    assert!(!tree.exists() && fs::read(kept.join("precious")).unwrap() == b"x");
    remove_tree(&tree, soon()).unwrap();
    // A link in the place of the folder goes, and not what it leads to.
    symlink(&kept, &tree).unwrap();
    remove_tree(&tree, soon()).unwrap();
    assert!(tree.symlink_metadata().is_err() && kept.join("precious").exists());
    assert!(remove_tree(Utf8Path::new("/"), soon()).is_err());
}

#[test]
fn what_is_spared_stays() {
    let (_guard, folder) = test_folder();
    fs::create_dir_all(folder.join("sub/marker")).unwrap();
    fs::write(folder.join("marker"), "x").unwrap();
    empty_tree(File::open(&folder).unwrap().as_fd(), folder.as_str(), &["marker"], soon()).unwrap();
    assert_eq!((count(&folder), folder.join("marker").exists()), (1, true));
}

/// A mount of another device, a bind mount of the same, one of a file, and one over the folder itself.
#[test]
fn no_mount_point_is_crossed() {
    if !alone(&["unshare", "--user", "--map-root-user", "--mount"], "no_mount_point_is_crossed") {
        return;
    }
    let (_guard, folder) = test_folder();
    let (tree, user) = (folder.join("tree"), folder.join("user"));
    fs::create_dir_all(tree.join("deep/bound")).unwrap();
    fs::create_dir_all(tree.join("other")).unwrap();
    fs::create_dir_all(user.join("photos")).unwrap();
    for path in [tree.join("gone"), tree.join("deep/gone"), tree.join("file"), user.join("photos/precious")] {
        fs::write(path, "x").unwrap();
    }
    mount(&["--bind", user.as_str(), tree.join("deep/bound").as_str()]);
    mount(&["-t", "tmpfs", "tmpfs", tree.join("other").as_str()]);
    mount(&["--bind", user.join("photos/precious").as_str(), tree.join("file").as_str()]);
    fs::write(tree.join("other/also-precious"), "x").unwrap();

    let remains = remove_tree(&tree, soon()).unwrap_err();
    assert_eq!(fs::read(user.join("photos/precious")).unwrap(), b"x");
    assert_eq!(fs::read(tree.join("other/also-precious")).unwrap(), b"x");
    assert!(!tree.join("gone").exists() && !tree.join("deep/gone").exists(), "what is not mounted goes");
    let text = remains.to_string();
    for path in ["deep/bound", "other", "file"] {
        let left = format!("{tree}/{path}: something is mounted there, and what is in it was not touched");
        assert!(text.contains(&left), "{text}");
    }
    let failure = remains.tell(stelae_model::Failure::unexpected("x"), "cargo xtask runs stop R");
    let hint = failure.hint.unwrap();
    assert!(hint.starts_with("umount /") && hint.ends_with("; then: cargo xtask runs stop R"), "{hint}");

    let over = folder.join("over");
    fs::create_dir(&over).unwrap();
    mount(&["--bind", user.as_str(), over.as_str()]);
    let remains = remove_tree(&over, soon()).unwrap_err();
    assert!(remains.to_string().contains("something is mounted there"), "{remains}");
    assert!(user.join("photos/precious").exists());
}

/// 3,000 folders, whose path is longer than any system call takes, with 20 descriptors.
#[test]
fn no_tree_is_too_deep() {
    if !alone(&["env"], "no_tree_is_too_deep") {
        return;
    }
    let (_guard, folder) = test_folder();
    let tree = folder.join("tree");
    fs::create_dir(&tree).unwrap();
    let name = "n".repeat(255);
    let mut at: OwnedFd = File::open(&tree).unwrap().into();
    for _ in 0..3_000 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        drop(rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::RDWR, Mode::RUSR).unwrap());
        at = rustix::fs::openat(&at, name.as_str(), OFlags::RDONLY | FOLDER, Mode::empty()).unwrap();
    }
    drop(at);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(20), ..limit }).unwrap();
    remove_tree(&tree, soon()).unwrap();
    assert!(!tree.exists());
}

#[test]
fn permissions_that_the_owner_took_from_itself_do_not_keep_a_folder() {
    // Permissions mean something to root only without its capabilities.
    let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let prefix = if rustix::process::geteuid().is_root() { &bare[..] } else { &["env"] };
    if !alone(prefix, "permissions_that_the_owner_took_from_itself_do_not_keep_a_folder") {
        return;
    }
    let (_guard, folder) = test_folder();
    for mode in [0o000, 0o100, 0o200, 0o400, 0o500, 0o600] {
        let tree = folder.join(format!("{mode:o}"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        fs::set_permissions(tree.join("a/b/file"), fs::Permissions::from_mode(0o000)).unwrap();
        for path in ["a/b", "a", "."] {
            fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        remove_tree(&tree, soon()).unwrap();
        assert!(!tree.exists(), "{mode:o}");
    }
}

/// A folder that another process fills for ever is given up at the deadline, and so is one that it never stops deepening.
#[test]
fn a_folder_that_grows_ends_at_the_deadline() {
    let (_guard, folder) = test_folder();
    let tree = folder.join("tree");
    fs::create_dir(&tree).unwrap();
    let (stop, grown) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in (0..u64::MAX).take_while(|_| !stop.load(Ordering::Relaxed)) {
                fs::create_dir_all(tree.join(format!("{}/{}", number % 7, number % 3))).ok();
                fs::write(tree.join(format!("{}/{number}", number % 7)), "").ok();
                grown.store(number > 10, Ordering::Relaxed);
            }
        });
        while !grown.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        // It ends, whichever of the two is the faster.
        let removed = remove_tree(&tree, Deadline::after(Duration::from_millis(200)));
        stop.store(true, Ordering::Relaxed);
        if let Err(remains) = removed {
            assert!(remains.to_string().contains("there was no time left"), "{remains}");
        }
    });
    remove_tree(&tree, soon()).unwrap();
    fs::create_dir(&tree).unwrap();
    let late = remove_tree(&tree, Deadline::after(Duration::ZERO)).unwrap_err();
    assert!(late.to_string().contains("there was no time left") && tree.exists(), "{late}");
}

/// While the tree is removed, another process exchanges a folder of it for a symlink to the user's files, and moves folders about.
#[test]
fn what_is_swapped_meanwhile_is_not_followed() {
    let (_guard, folder) = test_folder();
    let (tree, user) = (folder.join("tree"), folder.join("user"));
    fs::create_dir(&user).unwrap();
    fs::write(user.join("precious"), "x").unwrap();
    for round in 0..15 {
        for number in 0..20 {
            fs::create_dir_all(tree.join(format!("a{number}/b/c"))).unwrap();
            fs::write(tree.join(format!("a{number}/b/c/file")), "").unwrap();
            symlink(&user, tree.join(format!("a{number}/link"))).unwrap();
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..20 {
                        let at = |name: &str| tree.join(format!("a{number}/{name}"));
                        fs::rename(at("b"), at("b2")).ok();
                        fs::rename(at("link"), at("b")).ok();
                        // Out of the folder that it is emptied through.
                        fs::rename(at("b2/c"), tree.join(format!("a{}/moved", (number + 7) % 20))).ok();
                    }
                }
            });
            let removed = remove_tree(&tree, Deadline::after(Duration::from_secs(20)));
            stop.store(true, Ordering::Relaxed);
            removed.unwrap();
        });
        assert_eq!(fs::read(user.join("precious")).unwrap(), b"x", "round {round}");
        assert!(!tree.exists());
    }
}

/// The way back up leads elsewhere: the folder that is emptied was moved out of the tree.
#[test]
fn a_folder_that_was_moved_away_is_not_a_way_out() {
    let (_guard, folder) = test_folder();
    let (tree, user) = (folder.join("tree"), folder.join("user"));
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(&user).unwrap();
    fs::write(user.join("precious"), "x").unwrap();
    let root = File::open(&tree).unwrap();
    let a = enter(root.as_fd(), c"a").ok().unwrap();
    let b = enter(a.file.as_fd(), c"b").ok().unwrap();
    let frame = |name: &CStr, id: FileId| Frame { unread: false, ..Frame::new(name.to_owned(), id) };
    let frames = vec![
        Frame::new(CString::default(), about(&root).unwrap().id),
        frame(c"a", a.about.id),
        frame(c"b", b.about.id),
    ];
    // Just now, when `a/b` is empty, it is moved to where the user's files are.
    renameat(&a.file, "b", CWD, user.join("b").as_str()).unwrap();
    let walk = Walk {
        root: root.as_fd(),
        mount: a.about.mount,
        current: b.file,
        frames,
        shown: tree.as_str(),
        remains: Remains::default(),
        deadline: soon(),
        idle: 0,
    };
    walk.run().or_nothing().unwrap();
    assert_eq!((count(&tree), count(&user)), (0, 2));
}

/// The file that cannot be removed is named, with what helps.
#[test]
fn what_does_not_go_is_named() {
    let (_guard, folder) = test_folder();
    let tree = folder.join("it's a tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/fixed"), "x").unwrap();
    fs::write(tree.join("sub/other"), "x").unwrap();
    let file = File::open(tree.join("sub/fixed")).unwrap();
    let flags = rustix::fs::IFlags::IMMUTABLE;
    if rustix::fs::ioctl_setflags(&file, flags).is_err() {
        // Not with these rights, or on this file system: then nothing can be marked.
        return;
    }
    let remains = remove_tree(&tree, soon());
    rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::empty()).unwrap();
    let remains = remains.unwrap_err();
    assert_eq!(
        remains.to_string(),
        format!("{tree}/sub/fixed: it is marked as unchangeable (chattr +i or +a)")
    );
    let hint = remains.tell(stelae_model::Failure::unexpected("x"), "again").hint.unwrap();
    assert_eq!(
        hint,
        format!("chattr -ia '{}'; then: again", format!("{tree}/sub/fixed").replace('\'', r"'\''"))
    );
    assert_eq!(count(&tree.join("sub")), 1);
    remove_tree(&tree, soon()).unwrap();
}

#[test]
fn an_empty_folder_that_is_another_by_now_stays() {
    let (_guard, folder) = test_folder();
    fs::create_dir(folder.join("one")).unwrap();
    fs::create_dir(folder.join("other")).unwrap();
    let at: Utf8PathBuf = folder.join("one");
    let (parent, name) = split(&at).unwrap();
    let id = about(File::open(folder.join("other")).unwrap()).unwrap().id;
    assert!(remove_empty(parent.as_fd(), &name, id, at.as_str()).is_err());
    assert!(at.exists());
}
