//! What it says that it has.

use serde_json::{Value, json};

use crate::session::Server;

/// How many of each kind `relay_grow` has added.
#[derive(Default)]
pub(crate) struct Grown {
    pub(crate) tools: u64,
    pub(crate) prompts: u64,
    pub(crate) resources: u64,
}

/// Every tool. The first has fields that a typed relay drops: one of the protocol's own (`execution`), one of nobody's.
pub(crate) fn tools(server: &Server) -> Vec<Value> {
    let mut first = tool("test_simple_text", "Answers with a text", &[]);
    first["title"] = json!("Simple text");
    first["execution"] = json!({"taskSupport": "forbidden"});
    first["x-unknown"] = json!({"kept": true});
    first["_meta"] = json!({"example.org/unknown": [1, 2, 3]});
    let mut tools = vec![
        first,
        tool("test_image_content", "Answers with an image", &[]),
        tool("test_audio_content", "Answers with a sound", &[]),
        tool("test_embedded_resource", "Answers with a resource", &[]),
        tool("test_multiple_content_types", "Answers with three kinds of content", &[]),
        tool("test_tool_with_logging", "Sends three log messages", &[]),
        tool("test_tool_with_progress", "Says three times how far it is", &[]),
        tool("test_error_handling", "Always fails", &[]),
        tool("test_sampling", "Asks the client's model", &[("prompt", "string")]),
        tool("test_elicitation", "Asks the user", &[("message", "string")]),
        tool("test_elicitation_sep1034_defaults", "Asks the user, and suggests answers", &[]),
        tool("test_elicitation_sep1330_enums", "Asks the user to choose", &[]),
        json_schema(),
        tool("relay_progress", "Says STEPS times how far it is", &[("steps", "integer")]),
        tool(
            "relay_flood",
            "Says in SIZE characters how far it is, until it is cancelled",
            &[("size", "integer")],
        ),
        tool("relay_log", "Sends LINES log messages", &[("lines", "integer"), ("level", "string")]),
        tool("relay_sample", "Asks the client's model, and answers what came back", &[("text", "string")]),
        tool("relay_elicit", "Asks the user, and answers what came back", &[("message", "string")]),
        tool("relay_roots", "Asks for the client's roots, and answers what came back", &[]),
        tool("relay_wait", "Waits until it is cancelled", &[("name", "string")]),
        tool("relay_grow", "Adds one of tools, prompts or resources", &[("kind", "string")]),
        tool("relay_touch", "Tells whoever watches a resource that it has changed", &[("uri", "string")]),
        tool("relay_die", "Exits with 3 at once", &[]),
    ];
    let grown = server.grown.lock().expect("grown").tools;
    tools.extend((1..=grown).map(|n| tool(&format!("relay_grown_{n}"), "Was not there at first", &[])));
    tools
}

/// Every prompt.
pub(crate) fn prompts(server: &Server) -> Vec<Value> {
    let argument = |name: &str| json!({"name": name, "description": "An argument", "required": true});
    let mut prompts = vec![
        json!({"name": "test_simple_prompt", "description": "One message", "x-unknown": {"kept": true}}),
        json!({
            "name": "test_prompt_with_arguments",
            "description": "One message with both arguments in it",
            "arguments": [argument("arg1"), argument("arg2")],
        }),
        json!({
            "name": "test_prompt_with_embedded_resource",
            "description": "Two messages, and the first is a resource",
            "arguments": [argument("resourceUri")],
        }),
        json!({"name": "test_prompt_with_image", "description": "Two messages, and the first is an image"}),
    ];
    let grown = server.grown.lock().expect("grown").prompts;
    let add = |n| json!({"name": format!("relay_grown_{n}"), "description": "Was not there at first"});
    prompts.extend((1..=grown).map(add));
    prompts
}

/// Every resource.
pub(crate) fn resources(server: &Server) -> Vec<Value> {
    let resource = |uri: &str, name: &str, mime_type: &str| json!({"uri": uri, "name": name, "description": "A resource for tests", "mimeType": mime_type});
    let mut first = resource("test://static-text", "Static text", "text/plain");
    first["x-unknown"] = json!({"kept": true});
    let mut resources = vec![
        first,
        resource("test://static-binary", "Static binary", "image/png"),
        resource("test://watched-resource", "Watched", "text/plain"),
    ];
    let grown = server.grown.lock().expect("grown").resources;
    resources.extend((1..=grown).map(|n| resource(&format!("test://grown/{n}"), "Grown", "text/plain")));
    resources
}

/// Every template.
pub(crate) fn templates() -> Vec<Value> {
    vec![json!({
        "uriTemplate": "test://template/{id}/data",
        "name": "Template",
        "description": "A resource for each id",
        "mimeType": "application/json",
        "x-unknown": {"kept": true},
    })]
}

/// A tool, all of whose arguments are required.
fn tool(name: &str, description: &str, arguments: &[(&str, &str)]) -> Value {
    let properties = arguments.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind})));
    let properties = Value::Object(properties.collect());
    let required: Vec<_> = arguments.iter().map(|(name, _)| name).collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    json!({"name": name, "description": description, "inputSchema": schema})
}

/// SEP-1613: what a relay that knows only some of JSON Schema drops.
fn json_schema() -> Value {
    let address = json!({
        "type": "object",
        "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
    });
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "Tool with JSON Schema 2020-12 features",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": address},
            "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
            "additionalProperties": false,
        },
    })
}
