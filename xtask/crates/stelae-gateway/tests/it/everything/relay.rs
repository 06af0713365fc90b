//! Our own tools, which show what becomes of messages on their way through a gateway.

use std::process;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::content::{failed, result, text};
use crate::session::{Call, Refusal};
use crate::tools::{self, LEVELS};

/// Between two words of one that never stops talking.
const PACE: Duration = Duration::from_millis(10);

/// `tools/call` of a tool that the suite does not know.
pub(crate) async fn call(call: &Call, name: &str) -> Result<Value, Refusal> {
    match name {
        "relay_progress" => {
            let steps = call.count("steps")?;
            (1..=steps).for_each(|step| call.progress(step, steps, &format!("step {step} of {steps}")));
            Ok(said(format!("{steps} steps")))
        }
        "relay_log" => log(call),
        // Whether the client said that it can is not asked: what it answers is what is to be seen.
        "relay_sample" => {
            Ok(came_back(call.ask("sampling/createMessage", tools::sample(call.text("text")?)).await))
        }
        "relay_elicit" => {
            Ok(came_back(call.ask("elicitation/create", tools::form(call.text("message")?)).await))
        }
        "relay_roots" => Ok(came_back(call.ask("roots/list", json!({})).await)),
        "relay_flood" => flood(call).await,
        "relay_wait" => wait(call).await,
        "relay_grow" => grow(call),
        "relay_touch" => touch(call),
        "relay_die" => process::exit(3),
        grown if is_grown(call, grown) => Ok(said(grown)),
        _ => Err(Refusal::invalid_params(format!("there is no tool {name:?}"))),
    }
}

fn log(call: &Call) -> Result<Value, Refusal> {
    let (lines, level) = (call.count("lines")?, call.text("level")?);
    let level = LEVELS.iter().position(|name| *name == level);
    let level = level.ok_or_else(|| Refusal::invalid_params("level has to be one of RFC 5424"))?;
    (1..=lines).for_each(|line| tools::log(call, level, "relay", &format!("line {line} of {lines}")));
    Ok(said(format!("{lines} lines")))
}

/// Never stops saying how far it is, in SIZE characters each, until it is cancelled.
async fn flood(call: &Call) -> Result<Value, Refusal> {
    let size =
        usize::try_from(call.count("size")?).map_err(|_| Refusal::invalid_params("size is too large"))?;
    let text = "x".repeat(size);
    let mut step = 0;
    eprintln!("flooding");
    while !call.cancelled.is_cancelled() {
        step += 1;
        call.progress(step, u64::MAX, &text);
        // What nobody takes waits in here, too: no faster than a slow machine can hand on.
        if size > 100 {
            sleep(PACE).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    eprintln!("flooded");
    Ok(Value::Null)
}

async fn wait(call: &Call) -> Result<Value, Refusal> {
    let name = call.text("name")?;
    eprintln!("waiting {name}");
    call.cancelled.cancelled().await;
    eprintln!("cancelled {name}");
    Ok(Value::Null)
}

fn grow(call: &Call) -> Result<Value, Refusal> {
    let kind = call.text("kind")?;
    let count = {
        let mut grown = call.server().grown.lock().expect("grown");
        let count = match kind {
            "tools" => &mut grown.tools,
            "prompts" => &mut grown.prompts,
            "resources" => &mut grown.resources,
            _ => return Err(Refusal::invalid_params("kind has to be tools, prompts or resources")),
        };
        *count += 1;
        *count
    };
    call.server().tell(&format!("notifications/{kind}/list_changed"), &Value::Null, |_| true);
    let name =
        if kind == "resources" { format!("test://grown/{count}") } else { format!("relay_grown_{count}") };
    Ok(said(name))
}

fn touch(call: &Call) -> Result<Value, Refusal> {
    let uri = call.text("uri")?;
    call.server().tell("notifications/resources/updated", &json!({"uri": uri}), |session| {
        session.about.lock().expect("about").subscribed.contains(uri)
    });
    Ok(said(uri))
}

fn said(what: impl Into<String>) -> Value {
    result(vec![text(what)])
}

/// The client's result as JSON, or why there is none.
fn came_back(answer: Result<Value, String>) -> Value {
    answer.map_or_else(failed, |answer| said(answer.to_string()))
}

fn is_grown(call: &Call, name: &str) -> bool {
    let grown = call.server().grown.lock().expect("grown").tools;
    (1..=grown).any(|n| name == format!("relay_grown_{n}"))
}
