//! The model that plays a script, as agent CLIs see it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use camino::Utf8Path;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use stelae_model::misbehaviour::Wrong;
use stelae_model::model_record::{Answered, ModelRequest, read_model_requests};
use tempfile::TempDir;

use crate::support::{GATEWAY, adopting, eventually, output};

/// A running model; it is killed with the test.
struct Model {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Model {
    async fn start(script: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("script.json"), script.to_string()).unwrap();
        let mut command = adopting(listener);
        command.arg("model").arg("--listen").arg(address.to_string()).env("LISTEN_FDS", "1");
        command.arg("--script").arg(folder.path().join("script.json"));
        command.arg("--record").arg(folder.path().join("record.jsonl"));
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let model = Self { child, address, folder };
        eventually("the model answers", async || client().get(model.url("/__stub/state")).send().await.ok())
            .await;
        model
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        client().post(self.url(path)).json(body).send().await.unwrap()
    }

    /// What the model did, and what was wrong with what it was asked.
    async fn state(&self) -> Value {
        let text = client().get(self.url("/__stub/state")).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn record(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("record.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same, as whoever judges an agent reads it.
    fn requests(&self) -> Vec<ModelRequest> {
        let path = self.folder.path().join("record.jsonl");
        let path = Utf8Path::from_path(&path).unwrap();
        read_model_requests(path, &fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Sends the beginning of a request as it stands here, and gives the first line of the answer.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn script(more: &Value) -> Value {
    let calls = json!([{"tool": "get-sum", "arguments": {"a": 1}}, {"tool": "echo"}]);
    let mut script = json!({"server": "our-stack", "calls": calls, "message": "all done"});
    script.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    script
}

/// As Codex asks, with so many calls answered.
fn codex(turn: usize) -> Value {
    let answer = |number| json!({"type": "function_call_output", "call_id": format!("c{number}"), "output": format!("sum {number}")});
    let answers = (0..turn).map(answer);
    let tools = json!([{"type": "namespace", "name": "mcp__our_stack", "tools": [{"name": "get_sum"}, {"name": "echo"}]}]);
    json!({"model": "scripted", "stream": true, "input": answers.collect::<Vec<_>>(), "tools": tools})
}

/// As Claude Code does.
fn claude(turn: usize) -> Value {
    let answer = |number| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("toolu_{number}"), "content": "sum"}]});
    let tools = json!([{"name": "mcp__our-stack__get-sum"}, {"name": "mcp__our-stack__echo"}]);
    json!({"model": "m", "stream": true, "messages": (0..turn).map(answer).collect::<Vec<_>>(), "tools": tools})
}

/// The data of the events of an answer.
async fn events(response: Response) -> Vec<Value> {
    assert_eq!(response.status(), StatusCode::OK);
    let text = response.text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn codex_is_told_one_call_a_turn_and_then_a_last_word() {
    let model = Model::start(&script(&json!({}))).await;
    let mut told = Vec::new();
    for turn in 0..3 {
        let events = events(model.post("/v1/responses", &codex(turn)).await).await;
        assert_eq!(events[1], json!({"type": "response.completed", "response": {"id": format!("r{turn}")}}));
        told.push(events[0]["item"].clone());
    }
    assert_eq!((&told[0]["namespace"], &told[0]["name"]), (&json!("mcp__our_stack"), &json!("get_sum")));
    assert_eq!((&told[0]["arguments"], &told[1]["name"]), (&json!(r#"{"a":1}"#), &json!("echo")));
    assert_eq!(told[2]["content"][0]["text"], "all done");
    // The same question has the same answer: nothing is remembered.
    let again = events(model.post("/v1/responses", &codex(0)).await).await;
    assert_eq!(again[0]["item"], told[0]);
    let state = model.state().await;
    assert_eq!(state, json!({"requests": 4, "called": ["get-sum", "echo", "get-sum"], "faults": []}));
    let turns: Vec<_> = model.record().iter().map(|entry| entry["turn"].clone()).collect();
    assert_eq!(turns, [0, 1, 2, 0]);
    let record = model.requests();
    assert_eq!(
        (&record[0].called, &record[0].arguments),
        (&Some("get-sum".to_owned()), &Some(json!({"a": 1})))
    );
    assert_eq!((&record[2].called, &record[2].arguments), (&None, &None));
    assert_eq!((&record[0].answered, &record[2].answered), (&None, &Some(Answered::new(1, "sum 1", None))));
}

#[tokio::test]
async fn claude_is_told_the_same_in_its_own_words() {
    let model = Model::start(&script(&json!({}))).await;
    let first = events(model.post("/v1/messages?beta=true", &claude(0)).await).await;
    assert_eq!(first[1]["content_block"]["name"], "mcp__our-stack__get-sum");
    assert_eq!(first[2]["delta"]["partial_json"], r#"{"a":1}"#);
    assert_eq!(first[4]["delta"]["stop_reason"], "tool_use");
    let last = events(model.post("/v1/messages?beta=true", &claude(2)).await).await;
    assert_eq!((&last[2]["delta"]["text"], &last[5]["type"]), (&json!("all done"), &json!("message_stop")));
    assert_eq!(model.state().await["faults"], json!([]));
    assert_eq!(model.requests()[1].answered, Some(Answered::new(1, "sum", Some(false))));
}

#[tokio::test]
async fn a_model_that_is_dead_is_nobodys_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("script.json"), script(&json!({"misbehave": {"how": "dead"}})).to_string())
        .unwrap();
    let mut command = tokio::process::Command::new(GATEWAY);
    command.args(["model", "--listen", "127.0.0.1:0", "--script"]).arg(folder.path().join("script.json"));
    command.arg("--record").arg(folder.path().join("record.jsonl"));
    let (code, _, stderr) = output(&mut command).await;
    assert!(code == Some(2) && stderr.contains("a model that is dead cannot be served"), "{code:?} {stderr}");
}

#[tokio::test]
async fn it_goes_wrong_as_it_is_told_to_and_when() {
    for status in [401, 429, 500] {
        let model =
            Model::start(&script(&json!({"misbehave": {"turn": 1, "how": {"status": status}}}))).await;
        events(model.post("/v1/responses", &codex(0)).await).await;
        assert_eq!(model.post("/v1/responses", &codex(1)).await.status(), status);
        assert_eq!(model.post("/v1/messages", &claude(1)).await.status(), status);
        let wrong: Vec<_> = model.requests().iter().map(|request| (request.wrong, request.status)).collect();
        let told = (Some(Wrong::Status(status)), status);
        assert_eq!(wrong, [(None, 200), told, told]);
    }
    let model = Model::start(&script(&json!({"misbehave": {"how": "not-completed"}}))).await;
    let told = events(model.post("/v1/responses", &codex(0)).await).await;
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("response.output_item.done")));

    let model = Model::start(&script(&json!({"misbehave": {"how": "cut-stream"}}))).await;
    let mut cut = model.post("/v1/responses", &codex(0)).await;
    assert!(cut.chunk().await.unwrap().is_some());
    assert!(cut.chunk().await.is_err(), "it ends as if it were whole");

    let model = Model::start(&script(&json!({"misbehave": {"how": "unknown-tool"}}))).await;
    let told = events(model.post("/v1/responses", &codex(0)).await).await;
    assert_eq!(told[0]["item"]["name"], "no_such_tool");

    let model = Model::start(&script(&json!({"misbehave": {"turn": 1, "how": "ends-early"}}))).await;
    let told = events(model.post("/v1/responses", &codex(0)).await).await;
    assert_eq!(told[0]["item"]["type"], "function_call");
    let told = events(model.post("/v1/responses", &codex(1)).await).await;
    assert_eq!(told[0]["item"]["content"][0]["text"], "all done");

    let model = Model::start(&script(&json!({"misbehave": {"how": {"slow-first-byte-ms": 50}}}))).await;
    assert_eq!(events(model.post("/v1/responses", &codex(2)).await).await.len(), 2);
}

#[tokio::test]
async fn what_nobody_should_ask_is_a_fault() {
    let model = Model::start(&script(&json!({}))).await;
    assert_eq!(model.post("/v1/chat/completions", &json!({})).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        client().get(model.url("/v1/responses")).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(model.post("/v1/responses", &json!({"input": []})).await.status(), StatusCode::BAD_REQUEST);
    // As it is asked when a variable names it as a proxy.
    let forbidden = "HTTP/1.1 403 Forbidden";
    assert_eq!(
        model.raw("CONNECT telemetry.invalid:443 HTTP/1.1\r\nHost: telemetry.invalid\r\n\r\n"),
        forbidden
    );
    let get = "GET http://updates.invalid/x HTTP/1.1\r\nHost: updates.invalid\r\nConnection: close\r\n\r\n";
    assert_eq!(model.raw(get), forbidden);
    let mut without = codex(0);
    without["tools"] = json!([]);
    events(model.post("/v1/responses", &without).await).await;
    let faults = model.state().await["faults"].clone();
    let faults: Vec<_> = faults.as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect();
    assert_eq!(
        faults,
        [
            "nothing answers POST /v1/chat/completions",
            "nothing answers GET /v1/responses",
            "it asks for an answer that is no stream",
            "the agent wanted to reach telemetry.invalid:443",
            "the agent wanted to reach updates.invalid:80",
            "the agent does not offer the tool get-sum (as mcp__our_stack__get_sum); it offers none of its server",
        ]
    );
    assert_eq!(model.record().len(), 6);
}
