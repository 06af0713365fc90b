//! `tools`: other people's programs, pinned, in the cache folder.

use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use stelae_model::lifecycle::StopLimits;
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::process::Family;
use stelae_run::record::Recorder;
use stelae_run::report::Terminal;
use stelae_run::tools::{self, Job, Outcome as Installed, Shelf, Standing};

use crate::context::Context;
use crate::guard::{Guard, over_in};
use crate::verb::Outcome;

/// The verbs under `tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tools {
    /// Installs tools as they are pinned, from their registries, into the cache folder
    Install(Install),
    /// Lists what is pinned, whether it is installed, and where
    List,
    /// Prints the path of a tool's program
    Path(Path),
}

/// `tools install`
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Names of tools; see: cargo xtask tools list
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Every tool that is pinned
    #[arg(long)]
    all: bool,
    /// Seconds for each tool, waiting for another installation of it included
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit_s: u64,
}

/// `tools path`
#[derive(Debug, Args)]
pub(crate) struct Path {
    /// Name of the tool
    name: String,
}

/// What became of one tool.
#[derive(Debug, Serialize)]
struct Done {
    name: String,
    version: String,
    outcome: Word,
    elapsed_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Utf8PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Installed,
    WasThere,
    Failed,
}

impl Tools {
    /// How it is guarded: only an installation starts anything.
    pub(crate) fn guard(&self) -> Option<Guard> {
        matches!(self, Self::Install(_)).then(Guard::of_everything)
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let environment = context.environment()?;
        let shelf = Shelf::open(&environment)?;
        match self {
            Self::Install(verb) => verb.run(context, &environment, &shelf),
            Self::List => {
                list(context, &shelf);
                Ok(ExitCode::Pass)
            }
            Self::Path(verb) => {
                let path = shelf.program(&verb.name)?;
                let standing = shelf.stand(&verb.name)?;
                context.printer.data(&json!({"schema": 1, "tool": standing}), || Lines::one(&path));
                Ok(ExitCode::Pass)
            }
        }
    }
}

impl Install {
    fn run(self, context: &Context, environment: &stelae_model::env::Environment, shelf: &Shelf) -> Outcome {
        let names = if self.all { shelf.pins.tools.keys().cloned().collect() } else { self.names };
        // A slip of the finger is found before anything is downloaded.
        let wanted: Vec<Standing> = names.iter().map(|name| shelf.stand(name)).collect::<Result<_, _>>()?;
        let interrupt = context.interrupt()?;
        let family = Family::enter()?;
        let terminal = Terminal::with_colour(context.printer.colour());
        let recorder = Recorder::to_listeners(vec![terminal.listener()]);
        let mut done = Vec::new();
        for tool in wanted {
            let limit = Duration::from_secs(self.limit_s);
            over_in(limit);
            let deadline = Deadline::after(limit);
            let job = Job { environment, deadline, interrupt: &interrupt, recorder: &recorder };
            let begun = Instant::now();
            let outcome = tools::install(shelf, &tool.name, &job);
            done.push(Done::new(tool, outcome, begun));
            if interrupt.check().is_some() {
                break;
            }
        }
        let proof = family.stop(StopLimits::at_once(), &interrupt, &mut |_| ());
        context.printer.data(&json!({"schema": 1, "tools": done}), || done.iter().map(Done::line).collect());
        // Between two tools nobody else sees it, and the rest are missing.
        interrupt.bail("tools install")?;
        first_failure(done)?;
        proof.check().map(|()| ExitCode::Pass)
    }
}

impl Done {
    fn new(tool: Standing, outcome: Result<Installed, Failure>, begun: Instant) -> Self {
        let (outcome, failure) = match outcome {
            Ok(Installed::Installed) => (Word::Installed, None),
            Ok(Installed::WasThere) => (Word::WasThere, None),
            Err(failure) => (Word::Failed, Some(failure)),
        };
        let Standing { name, version, path, .. } = tool;
        let path = failure.is_none().then_some(path);
        Self { name, version, outcome, elapsed_ms: begun.elapsed().as_millis(), path, failure }
    }

    fn line(&self) -> String {
        let Self { name, version, path, failure, .. } = self;
        let seconds = self.elapsed_ms as f64 / 1000.0;
        match (path, failure) {
            (_, Some(failure)) => format!("{name:<20} {version:<12} FAILED: {}", failure.what),
            (path, None) => {
                let path = path.as_ref().map(ToString::to_string).unwrap_or_default();
                match self.outcome {
                    Word::WasThere => format!("{name:<20} {version:<12} was there: {path}"),
                    _ => format!("{name:<20} {version:<12} installed in {seconds:.1} s: {path}"),
                }
            }
        }
    }
}

/// The first failure, which names the others.
fn first_failure(done: Vec<Done>) -> Result<(), Failure> {
    let mut failed = done.into_iter().filter_map(|done| Some((done.name, done.failure?)));
    let Some((_, first)) = failed.next() else { return Ok(()) };
    Err(failed.fold(first, |first, (name, other)| first.because(format!("{name}, too: {}", other.what))))
}

fn list(context: &Context, shelf: &Shelf) {
    let tools = shelf.list();
    context.printer.data(&json!({"schema": 1, "tools": tools}), || {
        let line = |tool: &Standing| {
            let stands = if tool.installed { tool.path.as_str() } else { "not installed" };
            format!("{:<20} {:<6} {:<12} {stands}", tool.name, tool.kind.name(), tool.version)
        };
        tools.iter().map(line).collect()
    });
}
