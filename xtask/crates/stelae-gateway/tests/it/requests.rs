//! Requests that are wrong, and what they are answered with.

use reqwest::RequestBuilder;
use rmcp::ServiceExt as _;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::guard::answer_to_bytes;
use crate::support::{Gateway, PATIENCE, fixture, http};

fn post(gateway: &Gateway) -> RequestBuilder {
    http()
        .post(gateway.url("/mcp"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn what_cannot_be_understood_is_refused_and_the_next_client_notices_nothing() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let no_json = ["", "{", "no json", "\u{feff}{}", r#"{"id":1} {"id":2}"#];
    // None of these has an id that is a question's.
    let no_message = [
        "7",
        "null",
        "{}",
        "[]",
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":7}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"bad"}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":"bad"}}"#,
    ];
    let no_request = [
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"x"}"#,
    ];
    let kinds = [
        (&no_json[..], -32700, json!(null)),
        (&no_message, -32600, json!(null)),
        (&no_request, -32600, json!(1)),
    ];
    for (texts, code, id) in kinds {
        for malformed in texts {
            let answer = post(&gateway).body(*malformed).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert_eq!(status, 400, "{malformed:?}: {text}");
            let error: Value = serde_json::from_str(&text).expect("a JSON-RPC error");
            let said = (&error["jsonrpc"], &error["error"]["code"], &error["id"]);
            assert_eq!(said, (&json!("2.0"), &json!(code), &id), "{malformed:?}");
        }
    }
    let stranger = post(&gateway).header("mcp-session-id", "nobody-has-this").body(PING);
    assert_eq!(status(stranger).await, 404, "an unknown session");
    assert_eq!(status(post(&gateway).body(PING)).await, 400, "no session at all");
    assert_eq!(gateway.client().await.call("one", json!({})).await, "a:one");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let gateway = Gateway::start(json!({})).await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nConnection: close\r\n",
        gateway.address
    );
    let bad_chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\nno number\r\n");
    let answer = answer_to_bytes(&gateway, &bad_chunk).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("-32700"), "{answer}");
    // Who breaks off otherwise is gone, and reads no answer.
    let mut gone = TcpStream::connect(gateway.address).await.unwrap();
    let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n");
    gone.write_all(expecting.as_bytes()).await.unwrap();
    let mut going_on = [0; 12];
    timeout(PATIENCE, gone.read_exact(&mut going_on)).await.expect("an answer").unwrap();
    assert_eq!(&going_on, b"HTTP/1.1 100");
    drop(gone);
    gateway.said("[gateway] 1 more: refused requests").await;
    assert_eq!(gateway.log().matches("[gateway] refused /mcp: its body broke off: ").count(), 1);
}

#[tokio::test]
async fn a_media_type_has_no_case_and_has_to_be_json() {
    let gateway = Gateway::start(json!({})).await;
    let with = |media: &str| {
        let accept = "application/json, text/event-stream";
        let request = http().post(gateway.url("/mcp")).header("accept", accept).body(PING);
        if media.is_empty() { request } else { request.header("content-type", media) }
    };
    // 400 says that it was read: there is no session.
    for media in ["APPLICATION/JSON", "Application/Json; charset=utf-8", "application/json"] {
        assert_eq!(status(with(media)).await, 400, "{media:?}");
    }
    for media in ["", "text/plain", "application/jsonlines", "application/json-patch+json"] {
        assert_eq!(status(with(media)).await, 415, "{media:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413_whether_it_says_so_or_not() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let long = vec![b' '; 50 * 1024 * 1024];
    let answer = post(&gateway).body(long.clone()).send().await;
    // Nobody has to listen to the end of what is refused: the connection may break before the answer is read.
    assert!(answer.is_err() || answer.unwrap().status().as_u16() == 413);
    gateway.said("[gateway] refused /mcp: its body is longer than 16777216 bytes").await;
    let argument = "x".repeat(8 * 1024 * 1024);
    assert_eq!(gateway.client().await.call("one", json!({"padding": argument})).await, "a:one");
}

#[tokio::test]
async fn a_client_without_the_token_is_401_and_the_token_is_never_told() {
    let secret = "a-secret-of-clients";
    let servers = json!({"a": fixture("a", &["one", "env"])});
    let gateway = Gateway::start_with(servers, &[("STELAE_MCP_TOKEN", secret)]).await.ready().await;
    assert_eq!(status(post(&gateway).body(PING)).await, 401);
    for wrong in ["", "a-secret-of-client", "A-secret-of-clients"] {
        assert_eq!(status(post(&gateway).bearer_auth(wrong).body(PING)).await, 401, "{wrong:?}");
    }
    for right in [format!("bearer {secret}"), format!("BEARER {secret}")] {
        // 400 says that it was let in: there is no session.
        let request = post(&gateway).header("authorization", &right).body(PING);
        assert_eq!(status(request).await, 400, "the name of a scheme has no case");
        let twice = post(&gateway).header("authorization", &right).header("authorization", &right).body(PING);
        assert_eq!(status(twice).await, 401, "which of the two is meant, nobody knows");
    }
    for wrong in [secret.to_owned(), format!("Basic {secret}"), format!("Bearer{secret}"), "é".to_owned()] {
        assert_eq!(status(post(&gateway).header("authorization", wrong).body(PING)).await, 401);
    }
    assert_eq!(status(http().get(gateway.url("/mcp"))).await, 401);
    assert_eq!(status(http().delete(gateway.url("/mcp"))).await, 401);

    let config = StreamableHttpClientTransportConfig::with_uri(gateway.url("/mcp")).auth_header(secret);
    let client = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
    let env = client.call_tool(rmcp::model::CallToolRequestParams::new("env")).await.unwrap();
    assert!(!format!("{env:?}").contains(secret), "a server has no business with it");
    assert!(!gateway.log().contains(secret), "{}", gateway.log());
}
