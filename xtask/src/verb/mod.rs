//! The verbs: one file each, and the struct that clap fills *is* the verb.

mod bench;
mod bundle;
mod ci;
mod docs;
mod down;
mod env;
mod render_proxy;
mod restart;
mod runs;
mod selftest;
mod smoke;
mod soak;
mod tools;

use clap::Subcommand;
use stelae_model::{ExitCode, Failure};

use crate::guard::Guard;

use crate::context::Context;

/// What a verb gives: the code to exit with, or a failure that says it.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Proves a fresh clone: builds, starts, serves, is usable by an agent, leaves nothing behind
    Smoke(smoke::Smoke),
    /// Formatting, lints, tests and smoke: what is run before a merge
    Ci(ci::Ci),
    /// Starts the stack, and says when it is ready
    Restart(restart::Restart),
    /// Ends the stack that restart left up
    Down(down::Down),
    /// Installs, lists and removes bundles of MCP servers
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// Renders the gateway's configuration
    RenderProxy(render_proxy::RenderProxy),
    /// Installs and finds the programs of others that are pinned in config/tools.toml
    #[command(subcommand)]
    Tools(tools::Tools),
    /// Lists, shows and ends runs
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Shows, explains and prepares the environment
    #[command(subcommand)]
    Env(env::Env),
    /// Shows every exit code: a real scenario for each, and what is left of it
    Selftest(selftest::Selftest),
    /// Starts and kills many lifecycles at random moments, and counts what is left
    Soak(soak::SoakVerb),
    /// Measures, against aims and against others
    #[command(subcommand)]
    Bench(bench::Bench),
    /// One lifecycle of `soak`
    #[command(hide = true)]
    SoakCycle(soak::SoakCycle),
    /// Writes the generated pages under docs/
    Docs(docs::Docs),
}

impl Verb {
    /// How it is guarded; a verb that starts nothing is not.
    pub(crate) fn guard(&self) -> Option<Guard> {
        match self {
            Self::Smoke(verb) => Some(verb.guard()),
            Self::Tools(verb) => verb.guard(),
            Self::Ci(verb) => Some(verb.guard()),
            Self::Restart(verb) => Some(verb.guard()),
            Self::Selftest(_) => Some(selftest::Selftest::guard()),
            Self::Soak(_) => Some(soak::SoakVerb::guard()),
            Self::Bench(_) => Some(bench::Bench::guard()),
            Self::SoakCycle(_) => Some(soak::SoakCycle::guard()),
            Self::Down(_)
            | Self::Bundle(_)
            | Self::RenderProxy(_)
            | Self::Runs(_)
            | Self::Env(_)
            | Self::Docs(_) => None,
        }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Smoke(verb) => verb.run(context),
            Self::Ci(verb) => verb.run(context),
            Self::Restart(verb) => verb.run(context),
            Self::Down(verb) => verb.run(context),
            Self::Bundle(verb) => verb.run(context),
            Self::RenderProxy(verb) => verb.run(context),
            Self::Tools(verb) => verb.run(context),
            Self::Runs(verb) => verb.run(context),
            Self::Env(verb) => verb.run(context),
            Self::Selftest(verb) => verb.run(context),
            Self::Soak(verb) => verb.run(context),
            Self::Bench(verb) => verb.run(context),
            Self::SoakCycle(verb) => verb.run(context),
            Self::Docs(verb) => verb.run(context),
        }
    }
}
