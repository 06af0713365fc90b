//! Playing a script: one session, call after call, within one deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion,
};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::Value;
use stelae_model::env::nearest;
use stelae_model::transcript::ToolResult;
use stelae_model::{ExitCode, Failure};
use tokio::time::{Instant, timeout_at};

use super::script::{Call, Script};
use super::transcript::{Outcome, Transcript};
use crate::client;

/// Ending the session is a courtesy to the server, and must not cost the caller time.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

type Session = RunningService<RoleClient, ClientConfig>;

/// One run.
pub(super) struct Player<'a> {
    /// The endpoint.
    pub(super) url: &'a str,
    /// The limit that `deadline` was made from, for messages.
    pub(super) limit_ms: u64,
    /// When everything must be over.
    pub(super) deadline: Instant,
    /// Where everything is told.
    pub(super) transcript: Transcript,
}

impl Player<'_> {
    /// Plays `script` to its end.
    pub(super) async fn play(mut self, script: &Script) -> Result<(), Failure> {
        self.transcript.started()?;
        let mut session = match self.connect().await {
            Ok(session) => session,
            Err(why) => {
                let what = format!("the MCP endpoint {} cannot be reached: {why}", self.url);
                self.transcript.failed(what.clone())?;
                return Err(Failure::new(ExitCode::Unexpected, "endpoint-unreachable", what));
            }
        };
        self.transcript.turn()?;
        let mut known = BTreeSet::new();
        for call in script.calls() {
            let item = self.transcript.calling(call)?;
            let outcome = timeout_at(self.deadline, play_call(&session, &mut known, call)).await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Unanswered(self.too_late()));
            self.transcript.ended(item, outcome)?;
        }
        self.transcript.done(script.message())?;
        let limit = GOODBYE_LIMIT.min(self.deadline.saturating_duration_since(Instant::now()));
        session.close_with_timeout(limit).await.ok();
        Ok(())
    }

    async fn connect(&self) -> Result<Session, String> {
        let us = Implementation::new("stelae-agent", env!("CARGO_PKG_VERSION"));
        let client = ClientConfig::new(ClientCapabilities::default(), us)
            .with_protocol_version(ProtocolVersion::V_2025_11_25);
        let transport = client::transport(self.url).map_err(|error| error.to_string())?;
        match timeout_at(self.deadline, client.serve(transport)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(client::explain_start(&error)),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> String {
        format!("the agent's deadline of {} ms passed", self.limit_ms)
    }
}

/// One call. Tools are listed again before a name that was not seen yet: an earlier call may have installed it.
async fn play_call(session: &Session, known: &mut BTreeSet<String>, call: &Call) -> Outcome {
    if !known.contains(&call.tool) {
        match session.list_all_tools().await {
            Ok(tools) => *known = tools.into_iter().map(|tool| tool.name.into_owned()).collect(),
            Err(error) => {
                return Outcome::Unanswered(format!(
                    "tools/list failed: {}",
                    client::explain_request(&error)
                ));
            }
        }
    }
    if !known.contains(&call.tool) {
        let near = nearest(&call.tool, known.iter().map(String::as_str));
        let near = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
        return Outcome::Unanswered(format!("unknown tool {:?}{near}", call.tool));
    }
    let params = CallToolRequestParams::new(call.tool.clone()).with_arguments(call.arguments.clone());
    match session.call_tool(params).await {
        Ok(result) => answered(result),
        Err(error) => Outcome::Unanswered(client::explain_request(&error)),
    }
}

fn answered(result: CallToolResult) -> Outcome {
    let content = serde_json::to_value(&result.content).ok();
    let content = match content {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let result_failed = result.is_error.unwrap_or(false);
    let result = ToolResult { content, structured_content: result.structured_content };
    Outcome::Answered { result, failed: result_failed }
}
