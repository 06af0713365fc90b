//! Whoever is killed, nothing of the servers stays: not what ignores TERM, nor what has left its group or its parent.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_run::process::tree;

use crate::support::{
    FIXTURE, GATEWAY, Gateway, adopting, alive, eventually, fixture, gone, kill, output, with, write_config,
};

/// A number that stands in the command line of every process of one test, and in no other.
pub(crate) fn mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("4242{:07}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Everything that runs with this mark in its command line.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let has_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark) && alive(*pid)
    };
    let mut pids: Vec<i32> = tree::all_pids().into_iter().filter(has_it).collect();
    pids.sort_unstable();
    pids
}

fn shell(script: &str) -> Value {
    json!({"command": "sh", "args": ["-c", script]})
}

/// Servers that try to stay, in every way there is.
fn stubborn(mark: &str) -> Value {
    let sleep = format!("sleep 1000.{mark}");
    // Given up by nobody before all of them are there.
    let start = json!({"startTimeoutMs": 110_000});
    let shell = |script: &str| with(shell(script), start.clone());
    json!({
        "deaf": with(fixture(mark, &["--deaf"]), start.clone()),
        "ignores": with(shell(&format!("trap '' TERM; exec {sleep}")), json!({"required": false})),
        "forks": shell(&format!("setsid {sleep} & {sleep} & exec {FIXTURE} {mark}")),
        "orphans": shell(&format!("(setsid {sleep} &); exec {FIXTURE} {mark}")),
        "unnamed": shell(&format!("(env -i setsid {sleep} &); exec {FIXTURE} {mark}")),
    })
}

/// How many processes those are.
const STUBBORN: usize = 9;

pub(crate) const NOBODY: [i32; 0] = [];

pub(crate) async fn running(mark: &str, count: usize) -> Vec<i32> {
    eventually(&format!("{count} processes run"), async || {
        Some(marked(mark)).filter(|pids| pids.len() == count)
    })
    .await
}

pub(crate) async fn nobody(mark: &str) {
    eventually("nobody is left", async || marked(mark).is_empty().then_some(())).await;
}

async fn with_stubborn(mark: &str) -> Gateway {
    let gateway = Gateway::start(stubborn(mark)).await.ready().await;
    running(mark, STUBBORN).await;
    gateway
}

fn started(gateway: &Gateway) -> i32 {
    gateway.child.id().try_into().unwrap()
}

/// The process that serves.
pub(crate) fn serving(gateway: &Gateway) -> i32 {
    let watcher = started(gateway);
    let below = tree::descendants(watcher);
    let children: Vec<i32> = below.iter().filter(|row| row.parent == watcher).map(|row| row.pid).collect();
    assert_eq!(children.len(), 1, "{below:?}");
    children[0]
}

#[tokio::test]
async fn sigkill_of_the_process_that_was_started_leaves_nobody() {
    let mark = mark();
    let gateway = with_stubborn(&mark).await;
    let serving = serving(&gateway);
    gateway.signal(Signal::KILL);
    gone(serving).await;
    assert_eq!(marked(&mark), NOBODY, "they are gone before the gateway is");
    // Its first thread may be a zombie before the others have let go of the socket.
    eventually("nobody listens", async || tokio::net::TcpStream::connect(gateway.address).await.err()).await;
    assert!(gateway.log().contains("[gateway] SIGTERM: no more connections"), "{}", gateway.log());
}

#[tokio::test]
async fn sigkill_of_the_process_that_serves_leaves_nobody_and_is_told() {
    let mark = mark();
    let mut gateway = with_stubborn(&mark).await;
    kill(serving(&gateway));
    assert_eq!(gateway.exit().await.code(), Some(10), "{}", gateway.log());
    assert_eq!(marked(&mark), NOBODY);
    let log = gateway.log();
    assert!(log.contains("error: the gateway was killed by somebody else\n"), "{log}");
    assert!(
        log.contains("it ended with signal 9 (SIGKILL); everything that it had started is gone"),
        "{log}"
    );
}

#[tokio::test]
async fn sigterm_leaves_nobody() {
    let mark = mark();
    let mut gateway = with_stubborn(&mark).await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.log());
    assert_eq!(marked(&mark), NOBODY);
}

#[tokio::test]
async fn one_that_is_stopped_is_continued_to_end() {
    let mark = mark();
    let mut gateway = Gateway::start(json!({"a": fixture(&mark, &["--deaf"])})).await.ready().await;
    kill_process(Pid::from_raw(serving(&gateway)).unwrap(), Signal::STOP).unwrap();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.log());
    assert_eq!(marked(&mark), NOBODY);
}

#[tokio::test]
async fn what_a_killed_server_leaves_behind_goes_and_nobody_else() {
    for script in ["setsid SLEEP & SLEEP & exec SERVER", "(setsid SLEEP &); (SLEEP &); exec SERVER"] {
        let (mark, other) = (mark(), mark());
        let script = script.replace("SLEEP", &format!("sleep 1000.{mark}"));
        let script = script.replace("SERVER", &format!("{FIXTURE} {mark} pid"));
        let beside = format!("(setsid sleep 1000.{other} &); exec {FIXTURE} {other} one");
        let servers = json!({"a": shell(&script), "beside": shell(&beside)});
        let gateway = Gateway::start(servers).await.ready().await;
        let (first, others) = (running(&mark, 3).await, running(&other, 2).await);
        let client = gateway.client().await;
        kill(client.pid("pid").await);
        for pid in first {
            gone(pid).await;
        }
        running(&mark, 3).await;
        assert_eq!(marked(&other), others);
        drop((client, gateway));
        nobody(&mark).await;
        nobody(&other).await;
    }
}

#[tokio::test]
async fn what_a_removed_server_leaves_behind_goes_with_it() {
    let (mark, other) = (mark(), mark());
    let entry = |mark: &str| {
        let sleep = format!("setsid sleep 1000.{mark}");
        shell(&format!("({sleep} &); {sleep} & exec {FIXTURE} {mark} one"))
    };
    let gateway = Gateway::start(json!({"a": entry(&mark), "b": entry(&other)})).await.ready().await;
    running(&mark, 3).await;
    let others = running(&other, 3).await;
    gateway.configure(&json!({"b": entry(&other)}));
    assert_eq!(gateway.reload().await.0, 200);
    assert_eq!((marked(&mark), marked(&other)), (vec![], others));
}

#[tokio::test]
async fn orphans_that_end_do_not_stay_zombies() {
    let script = format!("for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &); done; exec {FIXTURE} a one");
    let gateway = Gateway::start(json!({"a": shell(&script)})).await.ready().await;
    let serving = serving(&gateway);
    let below = || -> Vec<i32> {
        let table = tree::table().unwrap().into_iter();
        table.filter(|row| row.parent == serving).map(|row| row.pid).collect()
    };
    let left = eventually("only the server is left", async || Some(below()).filter(|left| left.len() == 1));
    assert!(alive(left.await[0]));
}

/// The listening socket, as `/proc` names it, and a gateway that got it in this way.
async fn handed_over(adopt: impl FnOnce(TcpListener) -> Command) -> (PathBuf, Gateway) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    let gateway = Gateway::adopt_with(adopt, listener, json!({"a": fixture("a", &["one"])})).await;
    (socket, gateway.ready().await)
}

fn holds(pid: i32, socket: &Path) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == socket))
}

fn as_stdin(listener: TcpListener) -> Command {
    let mut command = Command::new(GATEWAY);
    command.env_clear().env("LISTEN_FDS_FIRST_FD", "0").stdin(OwnedFd::from(listener));
    command
}

/// As a service manager does that names the process which is meant.
fn meant_for_it(listener: TcpListener) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@" 3<&0 </dev/null"#, GATEWAY]);
    command.stdin(OwnedFd::from(listener)).env_clear();
    command
}

#[tokio::test]
async fn a_passed_socket_is_held_by_who_serves_and_by_nobody_else() {
    for adopt in [adopting, as_stdin, meant_for_it] {
        let (socket, gateway) = handed_over(adopt).await;
        let (watcher, serving) = (started(&gateway), serving(&gateway));
        assert_eq!((holds(watcher, &socket), holds(serving, &socket)), (false, true));
        assert_eq!(gateway.client().await.call("one", json!({})).await, "a:one");
    }
}

#[tokio::test]
async fn both_processes_have_the_same_environment() {
    for adopt in [adopting, as_stdin] {
        let (_, gateway) = handed_over(adopt).await;
        let environ = |pid| tree::environ(pid).unwrap().into_iter().collect::<BTreeMap<_, _>>();
        let (watcher, serving) = (environ(started(&gateway)), environ(serving(&gateway)));
        assert_eq!(watcher, serving);
        assert_eq!(watcher["LISTEN_FDS"], "1");
    }
}

#[tokio::test]
async fn nobody_is_watched_by_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "127.0.0.1:0", &json!({}));
    let mut command = tokio::process::Command::new(GATEWAY);
    // Init started nobody here.
    command.args(["serve", "--watched", "1", "--config"]).arg(folder.path().join("proxy.json"));
    let (code, _, stderr) = output(&mut command).await;
    assert!(code == Some(2) && stderr.contains("process 1 is not its parent"), "{code:?} {stderr}");
}
