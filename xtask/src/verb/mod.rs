//! The verbs: one file each, and the struct that clap fills *is* the verb.

mod docs;
mod env;

use clap::Subcommand;
use stelae_model::{ExitCode, Failure};

use crate::context::Context;

/// What a verb gives: the code to exit with, or a failure that says it.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows, explains and prepares the environment
    #[command(subcommand)]
    Env(env::Env),
    /// Writes the generated pages under docs/
    Docs(docs::Docs),
}

impl Verb {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Env(verb) => verb.run(context),
            Self::Docs(verb) => verb.run(context),
        }
    }
}
