//! Requests that are wrong, and what they are answered with.

use reqwest::RequestBuilder;
use rmcp::ServiceExt as _;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::json;

use crate::support::{Gateway, fixture, http};

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
    for malformed in ["", "{", "no json", "[]", "7", r#"{"jsonrpc":"2.0"}"#] {
        let status = status(post(&gateway).body(malformed)).await;
        assert!((400..500).contains(&status), "{malformed:?}: {status}");
    }
    let stranger = post(&gateway).header("mcp-session-id", "nobody-has-this").body(PING);
    assert_eq!(status(stranger).await, 404, "an unknown session");
    assert_eq!(status(post(&gateway).body(PING)).await, 400, "no session at all");
    assert_eq!(gateway.client().await.call("one", json!({})).await, "a:one");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413_whether_it_says_so_or_not() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let long = vec![b' '; 50 * 1024 * 1024];
    let answer = post(&gateway).body(long.clone()).send().await;
    // Nobody has to listen to the end of what is refused: the connection may break before the answer is read.
    assert!(answer.is_err() || answer.unwrap().status().as_u16() == 413);
    gateway.said("[gateway] refused /mcp: its body is longer than 16777216 bytes, or broke off").await;
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
    assert_eq!(status(http().get(gateway.url("/mcp"))).await, 401);
    assert_eq!(status(http().delete(gateway.url("/mcp"))).await, 401);

    let config = StreamableHttpClientTransportConfig::with_uri(gateway.url("/mcp")).auth_header(secret);
    let client = ().serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
    let env = client.call_tool(rmcp::model::CallToolRequestParams::new("env")).await.unwrap();
    assert!(!format!("{env:?}").contains(secret), "a server has no business with it");
    assert!(!gateway.log().contains(secret), "{}", gateway.log());
}
