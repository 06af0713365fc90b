//! Processes that do not die of SIGKILL (state D): the verb ends all the same, says which they are, and the next start neither
//! waits for them nor takes their files away.
//!
//! They are made with the freezer of cgroup v1, whose frozen processes take no signal at all. `tests/watchdog` has the same
//! promises with stand-ins, on every machine.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use rustix::process::Signal;
use stelae_tests::{Source, Xtask, alive, until};

use crate::halves::{Up, signal};

const FREEZER: &str = "/sys/fs/cgroup/freezer";
/// What the freezer's folders of these tests are called: this, the pid of the test program, and a mark.
const FOLDER: &str = "stelae-test-";
const ISOLATIONS: [&str; 2] = ["guard", "pidns"];

/// A frozen process. It goes on, and so dies, when this is dropped.
struct Frozen {
    folder: PathBuf,
    pid: String,
}

impl Frozen {
    /// Freezes one process of a lifecycle that only `/proc` as seen from here names.
    fn one_of(up: &Up) -> Option<Self> {
        thaw_what_killed_tests_left();
        let folder = PathBuf::from(FREEZER).join(format!("{FOLDER}{}-{}", std::process::id(), up.mark));
        if fs::create_dir(&folder).is_err() {
            let text =
                format!("skipped: no cgroup v1 freezer to write to at {FREEZER}: no process can be frozen\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let sleeps = |one: &String| one.split(' ').nth(1) == Some("sleep");
        let mut pid = None;
        until("a daemon", || {
            pid = alive(&up.mark)
                .iter()
                .find(|one| sleeps(one))
                .map(|one| one.split(' ').next().unwrap().to_owned());
            pid.is_some()
        });
        let frozen = Self { folder, pid: pid.unwrap() };
        fs::write(frozen.folder.join("tasks"), &frozen.pid).unwrap();
        fs::write(frozen.folder.join("freezer.state"), "FROZEN").unwrap();
        until("a frozen process", || {
            fs::read_to_string(frozen.folder.join("freezer.state")).unwrap().trim() == "FROZEN"
        });
        Some(frozen)
    }

    fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| stat.contains(") D "))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fs::write(self.folder.join("freezer.state"), "THAWED").ok();
        until("the end of the freezer", || fs::remove_dir(&self.folder).is_ok());
    }
}

/// A test program that was killed has thawed nothing: its processes could not be ended by anything else either.
fn thaw_what_killed_tests_left() {
    for folder in fs::read_dir(FREEZER).into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(FOLDER).and_then(|rest| rest.split('-').next()) else { continue };
        if !PathBuf::from("/proc").join(pid).exists() {
            fs::write(folder.path().join("freezer.state"), "THAWED").ok();
            fs::remove_dir(folder.path()).ok();
        }
    }
}

/// What a guarded start says, and leaves, after the verb has ended.
fn next_start(up: &Up) -> String {
    let source = Source::of_working_tree();
    let next = Xtask::new(source.path(), &["smoke", "--plan"]);
    let next = next.env("STELAE_CACHE_HOME", up.cache.as_str()).run();
    assert_eq!(next.code, 0, "{}", next.stderr);
    next.stderr
}

/// That the next starts leave alone what cannot die, and clear up when it has died.
fn swept_when_it_has_died(frozen: Frozen, up: &Up) {
    let said = next_start(up);
    assert!(said.contains(&format!("cannot end pid {}", frozen.pid)), "{said}");
    assert!(said.contains("uninterruptible sleep (state D)"), "{said}");
    assert!(frozen.is_alive() && up.workspace.exists(), "{said}");
    drop(frozen);
    until("the end of everyone", || alive(&up.mark).is_empty());
    let said = next_start(up);
    assert!(!up.workspace.exists(), "{said}");
    assert_eq!(fs::read_dir(up.cache.join("live")).unwrap().count(), 0);
}

#[test]
fn a_verb_ends_although_one_of_its_processes_cannot() {
    for (number, isolation) in (100..).zip(ISOLATIONS) {
        // Told to end, and by itself: then no signal has made a deadline.
        for (number, hold_ms) in [(number, "600000"), (number + 10, "1500")] {
            let mut up = Up::held(isolation, "double-fork", number, hold_ms);
            let Some(frozen) = Frozen::one_of(&up) else { return };
            if hold_ms == "600000" {
                up.run.signal(Signal::TERM);
            }
            until("the end of the verb", || up.run.has_ended());
            assert!(frozen.is_alive(), "it has died, so nothing is shown");
            let (stdout, stderr) = (up.run.stdout(), up.run.stderr());
            let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(document["failure"]["kind"], "survivor", "{stdout}");
            assert_eq!(document["failure"]["exit_code"], 34, "{stdout}");
            // By the pid that the user sees, and where it waits.
            let on = document["failure"]["on"].to_string();
            assert!(on.contains(&format!("pid {}: sleep", frozen.pid)), "{isolation}: {stdout}");
            assert!(document["failure"]["why"].to_string().contains("(state D) in "), "{stdout}");
            assert!(!document["failure"]["hint"].to_string().contains("kill"), "{stdout}");
            assert!(!stderr.contains("unshare"), "{stderr}");
            swept_when_it_has_died(frozen, &up);
            assert_eq!(up.run.wait().code, 34);
        }
    }
}

#[test]
fn a_working_half_that_is_killed_beside_such_a_process_is_not_waited_for() {
    for (number, isolation) in (120..).zip(ISOLATIONS) {
        let mut up = Up::new(isolation, "double-fork", number);
        let Some(frozen) = Frozen::one_of(&up) else { return };
        signal(up.run.inner(), Signal::KILL);
        until("the end of the verb", || up.run.has_ended());
        assert!(frozen.is_alive(), "it has died, so nothing is shown");
        let text = up.run.stderr();
        assert!(text.contains(&format!("pid {}: sleep", frozen.pid)), "{text}");
        assert!(text.contains("was killed") || text.contains("ended with") || text.contains("cut"), "{text}");
        assert!(!text.contains("[xtask]"), "{text}");
        swept_when_it_has_died(frozen, &up);
        assert_eq!(up.run.wait().verdict(), (34, "survivor".to_owned()));
    }
}

/// `unshare` waits for the working half, and is nothing that a verb waits for once that has said its word.
#[test]
fn an_unshare_that_is_stopped_holds_nobody_up() {
    let up = Up::new("pidns", "double-fork", 130);
    let unshare = stelae_tests::children(up.run.pid())[0];
    signal(unshare, Signal::STOP);
    up.run.signal(Signal::TERM);
    let ended = up.run.wait();
    assert_eq!(ended.verdict(), (143, "interrupted".to_owned()), "{}", ended.stderr);
    assert!(!ended.stderr.contains("unshare"), "{}", ended.stderr);
    assert_eq!((alive(&up.mark), ended.left()), (vec![], vec![]));
}
