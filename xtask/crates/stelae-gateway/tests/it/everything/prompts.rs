//! What a prompt comes to.

use serde_json::{Value, json};

use crate::content;
use crate::session::{Call, Refusal};

/// `prompts/get`
pub(crate) fn get(call: &Call) -> Result<Value, Refusal> {
    let name = call.params["name"].as_str().unwrap_or_default();
    let contents = match name {
        "test_simple_prompt" => vec![content::text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (first, second) = (call.text("arg1")?, call.text("arg2")?);
            vec![content::text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let text = "Embedded resource content for testing.";
            let resource = content::resource(call.text("resourceUri")?, "text/plain", text);
            vec![resource, content::text("Please process the embedded resource above.")]
        }
        "test_prompt_with_image" => {
            vec![content::image(), content::text("Please analyze the image above.")]
        }
        grown if is_grown(call, grown) => vec![content::text(grown)],
        _ => return Err(Refusal::invalid_params(format!("there is no prompt {name:?}"))),
    };
    let message = |content| json!({"role": "user", "content": content});
    Ok(json!({"messages": contents.into_iter().map(message).collect::<Vec<_>>()}))
}

fn is_grown(call: &Call, name: &str) -> bool {
    let grown = call.server().grown.lock().expect("grown").prompts;
    (1..=grown).any(|n| name == format!("relay_grown_{n}"))
}
