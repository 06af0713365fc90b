//! A client: the handshake, the list of tools, and calls whose answers are looked at.

use serde_json::{Value, json};

use super::speech::Speech;
use crate::deadline::Deadline;
use crate::mcp::PROTOCOL_VERSION;

/// A session with whoever is measured.
pub(super) struct Client {
    speech: Box<dyn Speech>,
    asked: u64,
}

impl Client {
    /// Does the handshake.
    pub(super) fn begin(speech: impl Speech + 'static, deadline: Deadline) -> Result<Self, String> {
        let mut client = Self { speech: Box::new(speech), asked: 0 };
        let info = json!({"name": "stelae-bench", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": info});
        client.request("initialize", &params, deadline)?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        client.speech.say(&initialized, None, deadline)?;
        Ok(client)
    }

    /// The names of the tools. What is measured has few: they are on one page.
    pub(super) fn tools(&mut self, deadline: Deadline) -> Result<Vec<String>, String> {
        let result = self.request("tools/list", &json!({}), deadline)?;
        let tools = result["tools"].as_array().ok_or("a list without tools")?;
        Ok(tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect())
    }

    /// Calls a tool with a text; says what text it answered.
    pub(super) fn call(&mut self, tool: &str, text: &str, deadline: Deadline) -> Result<String, String> {
        let params = json!({"name": tool, "arguments": {"text": text}});
        let result = self.request("tools/call", &params, deadline)?;
        let answer = result["content"][0]["text"].as_str();
        answer.map(str::to_owned).ok_or_else(|| format!("a result without a text: {result}"))
    }

    fn request(&mut self, method: &str, params: &Value, deadline: Deadline) -> Result<Value, String> {
        self.asked += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params});
        let mut answer = self.speech.say(&message, Some(self.asked), deadline)?;
        // An error that is null is none: some say so beside their result.
        match answer.get("error").filter(|error| !error.is_null()) {
            Some(error) => Err(format!("{method}: error {error}")),
            None => Ok(answer["result"].take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers everything with this.
    struct Saying(Value);

    impl Speech for Saying {
        fn say(&mut self, _: &Value, _: Option<u64>, _: Deadline) -> Result<Value, String> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn an_error_that_is_null_is_none() {
        let deadline = Deadline::after(Duration::from_secs(1));
        let begin = |answer| Client::begin(Saying(answer), deadline).map(drop);
        assert_eq!(begin(json!({"id": 1, "result": {}, "error": null})), Ok(()));
        assert_eq!(begin(json!({"id": 1, "error": 7})), Err("initialize: error 7".to_owned()));
    }
}
