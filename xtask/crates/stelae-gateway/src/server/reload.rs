//! Asking the gateway, which started us, to read its configuration again.

use std::env;
use std::time::Duration;

use stelae_model::proxy::Readiness;

use crate::client;
use crate::serve::SETTLED_WITHIN;

/// Only against a gateway that does not answer at all: it waits no longer for new servers, and a little for the end of old ones.
const LIMIT: Duration = SETTLED_WITHIN.saturating_add(Duration::from_secs(10));

/// Makes the gateway reload, and gives what it says about its servers then.
///
/// # Errors
/// A sentence on why it did not.
pub(super) async fn reload() -> Result<Readiness, String> {
    let url = format!("{}/-/reload", variable("PUBLIC_BASE_URL")?.trim_end_matches('/'));
    let token = variable("STELAE_CONTROL_TOKEN")?;
    let client = client::http().map_err(|error| error.to_string())?;
    let failed =
        |error: reqwest::Error| format!("the gateway at {url} does not answer: {}", error.without_url());
    let answer = client.post(&url).bearer_auth(token).timeout(LIMIT).send().await.map_err(failed)?;
    let status = answer.status();
    let body = answer.text().await.map_err(failed)?;
    if !status.is_success() {
        return Err(format!("the gateway refused to reload ({status}): {}", body.trim()));
    }
    serde_json::from_str(&body).map_err(|error| format!("the gateway's answer cannot be read: {error}"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set, so the gateway cannot be asked to reload"))
}
