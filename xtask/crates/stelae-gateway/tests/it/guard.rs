//! Who is let in.

use rmcp::model::ProtocolVersion;
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, serve_client_with_lifecycle};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Gateway, PATIENCE, TOKEN, fixture, http};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#;

async fn initialize(gateway: &Gateway, header: (&str, &str)) -> u16 {
    let request = http()
        .post(gateway.url("/mcp"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header(header.0, header.1)
        .body(INITIALIZE);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_wrong_host_or_origin_is_403_on_every_route() {
    let gateway = Gateway::start(json!({})).await;
    let port = gateway.address.port();
    assert_eq!(initialize(&gateway, ("x-nothing", "")).await, 200);
    assert_eq!(initialize(&gateway, ("origin", &format!("http://localhost:{port}"))).await, 200);
    for header in [("host", "evil.test"), ("origin", "http://evil.test"), ("origin", "null")] {
        assert_eq!(initialize(&gateway, header).await, 403, "{header:?}");
        for path in ["/healthz", "/readyz", "/mcp", "/nowhere"] {
            let answer = http().get(gateway.url(path)).header(header.0, header.1).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 403, "{path} {header:?}");
        }
    }
}

/// What is answered to these very bytes, which no client library would send. They have to end the connection.
pub(crate) async fn answer_to_bytes(gateway: &Gateway, bytes: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, exchange).await.expect("an answer")
}

#[tokio::test]
async fn a_target_that_names_another_host_is_403_whatever_the_header_says() {
    let gateway = Gateway::start(json!({})).await;
    let (us, port) = (gateway.address, gateway.address.port());
    let get = async |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = answer_to_bytes(&gateway, &request).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let ours = us.to_string();
    for target in
        ["/readyz".to_owned(), format!("http://{us}/readyz"), format!("http://LOCALHOST:{port}/readyz")]
    {
        assert_eq!(get(&target, &ours).await, "200", "{target}");
    }
    for target in ["http://evil.test/readyz".to_owned(), format!("http://evil.test@{us}/readyz")] {
        assert_eq!(get(&target, &ours).await, "403", "{target}");
    }
    for host in [format!("a@{us}"), format!("a:b@{us}"), format!("@{us}"), format!("{us}, evil.test")] {
        assert_eq!(get("/readyz", &host).await, "403", "{host}");
    }
}

#[tokio::test]
async fn reload_wants_the_token() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let url = gateway.url("/-/reload");
    assert_eq!(http().post(&url).send().await.unwrap().status().as_u16(), 401);
    for wrong in ["", "a token for test", "a token for testsx", "A token for tests"] {
        assert_eq!(
            http().post(&url).bearer_auth(wrong).send().await.unwrap().status().as_u16(),
            401,
            "{wrong:?}"
        );
    }
    assert_eq!(http().post(&url).bearer_auth(TOKEN).send().await.unwrap().status().as_u16(), 200);
    assert!(!gateway.log().contains(TOKEN));
}

#[tokio::test]
async fn without_a_token_there_is_no_reload() {
    let gateway = Gateway::start_with(json!({}), &[("STELAE_CONTROL_TOKEN", "")]).await;
    assert_eq!(
        http().post(gateway.url("/-/reload")).bearer_auth("").send().await.unwrap().status().as_u16(),
        404
    );
}

#[tokio::test]
async fn a_newer_protocol_is_answered_with_the_newest_we_speak() {
    let gateway = Gateway::start(json!({})).await;
    let body = INITIALIZE.replace("2025-11-25", "2026-07-28");
    let answer = http()
        .post(gateway.url("/mcp"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(body);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let mut answer = answer;
    let mut text = String::new();
    while !text.contains("protocolVersion") {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().expect("an answer")));
    }
    assert!(text.contains(r#""protocolVersion":"2025-11-25""#), "{text}");
}

#[tokio::test]
async fn a_client_that_would_rather_speak_a_newer_protocol_is_brought_down_to_ours() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let transport = StreamableHttpClientTransport::with_client(
        http(),
        StreamableHttpClientTransportConfig::with_uri(gateway.url("/mcp")),
    );
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    let refused = serve_client_with_lifecycle((), transport, lifecycle).await.unwrap_err();
    let ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(server_supported.last(), Some(&ProtocolVersion::V_2025_11_25));
}
