//! Whether an agent did what a stage expects. Its exit code proves nothing, and its transcript not everything: what it says
//! is compared with what our model was asked and what our gateway was given.
//!
//! ```text
//! calls      the calls of the transcript are the expected ones                    call-missing, call-failed, …
//! causes     why they are not: something before them went wrong, and is named    server-missing, model-failed, …
//! witnesses  model, transcript and gateway tell of the same calls                witnesses-differ, …
//! tools      the tool list is what the stage made of it                          tools-missing, tools-differ
//! ```

mod calls;
mod causes;
mod tools;
mod witnesses;

pub use tools::{judge_never, judge_tools, judge_tools_before};

use crate::agent::{Agent, Model};
use crate::calls::GatewayCall;
use crate::expect::Stage;
use crate::model_record::ModelRequest;
use crate::transcript::Transcript;
use crate::{ExitCode, Failure};

/// A stage that was played, and everybody who saw it.
#[derive(Clone, Copy, Debug)]
pub struct Played<'a> {
    /// What was to be done.
    pub stage: &'a Stage,
    /// What the agent was told: the stage's prompt, filled in.
    pub prompt: &'a str,
    /// Who did it.
    pub agent: Agent,
    /// Whose model told the agent what to do.
    pub model: Model,
    /// What the agent says that it did.
    pub transcript: &'a Transcript,
    /// What the agent said besides, on stderr.
    pub complaints: &'a str,
    /// What our model was asked; absent where the agent had another one, or none.
    pub asked: Option<&'a [ModelRequest]>,
    /// The calls that our gateway was given; absent where it keeps no log of them.
    pub given: Option<&'a [GatewayCall]>,
}

/// Judges a stage.
///
/// # Errors
/// Exit 11. Of the calls: `call-missing`, `call-unexpected`, `call-forbidden`, `arguments-differ`, `call-failed`,
/// `call-succeeded`, `result-differs`, `action-unexpected`, `turn-not-completed`. What is behind that: `model-failed`,
/// `model-unreached`, `server-missing`, `unsupported-call`, `approval-refused`. And where the calls are as they should be:
/// `model-fault`, `model-asked-again`, `prompt-lost`, `failure-unnoticed`, `witnesses-differ`.
pub fn judge(played: &Played<'_>) -> Result<(), Failure> {
    match calls::check(played) {
        Ok(()) => witnesses::check(played),
        Err(mismatch) => Err(causes::explain(played, mismatch)),
    }
}

/// A stage that did not do what it should.
fn unmet(played: &Played<'_>, kind: &str, what: impl Into<String>) -> Failure {
    Failure::new(ExitCode::ExpectationNotMet, kind, what).on(format!("stage {}", played.stage.name))
}

/// Keeps a message readable when a result is large.
fn clip(text: &str) -> String {
    crate::failure::shortened(text, 300)
}

#[cfg(test)]
mod tests;
