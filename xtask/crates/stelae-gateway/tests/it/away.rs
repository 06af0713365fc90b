//! What is asked of a server that is away.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use stelae_model::proxy::ServerState;

use crate::support::{FIXTURE, Gateway, fixture, kill};
use crate::wire::Wire;

/// A gateway whose server `a` has these arguments, and is away for good soon after `leave`.
struct Leaving {
    gateway: Gateway,
    program: tempfile::TempDir,
}

impl Leaving {
    async fn start(of_a: &[&str], others: Value) -> Self {
        let program = tempfile::tempdir().unwrap();
        let path = program.path().join("program");
        symlink(FIXTURE, &path).unwrap();
        let args: Vec<&str> = ["a", "pid"].iter().chain(of_a).copied().collect();
        let mut servers = others;
        servers["a"] = json!({"command": path, "args": args});
        Self { gateway: Gateway::start(servers).await.ready().await, program }
    }

    async fn leave(&self) {
        let pid = self.gateway.client().await.pid("pid").await;
        fs::remove_file(self.program.path().join("program")).unwrap();
        kill(pid);
        let failed = |all: &stelae_model::proxy::Readiness| all.servers["a"].state == ServerState::Failed;
        self.gateway.until("a cannot be started again", failed).await;
    }
}

async fn read(wire: &Wire, uri: &str) -> String {
    let result = wire.result("resources/read", json!({"uri": uri})).await;
    result["contents"][0]["text"].as_str().unwrap().to_owned()
}

async fn refused(wire: &Wire, method: &str, uri: &str) -> String {
    let error = wire.error(method, json!({"uri": uri})).await;
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn its_resources_are_not_asked_of_another_server() {
    let b = fixture("b", &["--resource=b://1", "--resource=both://1", "--template=any://{x}"]);
    let of_a = ["--resource=a://1", "--resource=both://1", "--template=any://of-a/{x}"];
    let stack = Leaving::start(&of_a, json!({"b": b})).await;
    let wire = Wire::open(&stack.gateway).await;
    for (uri, text) in [("a://1", "a:a://1"), ("any://of-a/7", "a:any://of-a/7"), ("both://1", "a:both://1")]
    {
        assert_eq!(read(&wire, uri).await, text);
    }
    stack.leave().await;
    let away = |uri: &str| format!("server \"a\" of resource {uri:?} is away: ");
    for uri in ["a://1", "any://of-a/7"] {
        for method in ["resources/read", "resources/subscribe"] {
            let why = refused(&wire, method, uri).await;
            assert!(why.starts_with(&away(uri)), "{method} {uri}: {why}");
        }
    }
    assert_eq!(refused(&wire, "resources/read", "c://1").await, "no server has a resource \"c://1\"");
    assert_eq!(read(&wire, "both://1").await, "b:both://1", "it means the same whoever says it");
    assert_eq!(read(&wire, "any://7").await, "b:any://7");
    let listed = wire.list("resources/list", "resources", "uri").await;
    assert_eq!(listed, ["b://1", "both://1"], "what is away is not listed");
}

#[tokio::test]
async fn what_nobody_lists_is_for_the_one_server_with_resources_also_when_that_is_away() {
    let stack = Leaving::start(&["--resource=a://1"], json!({"b": fixture("b", &["one"])})).await;
    let wire = Wire::open(&stack.gateway).await;
    assert_eq!(read(&wire, "a://unlisted").await, "a:a://unlisted");
    stack.leave().await;
    let why = refused(&wire, "resources/read", "a://unlisted").await;
    assert!(why.starts_with("server \"a\" of resource \"a://unlisted\" is away: "), "{why}");
}
