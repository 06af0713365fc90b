//! The tools that the conformance suite calls, with the texts that it describes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::content::{self, failed, result, text};
use crate::relay;
use crate::session::{Call, Refusal};

/// The levels of log messages, the least important first.
pub(crate) const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What the suite wants between two notifications of one call, so that its client sees several of them while it waits.
const PAUSE: Duration = Duration::from_millis(50);

/// `tools/call`
pub(crate) async fn call(call: &Call) -> Result<Value, Refusal> {
    let name = call.params["name"].as_str().unwrap_or_default();
    Ok(match name {
        "test_simple_text" => result(vec![text("This is a simple text response for testing.")]),
        "test_image_content" => result(vec![content::image()]),
        "test_audio_content" => result(vec![content::audio()]),
        "test_embedded_resource" => {
            let text = "This is an embedded resource content.";
            result(vec![content::resource("test://embedded-resource", "text/plain", text)])
        }
        "test_multiple_content_types" => {
            let json = json!({"test": "data", "value": 123}).to_string();
            let resource = content::resource("test://mixed-content-resource", "application/json", &json);
            result(vec![text("Multiple content types test:"), content::image(), resource])
        }
        "test_tool_with_logging" => with_logging(call).await,
        "test_tool_with_progress" => with_progress(call).await,
        "test_error_handling" => failed("This tool intentionally returns an error for testing"),
        "test_sampling" => sampling(call).await?,
        "test_elicitation" => elicitation(call).await?,
        "test_elicitation_sep1034_defaults" => completed(call, &defaults()).await,
        "test_elicitation_sep1330_enums" => completed(call, &enums()).await,
        "json_schema_2020_12_tool" => result(vec![text(call.params["arguments"].to_string())]),
        name => return relay::call(call, name).await,
    })
}

/// Sends a log message, unless the client does not want any so unimportant.
pub(crate) fn log(call: &Call, level: usize, logger: &str, data: &str) {
    if level >= call.session.about.lock().expect("about").level {
        let params = json!({"level": LEVELS[level], "logger": logger, "data": data});
        call.notify("notifications/message", params);
    }
}

async fn with_logging(call: &Call) -> Value {
    let info = 1;
    log(call, info, "everything", "Tool execution started");
    tokio::time::sleep(PAUSE).await;
    log(call, info, "everything", "Tool processing data");
    tokio::time::sleep(PAUSE).await;
    log(call, info, "everything", "Tool execution completed");
    result(vec![text("Tool with logging executed successfully")])
}

async fn with_progress(call: &Call) -> Value {
    call.progress(0, 100, "Completed step 0 of 100");
    tokio::time::sleep(PAUSE).await;
    call.progress(50, 100, "Completed step 50 of 100");
    tokio::time::sleep(PAUSE).await;
    call.progress(100, 100, "Completed step 100 of 100");
    result(vec![text("Tool with progress executed successfully")])
}

async fn sampling(call: &Call) -> Result<Value, Refusal> {
    if !can(call, "sampling") {
        return Ok(failed("the client does not support sampling"));
    }
    Ok(match call.ask("sampling/createMessage", sample(call.text("prompt")?)).await {
        Ok(answer) => {
            let said = answer["content"]["text"].as_str().unwrap_or("No response");
            result(vec![text(format!("LLM response: {said}"))])
        }
        Err(why) => failed(why),
    })
}

/// What a model is asked with.
pub(crate) fn sample(prompt: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text(prompt)}], "maxTokens": 100})
}

async fn elicitation(call: &Call) -> Result<Value, Refusal> {
    if !can(call, "elicitation") {
        return Ok(failed("the client does not support elicitation"));
    }
    Ok(match call.ask("elicitation/create", form(call.text("message")?)).await {
        Ok(answer) => {
            let (action, content) = (answer["action"].as_str().unwrap_or_default(), &answer["content"]);
            result(vec![text(format!("User response: <action: {action}, content: {content}>"))])
        }
        Err(why) => failed(why),
    })
}

/// What a user is asked with.
pub(crate) fn form(message: &str) -> Value {
    let properties = json!({
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    });
    let schema = json!({"type": "object", "properties": properties, "required": ["username", "email"]});
    json!({"message": message, "requestedSchema": schema})
}

/// Asks the user with these fields, and answers in the words of both suites that do so.
async fn completed(call: &Call, properties: &Value) -> Value {
    if !can(call, "elicitation") {
        return failed("the client does not support elicitation");
    }
    let schema = json!({"type": "object", "properties": properties, "required": []});
    let params = json!({"message": "Please fill in what is asked for", "requestedSchema": schema});
    match call.ask("elicitation/create", params).await {
        Ok(answer) => {
            let (action, content) = (answer["action"].as_str().unwrap_or_default(), &answer["content"]);
            result(vec![text(format!("Elicitation completed: action={action}, content={content}"))])
        }
        Err(why) => failed(why),
    }
}

/// SEP-1034: each primitive type, with a default.
fn defaults() -> Value {
    json!({
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": true},
    })
}

/// SEP-1330: the five ways to ask for a choice.
fn enums() -> Value {
    let titled = |word: &str| {
        json!([
            {"const": "value1", "title": format!("First {word}")},
            {"const": "value2", "title": format!("Second {word}")},
            {"const": "value3", "title": format!("Third {word}")},
        ])
    };
    let options = json!(["option1", "option2", "option3"]);
    json!({
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    })
}

fn can(call: &Call, capability: &str) -> bool {
    call.session.about.lock().expect("about").capabilities.get(capability).is_some()
}
