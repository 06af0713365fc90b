//! Reading a tool's arguments: unknown ones are faults, and a fault is a sentence that says what was meant perhaps.

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stelae_model::env::nearest;

/// Reads `arguments` as a `T` that has the fields `known`.
///
/// # Errors
/// A sentence that names the argument.
pub(super) fn read<T: DeserializeOwned>(arguments: JsonObject, known: &[&str]) -> Result<T, String> {
    for given in arguments.keys() {
        one_of("argument", given, known)?;
    }
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| format!("the arguments are wrong: {error}"))
}

/// Checks that `given` is one of `known`.
///
/// # Errors
/// A sentence with the nearest one, or with all of them.
pub(super) fn one_of<'a>(what: &str, given: &str, known: &[&'a str]) -> Result<&'a str, String> {
    if let Some(found) = known.iter().find(|name| **name == given) {
        return Ok(found);
    }
    Err(match nearest(given, known.iter().copied()) {
        Some(near) => format!("unknown {what} {given:?}: did you mean {near:?}?"),
        None => format!("unknown {what} {given:?}: it is one of {}", known.join(", ")),
    })
}
