//! Deaths of servers are counted and written down, whatever becomes of the server afterwards.

use std::fs;
use std::path::PathBuf;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_model::server_account::{Death, Happened, ServerEvent, ServersAnswer, read_events};
use tempfile::TempDir;

use crate::endpoint::{Endpoint, reply};
use crate::support::{FIXTURE, Gateway, fixture, http, kill, with};

/// A gateway that keeps its accounts in a folder of the test.
struct Bench {
    gateway: Gateway,
    folder: TempDir,
}

impl Bench {
    async fn start(servers: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Self::gateway(&folder, servers).await;
        Self { gateway, folder }
    }

    async fn gateway(folder: &TempDir, servers: Value) -> Gateway {
        let calls = folder.path().join("calls.jsonl");
        Gateway::start_arguing(servers, &["--calls", calls.to_str().unwrap()]).await.ready().await
    }

    async fn look(&self) -> ServersAnswer {
        let answer = http().get(self.gateway.url("/-/servers")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("calls.servers.jsonl")
    }

    fn events(&self) -> Vec<ServerEvent> {
        read_events("servers", &fs::read_to_string(self.path()).unwrap()).unwrap()
    }

    /// What the account has of this server's deaths, at this very moment.
    async fn deaths(&self, server: &str) -> Vec<Death> {
        let answer = self.look().await;
        let events = self.events();
        // It goes on while we read.
        assert!(answer.events.unwrap() <= events.len() as u64);
        let of_server = events.into_iter().filter(|event| event.server == server);
        let deaths: Vec<_> = of_server
            .filter_map(|event| match event.happened {
                Happened::Died(death) => Some(death),
                _ => None,
            })
            .collect();
        assert_eq!(answer.deaths.get(server).copied().unwrap_or_default() as usize, deaths.len());
        deaths
    }

    async fn ready_again(&self) {
        self.gateway.until("all are ready", |readiness| readiness.ready).await;
    }
}

#[tokio::test]
async fn every_crash_is_counted_also_when_the_server_is_removed_afterwards() {
    let other = fixture("b", &["one"]);
    let bench = Bench::start(json!({"a": fixture("a", &["exit", "pid"]), "b": other})).await;
    assert_eq!(bench.deaths("a").await, []);
    let client = bench.gateway.client().await;
    for crashes in 1..=2 {
        client.refused("exit").await;
        // No wait: what the account does not have yet is waited for by whoever asks.
        let deaths = bench.deaths("a").await;
        assert_eq!(deaths.len(), crashes);
        let last = deaths.last().unwrap();
        assert!(last.why.starts_with("exited (exit status: 3"), "{last:?}");
        assert!(last.ready_ms.is_some());
        assert_eq!(last.log, ["told to exit"]);
        bench.ready_again().await;
    }
    kill(client.pid("pid").await);
    assert!(bench.deaths("a").await[2].why.starts_with("exited (signal: 9 (SIGKILL)"));
    bench.gateway.configure(&json!({"b": fixture("b", &["one"])}));
    let (status, answer) = bench.gateway.reload().await;
    assert_eq!(status, 200);
    let readiness: stelae_model::proxy::Readiness = serde_json::from_str(&answer).unwrap();
    assert_eq!((readiness.deaths.get("a"), readiness.servers.contains_key("a")), (Some(&3), false));
    assert_eq!(bench.deaths("a").await.len(), 3);
    assert_eq!(bench.deaths("b").await, []);
}

#[tokio::test]
async fn what_is_asked_for_is_no_death() {
    let bench = Bench::start(json!({"a": fixture("a", &["one"]), "b": fixture("b", &["two"])})).await;
    bench.gateway.configure(&json!({"a": with(fixture("a", &["one"]), json!({"env": {"X": "1"}}))}));
    assert_eq!(bench.gateway.reload().await.0, 200);
    for server in ["a", "b"] {
        assert_eq!(bench.deaths(server).await, [], "{server}");
    }
    let configured = bench.events().iter().filter(|event| event.happened == Happened::Configured).count();
    assert_eq!(configured, 3);
    let Bench { mut gateway, folder } = bench;
    gateway.signal(Signal::TERM);
    gateway.exit().await;
    let text = fs::read_to_string(folder.path().join("calls.servers.jsonl")).unwrap();
    assert!(!text.contains("died"), "{text}");
}

#[tokio::test]
async fn a_crash_before_the_first_word_is_a_death_too() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("was-here");
    let flag = flag.to_str().unwrap();
    let script = format!("[ -e {flag} ] && exec {FIXTURE} a one; : > {flag}; echo no luck >&2; exit 4");
    let bench = Bench::start(json!({"a": {"command": "sh", "args": ["-c", script]}})).await;
    let [death] = &bench.deaths("a").await[..] else { panic!("{:?}", bench.events()) };
    assert!(death.why.contains("exit status: 4"), "{death:?}");
    assert_eq!((death.ready_ms, &death.log[..]), (None, &["no luck".to_owned()][..]));
}

#[tokio::test]
async fn a_server_that_cannot_be_started_has_not_died() {
    let none = json!({"command": "/no/such/program", "required": false});
    let away = json!({"url": "http://127.0.0.1:1/mcp", "required": false});
    let bench = Bench::start(json!({"a": fixture("a", &["one"]), "none": none, "away": away})).await;
    bench
        .gateway
        .until("both are known to be away", |all| {
            ["none", "away"].iter().all(|name| all.servers[*name].reason.is_some())
        })
        .await;
    for server in ["none", "away"] {
        assert_eq!(bench.deaths(server).await, [], "{server}");
        let is_told = |event: &ServerEvent| {
            event.server == server && !event.required && matches!(event.happened, Happened::Unavailable(_))
        };
        assert!(bench.events().iter().any(is_told), "{server}: {:?}", bench.events());
    }
}

#[tokio::test]
async fn an_http_server_that_lost_its_session_is_found_by_the_look_itself() {
    let (lose, lost) = tokio::sync::watch::channel(false);
    let endpoint = Endpoint::start(move |what, message| {
        let said = match what {
            "initialize" => {
                let result =
                    json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}});
                let answer = reply(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
                ([("mcp-session-id", "s")], answer).into_response()
            }
            "ping" if *lost.borrow() => StatusCode::NOT_FOUND.into_response(),
            _ => return None,
        };
        Some(std::future::ready(said).boxed())
    })
    .await;
    let bench = Bench::start(json!({"e": {"url": endpoint.url}})).await;
    assert_eq!(bench.deaths("e").await, []);
    lose.send(true).unwrap();
    let [death] = &bench.deaths("e").await[..] else { panic!("{:?}", bench.events()) };
    // By its answer, or by the end of its event stream, whichever comes first.
    assert!(death.why.contains("session"), "{death:?}");
}

#[tokio::test]
async fn a_server_that_gives_no_sign_of_life_is_told_of() {
    let bench = Bench::start(json!({"a": fixture("a", &["pid"])})).await;
    let pid = bench.gateway.client().await.pid("pid").await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    let answer = bench.look().await;
    let told = answer.silent.contains_key("a") || answer.deaths.contains_key("a");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::CONT).ok();
    assert!(told, "{answer:?}");
}

#[tokio::test]
async fn a_gateway_that_takes_over_goes_on_with_the_account() {
    let servers = || json!({"a": fixture("a", &["exit"])});
    let mut bench = Bench::start(servers()).await;
    bench.gateway.client().await.refused("exit").await;
    assert_eq!(bench.deaths("a").await.len(), 1);
    bench.gateway.signal(Signal::KILL);
    bench.gateway.exit().await;
    bench.gateway = Bench::gateway(&bench.folder, servers()).await;
    let answer = bench.look().await;
    assert_eq!(answer.deaths.get("a"), None, "it has seen none itself");
    let died = |event: &&ServerEvent| matches!(event.happened, Happened::Died(_));
    assert_eq!(
        (bench.events().iter().filter(died).count(), answer.events),
        (1, Some(bench.events().len() as u64))
    );
}
