//! Asking a gateway about the servers behind it.

use stelae_model::proxy::Readiness;

use crate::deadline::Deadline;
use crate::http::Http;

/// What the gateway says; `None` from a foreign one that has no such path (404), whose tool list is all there is to go
/// by. Any other silence is no consent.
///
/// # Errors
/// Why there is no answer to go by, as a sentence without its subject.
pub(crate) fn ask_servers(http: &Http, url: &str, deadline: Deadline) -> Result<Option<Readiness>, String> {
    let answer = http.get(url, deadline).map_err(|error| format!("{url}: {error}"))?;
    if answer.status == 404 {
        return Ok(None);
    }
    let read = serde_json::from_str(&answer.body);
    read.map(Some).map_err(|error| format!("{url} answered {} with something else: {error}", answer.status))
}
