//! `down`: ends the stack that `restart` left up.

use clap::Args;
use serde_json::json;
use stelae_model::ExitCode;

use stelae_run::stack::StackRecord;

use crate::context::Context;
use crate::verb::Outcome;

/// `down`
#[derive(Debug, Args)]
pub(crate) struct Down {}

impl Down {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let ended = StackRecord::of(&context.environment()?)?.stop_recorded(&context.interrupt()?)?;
        context.printer.data(&json!({"schema": 1, "ended": ended}), || match &ended {
            Some(stack) => format!("ended: {stack}\n"),
            None => "no stack is up\n".to_owned(),
        });
        Ok(ExitCode::Pass)
    }
}
