//! One lifecycle each, in both kinds of isolation.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use stelae_tests::{Run, Source, Xtask, alive, children, programs, root, runs, until};

const ISOLATIONS: [&str; 2] = ["guard", "pidns"];

/// A lifecycle of `soak` that stays up until it is told to end.
pub(crate) struct Up {
    pub(crate) run: Run,
    pub(crate) mark: String,
    pub(crate) workspace: Utf8PathBuf,
    /// Of this test alone: any guarded start in it would end what a test leaves for the next one to end.
    pub(crate) cache: Utf8PathBuf,
    _source: Source,
}

impl Up {
    pub(crate) fn new(isolation: &str, shape: &str, number: u32) -> Self {
        Self::held(isolation, shape, number, "600000")
    }

    /// The same, which ends by itself so many milliseconds after its service is up.
    pub(crate) fn held(isolation: &str, shape: &str, number: u32, hold_ms: &str) -> Self {
        let source = Source::of_working_tree();
        let mark = format!("600.{:05}{number:04}", std::process::id());
        // Leases are of a cache home: in homes of their own, two of these may have one address.
        let port = (20_000 + std::process::id() % 400 * 64 + number).to_string();
        let xtask = Xtask::new(source.path(), &["--isolation", isolation, "--format", "json", "soak-cycle"]);
        let (workspace, cache) = (xtask.tmp().join("work"), xtask.tmp().with_file_name("cache"));
        let run = xtask
            .env("STELAE_CACHE_HOME", cache.as_str())
            .args(&["--run", &format!("test-{mark}"), "--shape", shape, "--mark", &mark])
            .args(&[
                "--port",
                &port,
                "--workspace",
                workspace.as_str(),
                "--grace-ms",
                "200",
                "--hold-ms",
                hold_ms,
            ])
            .start();
        let log = workspace.join("service.log");
        let mut up = Self { run, mark, workspace, cache, _source: source };
        until("the service", || {
            assert!(!up.run.has_ended(), "{}", up.run.stderr());
            fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))
        });
        up
    }

    pub(crate) fn await_nobody(&self) {
        until("the end of everyone", || alive(&self.mark).is_empty());
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    // It may have gone by itself.
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

#[test]
fn the_outer_half_is_killed() {
    for (number, isolation) in (0..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "double-fork", number);
        up.run.signal(Signal::KILL);
        up.await_nobody();
        // The inner half has cleared up after itself: nobody had to be swept.
        until("the end of the workspace", || !up.workspace.exists());
        assert_eq!(up.run.wait().code, 137);
    }
}

#[test]
fn the_inner_half_is_killed() {
    for (number, isolation) in (10..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "cleared-ignores-term", number);
        signal(up.run.inner(), Signal::KILL);
        until("the end of everyone", || alive(&up.mark).is_empty());
        let ended = up.run.wait();
        assert_eq!(ended.verdict(), (10, "guardian-killed".to_owned()), "{}", ended.stderr);
        assert!(ended.stderr.contains("everything that it had started is gone"), "{}", ended.stderr);
        // What it could not clear any more, the outer half has.
        assert!(!up.workspace.exists(), "{}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new());
    }
}

#[test]
fn both_halves_are_killed_and_the_next_start_ends_what_they_left() {
    for (number, isolation) in (20..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "double-fork", number);
        // The inner one is stopped first, so that it has no instant in which it could do anything.
        let inner = up.run.inner();
        signal(inner, Signal::STOP);
        up.run.signal(Signal::STOP);
        signal(up.run.pid(), Signal::KILL);
        signal(inner, Signal::KILL);
        if isolation == "pidns" {
            until("the end of everyone", || alive(&up.mark).is_empty());
        } else {
            until("the end of both halves", || alive(&up.mark).iter().all(|one| !one.contains("soak-cycle")));
            assert!(!alive(&up.mark).is_empty(), "the hole that the sweep is for is not there");
        }
        assert!(up.workspace.exists());
        // Any verb that is guarded is a start.
        let source = Source::of_working_tree();
        let next = Xtask::new(source.path(), &["smoke", "--plan"]);
        let next = next.env("STELAE_CACHE_HOME", up.cache.as_str()).run();
        assert_eq!(next.code, 0, "{}", next.stderr);
        up.await_nobody();
        until("the end of the workspace", || !up.workspace.exists());
    }
}

#[test]
fn what_has_a_living_guardian_is_not_swept_whatever_the_locks_say() {
    for (number, isolation) in (60..).zip(ISOLATIONS) {
        let mut up = Up::new(isolation, "double-fork", number);
        let sleeping = || {
            let all = alive(&up.mark).into_iter();
            all.filter(|one| one.split(' ').nth(1) == Some("sleep")).collect::<Vec<_>>()
        };
        until("its daemons", || sleeping().len() == 3);
        let before = sleeping();
        // In another cache home lies the file of a dead guardian that had the same id.
        let other = stelae_tests::private_folder();
        let live = other.path().join("live");
        fs::create_dir(&live).unwrap();
        let file = live.join("0123456789abcdef.json");
        fs::write(&file, format!("{{\"run\":\"test-{}\"}}", up.mark)).unwrap();
        let source = Source::of_working_tree();
        let cache = other.path().to_str().unwrap();
        let next = Xtask::new(source.path(), &["smoke", "--plan"]).env("STELAE_CACHE_HOME", cache).run();
        assert_eq!(next.code, 0, "{}", next.stderr);
        assert!(!file.exists(), "it was not looked at");
        assert_eq!(sleeping(), before, "{}", next.stderr);
        assert!(!up.run.has_ended(), "{}", up.run.stderr());
        up.run.signal(Signal::TERM);
        assert_eq!(up.run.wait().code, 143);
    }
}

/// As the clone's own `restart` is one. Nobody of a run outside is to be seen from there, and that is not the same as
/// nobody being left.
#[test]
fn a_start_inside_of_a_namespace_sweeps_nothing() {
    let up = Up::new("pidns", "plain", 80);
    let file = up.cache.join("live/0123456789abcdef.json");
    fs::write(&file, format!("{{\"run\":\"outside-{}\"}}", up.mark)).unwrap();
    let source = Source::of_working_tree();
    let start = || {
        let next = Xtask::new(source.path(), &["--root", source.path().as_str(), "smoke", "--plan"]);
        next.env("STELAE_CACHE_HOME", up.cache.as_str())
    };
    let inner = up.run.inner().to_string();
    let mut into = vec!["nsenter", "--target", &inner, "--pid", "--mount"];
    if !rustix::process::geteuid().is_root() {
        into.extend(["--user", "--preserve-credentials"]);
    }
    let inside = start().start_under(&into).wait();
    assert_eq!(inside.code, 0, "{}", inside.stderr);
    assert!(file.exists(), "{}", inside.stderr);
    let outside = start().run();
    assert_eq!(outside.code, 0, "{}", outside.stderr);
    assert!(!file.exists(), "{}", outside.stderr);
    up.run.signal(Signal::TERM);
    assert_eq!(up.run.wait().code, 143);
}

#[test]
fn an_inner_half_that_was_stopped_is_continued() {
    for (number, isolation) in (30..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "plain", number);
        signal(up.run.inner(), Signal::STOP);
        until("its continuation", || up.run.stderr().contains("was stopped by a signal, and is continued"));
        up.run.signal(Signal::TERM);
        let ended = up.run.wait();
        assert_eq!(ended.verdict(), (143, "interrupted".to_owned()), "{}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new());
    }
}

/// Nobody is left to continue it, and no sweep could end it: it lives, and holds its lock.
#[test]
fn an_inner_half_that_is_stopped_notices_the_death_of_the_outer_one() {
    for (number, isolation) in (70..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "double-fork", number);
        signal(up.run.inner(), Signal::STOP);
        up.run.signal(Signal::KILL);
        up.await_nobody();
        // It has cleared up, as it does when it was not stopped.
        until("the end of the workspace", || !up.workspace.exists());
        assert_eq!(up.run.wait().code, 137);
    }
}

#[test]
fn nobody_inherits_the_life_line() {
    for (number, isolation) in (50..).zip(ISOLATIONS) {
        let up = Up::new(isolation, "main-exits", number);
        let inner = up.run.inner();
        let sockets = |pid: i32| {
            // One that has ended meanwhile has nothing open.
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
            links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect::<Vec<_>>()
        };
        // The service's own socket may still be open in there: it is no life line.
        let unix = fs::read_to_string("/proc/net/unix").unwrap();
        let is_unix = |socket: &PathBuf| {
            let inode = socket.to_string_lossy().trim_matches(|it: char| !it.is_ascii_digit()).to_owned();
            unix.lines().any(|row| row.split_ascii_whitespace().nth(6) == Some(inode.as_str()))
        };
        let line: Vec<_> = sockets(inner).into_iter().filter(is_unix).collect();
        assert!(!line.is_empty());
        let below: Vec<i32> = children(inner);
        assert!(!below.is_empty());
        for pid in below {
            assert!(sockets(pid).iter().all(|socket| !line.contains(socket)), "{pid} has the line");
        }
        up.run.signal(Signal::TERM);
        assert_eq!(up.run.wait().code, 143);
    }
}

#[test]
fn who_says_that_he_is_guarded_and_is_not_is_refused() {
    let source = Source::of_working_tree();
    let live = source.path().join("live.json");
    let args = ["--format", "json", "--guarded", "guard", "--live", live.as_str(), "smoke", "--plan"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (2, "not-guarded".to_owned()), "{}", ended.stderr);
}

#[test]
fn a_namespace_and_something_that_stays_contradict_each_other() {
    let source = Source::of_working_tree();
    let args = ["--format", "json", "--isolation", "pidns", "smoke", "--manual-stage", "install"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (2, "contradictory".to_owned()), "{}", ended.stderr);
    assert_eq!(runs(source.path()), Vec::<String>::new());
}

/// A reader of stdout that reads nothing holds the working half up, in a write that has no deadline. What ends it is the
/// other half, or, when that is dead, the thread that reads the line.
#[test]
fn a_reader_that_reads_nothing_holds_nobody_up() {
    for kill in [Signal::TERM, Signal::KILL] {
        let home = stelae_tests::Home::new();
        let held = stelae_tests::held_port();
        let port = format!("PROXY_PORT={}", held.address().port());
        for args in [&["env", "init"][..], &["bundle", "install", "core"], &["render-proxy"]] {
            let ended = home.run(&[&["--set", &port], args].concat());
            assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        }
        let script = home.path().join("chatty.toml");
        fs::write(&script, "steps = [{ listen = \"passed\" }, { chatter-every-ms = 1 }]\n").unwrap();
        let stack = home.path().join("stack.toml");
        let text = fs::read_to_string(root().join("config/stack.toml")).unwrap();
        let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
        let text = text
            .replace("\"<<STELAE_BIN_DIR>>/stelae-gateway\"", &format!("{fixture:?}"))
            .replace(
                "[\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]",
                &format!("[\"--script\", {script:?}]"),
            )
            .replace("grace_ms = 6000", "grace_ms = 100")
            .replace("ceiling_ms = 20_000", "ceiling_ms = 600_000")
            .replace("ceiling_ci_ms = 25_000", "ceiling_ci_ms = 600_000");
        fs::write(&stack, text).unwrap();
        let set = |name: &str, folder: &str| format!("{name}={}", home.path().join(folder));
        #[allow(clippy::disallowed_methods, reason = "a pipe that nobody reads is what is tested")]
        let mut outer = Command::new(programs().xtask.as_std_path())
            .args(["--format", "json", "--root", home.source.path().as_str()])
            .args(["--set", &set("STELAE_CONFIG_HOME", "config")])
            .args(["--set", &set("STELAE_STATE_HOME", "state"), "--set", &port])
            .args(["restart", "--attached", "--budget-s", "3600", "--stack", stack.as_str()])
            .env("STELAE_CACHE_HOME", stelae_tests::cache())
            // Under `ci` this test has its run's id. What is killed here must not be taken for the end of that run.
            .env_remove("STELAE_RUN_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(home.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let pid = i32::try_from(outer.id()).unwrap();
        let pipe = outer.stdout.take().unwrap();
        let said = || fs::read_to_string(home.path().join("stderr")).unwrap();
        // Full is what has not grown for a hundred looks.
        let (mut before, mut looks) = (0, 0);
        let mut full = || {
            let bytes = rustix::io::ioctl_fionread(&pipe).unwrap();
            looks = if bytes > 60_000 && bytes == before { looks + 1 } else { 0 };
            before = bytes;
            looks > 100
        };
        until("the pipe to be full", || {
            assert!(outer.try_wait().unwrap().is_none(), "it ended: {}", said());
            full()
        });
        signal(pid, kill);
        until("the end of everyone", || alive(script.as_str()).is_empty());
        let status = outer.wait().unwrap();
        if kill == Signal::TERM {
            assert_eq!(status.code(), Some(143), "{}", said());
            assert!(said().contains("did not end in time, and was killed"), "{}", said());
        }
    }
}
