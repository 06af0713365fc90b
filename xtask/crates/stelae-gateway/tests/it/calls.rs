//! `serve --calls`: the gateway's own account of the calls that it was given.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_model::calls::{CallOutcome, GatewayCall, read_calls};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{GATEWAY, Gateway, eventually, fixture, kill, output, with, write_config};
use crate::wire::Wire;

/// The file of an account, in a folder of its own: it outlives gateways.
struct Account {
    _folder: TempDir,
    path: PathBuf,
}

impl Account {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("calls.jsonl"), _folder: folder }
    }

    fn args(&self) -> [&str; 2] {
        ["--calls", self.path.to_str().unwrap()]
    }

    /// All of it, right now: nobody waits here. A writer that was killed may leave half a character.
    fn read(&self) -> Vec<GatewayCall> {
        let text = fs::read(&self.path).unwrap();
        read_calls("calls.jsonl", &String::from_utf8_lossy(&text)).unwrap()
    }

    fn last(&self) -> GatewayCall {
        self.read().pop().expect("a call")
    }

    async fn gateway(&self, servers: Value) -> Gateway {
        Gateway::start_arguing(servers, &self.args()).await.ready().await
    }

    /// Waits for a call that nobody has an answer of.
    async fn until(&self, calls: usize) -> GatewayCall {
        eventually("the call has its line", async || (self.read().len() == calls).then(|| self.last())).await
    }
}

/// Who asked, whom, for what, and how it ended.
fn told(call: &GatewayCall) -> (u64, &str, Option<&str>, &str, CallOutcome, Option<&str>) {
    let client = call.client.as_deref().expect("a client");
    (call.number, client, call.server.as_deref(), &call.tool, call.outcome, call.why.as_deref())
}

#[tokio::test]
async fn every_call_has_a_line_when_its_answer_is_there() {
    use CallOutcome::{Answered, Failed, ToolError};
    let account = Account::new();
    let servers = json!({"a": fixture("a", &["one", "fail"]), "b": fixture("b", &["one", "refuse"])});
    let gateway = account.gateway(servers).await;
    let (client, wire) = (gateway.client().await, Wire::open(&gateway).await);
    client.tools().await;
    assert_eq!(account.read(), [], "a list is no call");

    let arguments = json!({"text": "ä\n", "z": [1, 2.5, null], "a": {"deep": true}});
    assert_eq!(client.call("a__one", arguments.clone()).await, "a:one:ä\n");
    assert_eq!(told(&account.last()), (0, "tests 0", Some("a"), "a__one", Answered, None));
    assert_eq!(account.last().arguments, arguments);

    wire.result("tools/call", json!({"name": "fail"})).await;
    assert_eq!(told(&account.last()), (1, "wire 0", Some("a"), "fail", ToolError, Some("told to fail")));
    assert_eq!(account.last().arguments, Value::Null);

    let errors = [
        ("refuse", Some("b"), "told to refuse"),
        ("two", None, "unknown tool \"two\""),
        ("one", None, "several servers have a tool \"one\": use a__one or b__one"),
    ];
    for ((tool, server, why), number) in errors.into_iter().zip(2..) {
        assert_eq!(client.refused(tool).await, why);
        assert_eq!(told(&account.last()), (number, "tests 0", server, tool, Failed, Some(why)));
    }
    wire.error("tools/call", json!({})).await;
    assert_eq!(told(&account.last()), (5, "wire 0", None, "", Failed, Some("params have no \"name\"")));
}

/// Several at once, with lines that are long to write: whoever does not wait for his line does not find it.
#[tokio::test]
async fn whoever_has_an_answer_finds_its_line() {
    let account = Arc::new(Account::new());
    let gateway = account.gateway(json!({"a": fixture("a", &["one"])})).await;
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (wire, account) = (Wire::open(&gateway).await, Arc::clone(&account));
        clients.spawn(async move {
            for call in 0..5 {
                let text = format!("{client} calls {call}");
                let arguments = json!({"padding": "x".repeat(60_000), "text": text});
                assert_eq!(wire.text("one", arguments).await, format!("a:one:{text}"));
                assert!(fs::read_to_string(&account.path).unwrap().contains(&text), "{text}");
            }
        });
    }
    clients.join_all().await;
    assert_eq!(account.read().len(), 40);
}

#[tokio::test]
async fn a_call_that_is_given_up_has_a_line_too() {
    let account = Account::new();
    let late = with(fixture("b", &["hang"]), json!({"callTimeoutMs": 100}));
    let gateway = account.gateway(json!({"a": fixture("a", &["hang", "pid"]), "b": late})).await;
    let (client, wire) = (gateway.client().await, Wire::open(&gateway).await);
    let why = client.refused("b__hang").await;
    assert!(why.contains("gave no answer within 100 ms"), "{why}");
    let last = account.last();
    assert_eq!(told(&last), (0, "tests 0", Some("b"), "b__hang", CallOutcome::Failed, Some(why.as_str())));
    assert!(last.elapsed_ms >= 100, "{last:?}");

    let _cancelled = wire.request(9, "tools/call", json!({"name": "a__hang"})).await;
    gateway.said("[a] hanging").await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    wire.send(&cancel).await;
    let why = "server \"a\" of tool \"a__hang\" was called, and the call was cancelled";
    assert_eq!(
        told(&account.until(2).await),
        (1, "wire 0", Some("a"), "a__hang", CallOutcome::Failed, Some(why))
    );

    let pid = client.pid("pid").await;
    let broken = wire.request(10, "tools/call", json!({"name": "a__hang"})).await;
    eventually("it hangs again", async || (gateway.log().matches("[a] hanging").count() == 2).then_some(()))
        .await;
    kill(pid);
    let answer = broken.until_the_end().await.1;
    let last = account.last();
    assert_eq!(last.why.as_deref(), answer["error"]["message"].as_str());
    assert!(last.why.as_deref().is_some_and(|why| why.contains("went away before it answered")), "{last:?}");
    assert_eq!(account.read().len(), 4);
}

#[tokio::test]
async fn calls_that_end_with_the_gateway_have_their_lines() {
    let account = Account::new();
    let mut gateway = account.gateway(json!({"a": fixture("a", &["hang"])})).await;
    let wire = Wire::open(&gateway).await;
    let mut hanging = Vec::new();
    for id in 0..20 {
        let params = json!({"name": "hang", "arguments": {"padding": "x".repeat(60_000)}});
        hanging.push(wire.request(id, "tools/call", params).await);
    }
    let all = async || (gateway.log().matches("[a] hanging").count() == 20).then_some(());
    eventually("all of them hang", all).await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0));
    let calls = account.read();
    assert_eq!(calls.len(), 20, "{}", gateway.log());
    assert!(calls.iter().all(|call| call.outcome == CallOutcome::Failed && call.why.is_some()), "{calls:?}");
    drop(hanging);
}

#[tokio::test]
async fn a_gateway_that_comes_after_a_killed_one_goes_on() {
    let account = Account::new();
    for round in 0..3_u64 {
        let mut gateway = account.gateway(json!({"a": fixture("a", &["one"])})).await;
        let client = gateway.client().await;
        client.call("one", json!({"text": "x"})).await;
        gateway.signal(Signal::KILL);
        gateway.exit().await;
        assert_eq!(account.read().len() as u64, round + 1);
        // What a write leaves that is cut short.
        let torn = b"{\"number\":1,\"client\":\"\xc3";
        OpenOptions::new().append(true).open(&account.path).unwrap().write_all(torn).unwrap();
        assert_eq!(account.read().len() as u64, round + 1);
    }
    let gateway = account.gateway(json!({})).await;
    assert_eq!(account.read().iter().map(|call| call.number).collect::<Vec<_>>(), [0, 1, 2]);
    drop(gateway);
}

/// A command like [`adopting`], of which no file becomes longer than 16 blocks: a long line is not written to its end.
fn adopting_with_small_files(listener: TcpListener) -> Command {
    let mut command = Command::new("sh");
    let script = r#"trap '' XFSZ; ulimit -f 16; exec "$0" "$@" 3<&0 </dev/null"#;
    command.args(["-c", script, GATEWAY]).stdin(OwnedFd::from(listener)).env_clear();
    command
}

#[tokio::test]
async fn a_call_whose_line_cannot_be_written_has_its_answer_and_that_is_said_once_in_a_row() {
    let account = Account::new();
    let (folder, listener) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let servers = json!({"a": fixture("a", &["one"])});
    let gateway =
        Gateway::adopt_by(adopting_with_small_files, folder, listener, servers, &[], &account.args()).await;
    let gateway = gateway.ready().await;
    let client = gateway.client().await;
    let said = |text: &str| gateway.log().matches(text).count();
    for round in 1..3 {
        for _ in 0..3 {
            assert_eq!(client.call("one", json!({"padding": "x".repeat(60_000)})).await, "a:one");
        }
        assert_eq!(client.call("one", json!({"round": round})).await, "a:one");
        // Three calls that have no line have their numbers, and whoever reads the account misses them.
        let text = fs::read_to_string(&account.path).unwrap();
        let last: GatewayCall = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((text.lines().count(), last.number), (round, round as u64 * 4 - 1));
        assert_eq!(last.arguments["round"], round);
        let failure = read_calls("calls.jsonl", &text).unwrap_err();
        assert_eq!(failure.why, ["the line of call 0 is missing: this one is that of call 3"]);
        let over = async || (said("[gateway] calls have their lines in ") == round).then_some(());
        eventually("it says that it can write again", over).await;
        assert_eq!(said("[gateway] calls have no line in "), round, "{}", gateway.log());
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "127.0.0.1:1", &json!({}));
    fs::write(folder.path().join("notes"), "not ours").unwrap();
    for (path, why) in [
        ("no/calls.jsonl", "No such file or directory"),
        ("", "it is not a regular file"),
        ("notes", "there is something else in it"),
    ] {
        let mut command = tokio::process::Command::new(GATEWAY);
        command.args(["serve", "--config"]).arg(folder.path().join("proxy.json"));
        let (code, _, stderr) = output(command.arg("--calls").arg(folder.path().join(path))).await;
        assert_eq!(code, Some(40), "{stderr}");
        assert!(
            stderr.contains("the file for the calls cannot be written") && stderr.contains(why),
            "{stderr}"
        );
    }
    assert_eq!(fs::read_to_string(folder.path().join("notes")).unwrap(), "not ours");
}
