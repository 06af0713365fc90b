//! What each method answers.

use serde_json::{Value, json};

use crate::session::{Call, Refusal};
use crate::tools::LEVELS;
use crate::{catalog, prompts, resources, tools};

/// The versions that it speaks. It answers what it is asked for, and the last one to whoever asks for another.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The result of a request.
pub(crate) async fn answer(call: &Call, method: &str) -> Result<Value, Refusal> {
    match method {
        "initialize" => Ok(initialize(call)),
        "ping" => Ok(json!({})),
        "logging/setLevel" => set_level(call),
        "completion/complete" => complete(&call.params),
        "tools/list" => Ok(json!({"tools": catalog::tools(call.server())})),
        "tools/call" => tools::call(call).await,
        "prompts/list" => Ok(json!({"prompts": catalog::prompts(call.server())})),
        "prompts/get" => prompts::get(call),
        "resources/list" => Ok(json!({"resources": catalog::resources(call.server())})),
        "resources/templates/list" => Ok(json!({"resourceTemplates": catalog::templates()})),
        "resources/read" => resources::read(call),
        "resources/subscribe" => resources::subscribe(call),
        "resources/unsubscribe" => resources::unsubscribe(call),
        _ => Err(Refusal { code: -32601, message: format!("there is no method {method:?}") }),
    }
}

fn initialize(call: &Call) -> Value {
    call.session.about.lock().expect("about").capabilities = call.params["capabilities"].clone();
    let asked = call.params["protocolVersion"].as_str();
    let version = asked.filter(|asked| VERSIONS.contains(asked)).unwrap_or(VERSIONS[VERSIONS.len() - 1]);
    json!({
        "protocolVersion": version,
        "capabilities": {
            "tools": {"listChanged": true},
            "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true},
            "logging": {},
            "completions": {},
        },
        "serverInfo": {"name": "mcp-everything", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "A server for tests.",
    })
}

fn set_level(call: &Call) -> Result<Value, Refusal> {
    let level = call.params["level"].as_str().and_then(|level| LEVELS.iter().position(|name| *name == level));
    let level = level.ok_or_else(|| Refusal::invalid_params("level has to be one of RFC 5424"))?;
    call.session.about.lock().expect("about").level = level;
    Ok(json!({}))
}

fn complete(params: &Value) -> Result<Value, Refusal> {
    let of = &params["ref"];
    let known: &[&str] = match (of["name"].as_str(), of["uri"].as_str(), params["argument"]["name"].as_str())
    {
        (Some("test_prompt_with_arguments"), None, Some("arg1")) => &["paris", "park", "party", "testing"],
        (Some("test_prompt_with_arguments"), None, Some("arg2")) => &["rome", "room"],
        (None, Some("test://template/{id}/data"), Some("id")) => &["123", "124", "200"],
        _ => return Err(Refusal::invalid_params("there is nothing of that name to complete")),
    };
    let begun = params["argument"]["value"].as_str().unwrap_or_default();
    let values: Vec<_> = known.iter().filter(|value| value.starts_with(begun)).collect();
    Ok(json!({"completion": {"total": values.len(), "hasMore": false, "values": values}}))
}
