//! The one place that prints: stdout is data, stderr is talk.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use stelae_model::Failure;

use crate::cli::Format;

/// Prints, in the format that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
}

impl Printer {
    /// A printer for a format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether stdout is JSON.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Data, in both forms; only the one that was asked for is made.
    pub(crate) fn data(self, json: &impl Serialize, text: impl FnOnce() -> String) {
        match self.format {
            Format::Text => write_stdout(&text()),
            Format::Json => {
                let text = serde_json::to_string_pretty(json)
                    .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
                write_stdout(&(text + "\n"));
            }
        }
    }

    /// Talk: for a person, never for a machine.
    pub(crate) fn talk(self, text: &str) {
        // A closed stderr must not end the verb.
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// A failure, for a person.
    pub(crate) fn failure(self, failure: &Failure) {
        let red =
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
        let label = if red { "\x1b[1;31merror\x1b[0m" } else { "error" };
        self.talk(&format!("{label}: {failure}"));
    }

    /// Ends the process's main function: prints the failure, if it is one, and gives the exit code.
    pub(crate) fn finish(self, outcome: Result<stelae_model::ExitCode, Failure>) -> ExitCode {
        let code = outcome.unwrap_or_else(|failure| {
            if self.is_json() {
                self.data(&serde_json::json!({"schema": 1, "failure": failure}), String::new);
            }
            self.failure(&failure);
            failure.exit_code
        });
        ExitCode::from(code.number())
    }
}

fn write_stdout(text: &str) {
    // A reader that has seen enough (`| head`) is no failure of ours.
    io::stdout().lock().write_all(text.as_bytes()).ok();
}
