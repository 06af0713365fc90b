//! `mcp-everything` by itself, and a client of the SDK, over both of its transports.

#![expect(deprecated, reason = "what a newer protocol is going to drop is relayed all the same")]

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, GetPromptRequestParams, Implementation,
    ReadResourceRequestParams, SamplingMessage,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::everything_alone::SUITE_TOOLS;
use crate::raw::{line, server};
use crate::support::{EVERYTHING, PATIENCE, http};

/// A client of the SDK, which answers what it is asked.
struct Answering;

impl ClientHandler for Answering {
    fn get_info(&self) -> ClientConfig {
        let can = ClientCapabilities::builder().enable_sampling().enable_elicitation().build();
        ClientConfig::new(can, Implementation::new("tests", "0"))
    }

    async fn create_message(
        &self,
        _asked: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("sampled"), "a model".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _asked: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"username": "u", "email": "e"})))
    }
}

/// Everything that a typed client can ask for.
async fn use_it(client: &RunningService<RoleClient, Answering>) {
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 23);
    let say = async |name: &'static str, arguments: Value| {
        let params =
            CallToolRequestParams::new(name).with_arguments(serde_json::from_value(arguments).unwrap());
        let result = timeout(PATIENCE, client.call_tool(params)).await.expect("an answer").unwrap();
        assert_ne!(result.is_error, Some(true), "{name}: {result:?}");
        result.content[0].as_text().unwrap().text.clone()
    };
    assert_eq!(say("test_simple_text", json!({})).await, "This is a simple text response for testing.");
    assert_eq!(say("test_sampling", json!({"prompt": "?"})).await, "LLM response: sampled");
    let answer = r#"<action: accept, content: {"username":"u","email":"e"}>"#;
    assert_eq!(say("test_elicitation", json!({"message": "?"})).await, format!("User response: {answer}"));
    for tool in &SUITE_TOOLS[10..] {
        assert!(say(tool, json!({})).await.starts_with("Elicitation completed: action=accept"), "{tool}");
    }
    let prompts: Vec<_> = client.list_all_prompts().await.unwrap().into_iter().map(|it| it.name).collect();
    let expected =
        ["simple_prompt", "prompt_with_arguments", "prompt_with_embedded_resource", "prompt_with_image"];
    assert_eq!(prompts, expected.map(|name| format!("test_{name}")));
    for (prompt, messages) in prompts.iter().zip([1, 1, 2, 2]) {
        let arguments = json!({"arg1": "a", "arg2": "b", "resourceUri": "test://example"});
        let params = GetPromptRequestParams::new(prompt.clone())
            .with_arguments(serde_json::from_value(arguments).unwrap());
        assert_eq!(client.get_prompt(params).await.unwrap().messages.len(), messages, "{prompt}");
    }
    let resources = client.list_all_resources().await.unwrap();
    let mut uris: Vec<_> = resources.into_iter().map(|resource| resource.uri.clone()).collect();
    assert_eq!(uris, ["test://static-text", "test://static-binary", "test://watched-resource"]);
    let templates = client.list_all_resource_templates().await.unwrap();
    assert_eq!(templates[0].uri_template, "test://template/{id}/data");
    uris.push("test://template/123/data".to_owned());
    for uri in uris {
        let read = client.read_resource(ReadResourceRequestParams::new(uri.clone())).await.unwrap();
        assert_eq!(read.contents.len(), 1, "{uri}");
    }
    let completed = client.complete_prompt_simple("test_prompt_with_arguments", "arg1", "par").await.unwrap();
    assert_eq!(completed, ["paris", "park", "party"]);
    let completed = client.complete_resource_simple("test://template/{id}/data", "id", "12").await.unwrap();
    assert_eq!(completed, ["123", "124"]);
}

#[tokio::test]
async fn a_typed_client_gets_everything_over_stdio() {
    let client = Answering.serve(TokioChildProcess::new(Command::new(EVERYTHING)).unwrap()).await.unwrap();
    use_it(&client).await;
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_typed_client_gets_everything_over_http() {
    let mut child = server(&["--http", "127.0.0.1:0"]).spawn().unwrap();
    let address = line(&mut BufReader::new(child.stdout.take().unwrap()).lines()).await;
    let url = format!("http://{address}/mcp");
    let config = StreamableHttpClientTransportConfig::with_uri(url.clone());
    let client = Answering.serve(StreamableHttpClientTransport::with_client(http(), config)).await.unwrap();
    use_it(&client).await;
    // Who is no client, or comes from elsewhere, gets nothing.
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    for (header, value, status) in [
        ("x-nothing", "", 400),
        ("mcp-session-id", "of-another", 404),
        ("host", "evil.test", 403),
        ("origin", "http://evil.test", 403),
    ] {
        let answer = http().post(&url).header(header, value).body(ping.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{header}");
    }
    client.cancel().await.unwrap();
    drop(child.stdin.take());
    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0));
}
