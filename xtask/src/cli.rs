//! The grammar: flags that every verb takes, and the verbs.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Parser, ValueEnum};

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
        let code =
            if answer.use_stderr() { stelae_model::ExitCode::Usage } else { stelae_model::ExitCode::Pass };
        // Nothing sensible can be done when even the help text cannot be written.
        answer.print().ok();
        ExitCode::from(code.number())
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        super::Cli::command().debug_assert();
    }
}
