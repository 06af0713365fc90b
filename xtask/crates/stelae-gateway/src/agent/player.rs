//! Playing a script: call after call, within one deadline.

use stelae_model::endpoints::Endpoints;
use stelae_model::value::{BearerToken, Secret};

use stelae_model::{ExitCode, Failure};
use tokio::time::{Instant, timeout_at};

use super::script::Script;
use super::sessions::Sessions;
use super::transcript::{Outcome, Transcript};

/// One run.
pub(super) struct Player<'a> {
    /// Where the stack is reached.
    pub(super) endpoints: &'a Endpoints,
    /// What is shown to every endpoint, if there is one.
    pub(super) token: Option<&'a Secret<BearerToken>>,
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
        let opened = timeout_at(self.deadline, Sessions::open(self.endpoints, self.token)).await;
        let unreached = |_| Err(format!("{} cannot be reached: {}", self.reached_at(), self.too_late()));
        let mut sessions = match opened.unwrap_or_else(unreached) {
            Ok(sessions) => sessions,
            Err(what) => {
                self.transcript.failed(what.clone())?;
                return Err(Failure::new(ExitCode::Unexpected, "endpoint-unreachable", what));
            }
        };
        self.transcript.turn()?;
        for call in script.calls() {
            let item = self.transcript.calling(call)?;
            let outcome = timeout_at(self.deadline, sessions.call(&call.tool, &call.arguments)).await;
            let outcome = outcome.unwrap_or_else(|_| Outcome::Unanswered(self.too_late()));
            self.transcript.ended(item, outcome)?;
        }
        self.transcript.done(script.message())?;
        sessions.close(self.deadline).await;
        Ok(())
    }

    fn reached_at(&self) -> String {
        match &self.endpoints.each()[..] {
            [(_, url)] => format!("the MCP endpoint {url}"),
            many => format!("one of {} MCP endpoints", many.len()),
        }
    }

    fn too_late(&self) -> String {
        format!("the agent's deadline of {} ms passed", self.limit_ms)
    }
}
