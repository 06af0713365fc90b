//! The grammar: flags that every verb takes, and the verbs.

use std::ffi::OsString;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Parser, ValueEnum};
use stelae_model::terminal::{Lines, shown_arguments};
use stelae_model::{Failure, Isolation};
use stelae_run::guardian;

use crate::guard::{Guard, IsolationFlag};
use crate::print::Printer;
use crate::verb::Verb;

/// Builds, renders, starts and proves a stack of MCP processes.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, propagate_version = false)]
#[command(after_help = "Start with: cargo xtask smoke")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Output on stdout: text for a person, or JSON for a machine
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Root of the repository to work on [default: found upwards from the current folder]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) root: Option<Utf8PathBuf>,
    /// Env file to read in place of `.env` in the root
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) env_file: Option<Utf8PathBuf>,
    /// Sets a variable, stronger than every file and the process environment
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// What keeps the processes of a verb together
    #[arg(long, global = true, value_enum, default_value_t = IsolationFlag::Auto, value_name = "HOW")]
    pub(crate) isolation: IsolationFlag,
    /// The run that another process of the harness starts this one for
    #[arg(long, global = true, hide = true, value_name = "RUN")]
    pub(crate) of_run: Option<String>,
    /// The folder of the programs, where it is not this one's
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    pub(crate) bin_dir: Option<Utf8PathBuf>,
    /// This process is the inner half of a guardian
    #[arg(long, global = true, value_enum, hide = true, requires = "live")]
    guarded: Option<Kept>,
    /// The file that both halves of the guardian hold
    #[arg(long, global = true, hide = true, requires = "guarded")]
    live: Option<Utf8PathBuf>,
}

/// What was decided by the outer half.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kept {
    Guard,
    Pidns,
}

impl Cli {
    /// How the verb has to be guarded, if it has to be and is not yet.
    pub(crate) fn guard(&self) -> Option<Guard> {
        if self.global.guarded.is_some() { None } else { self.verb.guard() }
    }
}

impl Global {
    /// Makes this process the inner half of a guardian, if that is what it was started as.
    pub(crate) fn become_inner(&self) -> Result<(), Failure> {
        let (Some(kept), Some(live)) = (self.guarded, &self.live) else { return Ok(()) };
        let isolation = match kept {
            Kept::Guard => Isolation::Guard,
            Kept::Pidns => Isolation::Pidns,
        };
        guardian::become_inner(isolation, live).map(drop)
    }
}

/// What stdout carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person
    Text,
    /// For a machine: JSON, with a schema version
    Json,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Parses the command line; help and usage errors are answered here, with exit 0 and 2.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|answer| {
        let answer = with_visible_arguments(&answer);
        // Nothing sensible can be done when even the help text cannot be written.
        answer.print().ok();
        if !answer.use_stderr() {
            return ExitCode::SUCCESS;
        }
        let format = if asks_for_json(std::env::args_os().skip(1)) { Format::Json } else { Format::Text };
        Printer::new(format, false).failure_document(&usage(&answer.to_string()));
        ExitCode::from(stelae_model::ExitCode::Usage.number())
    })
}

/// The same answer about the same arguments, whose invisible characters are escapes: clap prints them as they are.
fn with_visible_arguments(answer: &clap::Error) -> clap::Error {
    match Cli::try_parse_from(shown_arguments(std::env::args_os())) {
        Err(visible) if visible.kind() == answer.kind() => visible,
        // One that is another answer then, about an argument that is not UTF-8 for instance.
        _ => {
            let text = answer.to_string();
            let text = Lines::block("", text.strip_prefix("error: ").unwrap_or(&text));
            clap::Error::raw(answer.kind(), text)
        }
    }
}

/// clap's words as a failure: its first sentence, and what it adds.
fn usage(said: &str) -> Failure {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or("the command line was not understood");
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let failure = Failure::new(stelae_model::ExitCode::Usage, "usage", what).hint("cargo xtask --help");
    lines.filter(|line| !line.starts_with("For more information")).fold(failure, Failure::because)
}

/// Whether a command line that is wrong somewhere asks for JSON all the same.
fn asks_for_json(args: impl Iterator<Item = OsString>) -> bool {
    let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
    let pair = args.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json");
    pair || args.iter().any(|arg| arg == "--format=json")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_may_still_ask_for_json() {
        let asks = |line: &str| super::asks_for_json(line.split(' ').map(Into::into));
        assert!(asks("--format json no-such-verb") && asks("smoke --format=json --nonsense"));
        assert!(!asks("smoke --nonsense") && !asks("--format text smoke") && !asks("smoke -- --format=json"));
    }
}
