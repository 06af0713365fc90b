//! What is in a resource, and who watches it.

use serde_json::{Value, json};

use crate::content::PNG;
use crate::session::{Call, Refusal};

/// `resources/read`
pub(crate) fn read(call: &Call) -> Result<Value, Refusal> {
    let uri = uri(call)?;
    let text = |mime_type: &str, text: &str| json!({"uri": uri, "mimeType": mime_type, "text": text});
    let contents = match uri {
        "test://static-text" => text("text/plain", "This is the content of the static text resource."),
        "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": PNG}),
        "test://watched-resource" => text("text/plain", "This is a resource that can be watched."),
        other => match id_in_template(other) {
            Some(id) => {
                let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                text("application/json", &data.to_string())
            }
            None if is_grown(call, other) => text("text/plain", other),
            None => {
                return Err(Refusal { code: -32002, message: format!("there is no resource {other:?}") });
            }
        },
    };
    Ok(json!({"contents": [contents]}))
}

/// `resources/subscribe`
pub(crate) fn subscribe(call: &Call) -> Result<Value, Refusal> {
    let uri = uri(call)?.to_owned();
    call.session.about.lock().expect("about").subscribed.insert(uri);
    Ok(json!({}))
}

/// `resources/unsubscribe`
pub(crate) fn unsubscribe(call: &Call) -> Result<Value, Refusal> {
    call.session.about.lock().expect("about").subscribed.remove(uri(call)?);
    Ok(json!({}))
}

fn uri(call: &Call) -> Result<&str, Refusal> {
    call.params["uri"].as_str().ok_or_else(|| Refusal::invalid_params("uri has to be a string"))
}

fn id_in_template(uri: &str) -> Option<&str> {
    let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

fn is_grown(call: &Call, uri: &str) -> bool {
    let grown = call.server().grown.lock().expect("grown").resources;
    (1..=grown).any(|n| uri == format!("test://grown/{n}"))
}
