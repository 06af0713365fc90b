//! `down`: ends the stack that `restart` left up.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use stelae_model::ExitCode;
use stelae_model::terminal::Lines;

use stelae_run::deadline::Deadline;
use stelae_run::stack::StackRecord;

use crate::context::Context;
use crate::verb::Outcome;

/// How long a restart that is under way is waited for: as long as one takes by default.
const BUSY: Duration = Duration::from_secs(60);

/// `down`

#[derive(Debug, Args)]
pub(crate) struct Down {}

impl Down {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let (record, interrupt) = (StackRecord::of(&context.environment()?)?, context.interrupt()?);
        let _alone = record.lock(Deadline::after(BUSY), &interrupt)?;
        let ended = record.stop_recorded(&interrupt)?;
        context.printer.data(&json!({"schema": 1, "ended": ended}), || match &ended {
            Some(stack) => Lines::one(format!("ended: {stack}")),
            None => Lines::one("no stack is up"),
        });
        Ok(ExitCode::Pass)
    }
}
