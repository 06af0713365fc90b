//! The one place that prints: stdout is data, stderr is talk.
//!
//! With `--format json` stdout is **one** document, whatever happens: data is kept until the end, and a failure that
//! comes after it becomes its key `failure`. (`restart --attached` writes lines of JSON instead, and says so.)

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use stelae_model::{ExitCode, Failure};
use stelae_run::signals::while_printing;

use crate::cli::Format;

/// A reader of stdout or stderr that takes nothing for so long does not read.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// Prints, in the format that was asked for. Clones print as one.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    format: Format,
    colour: bool,
    /// The document, until the end says whether a failure belongs into it.
    document: Arc<Mutex<Option<Value>>>,
    /// Why stdout did not take everything.
    lost: Arc<Mutex<Option<io::Error>>>,
    /// Nobody waits for it longer than is good: see [`Printer::patiently`].
    patient: bool,
}

impl Printer {
    /// A printer for a format; `colour` where stderr is a terminal.
    pub(crate) fn new(format: Format, colour: bool) -> Self {
        Self { format, colour, document: Arc::default(), lost: Arc::default(), patient: false }
    }

    /// Whether stdout is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a terminal may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Data, in both forms; only the one that was asked for is made. Text is printed at once, JSON at the end.
    pub(crate) fn data(&self, json: &impl Serialize, text: impl FnOnce() -> String) {
        match self.format {
            Format::Text => self.write_stdout(&text()),
            Format::Json => {
                let document = serde_json::to_value(json)
                    .unwrap_or_else(|error| json!({"schema": 1, "error": error.to_string()}));
                *self.document.lock().unwrap_or_else(PoisonError::into_inner) = Some(document);
            }
        }
    }

    /// Talk: for a person, never for a machine.
    pub(crate) fn talk(&self, text: &str) {
        // A closed stderr must not end the verb.
        self.printing(|| writeln!(io::stderr().lock(), "{text}")).ok();
    }

    /// Does some printing, and goes on when it is done, or when nobody has taken it for a while: for whoever watches over
    /// others, and may not be held up by a reader that does not read.
    pub(crate) fn patiently<T: Send + 'static>(
        &self,
        print: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, is_done) = mpsc::channel();
        let printer = Self { patient: true, ..self.clone() };
        // The end of the process ends it, if nothing else does. Nobody may wait for it any more.
        thread::spawn(move || done.send(print(&printer)).ok());
        is_done.recv_timeout(TAKEN_WITHIN).ok()
    }

    /// A failure, for a person.
    pub(crate) fn failure(&self, failure: &Failure) {
        let red = self.colour && io::stderr().is_terminal();
        let label = if red { "\x1b[1;31merror\x1b[0m" } else { "error" };
        self.talk(&format!("{label}: {failure}"));
    }

    /// Ends the process's main function: prints what is left to print, and gives the exit code.
    pub(crate) fn finish(&self, outcome: Result<ExitCode, Failure>) -> ExitCode {
        if let Err(failure) = &outcome {
            // First for the person: whoever should read stdout may not.
            self.failure(failure);
        }
        self.document(outcome.as_ref().err());
        match self.lost.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever reads stdout has less than there is, and must not take it for all.
            Some(error) if outcome.is_ok() => {
                let failure = lost(&error);
                self.failure(&failure);
                failure.exit_code
            }
            _ => outcome.unwrap_or_else(|failure| failure.exit_code),
        }
    }

    /// Prints the document, if this is JSON and there is anything to say.
    pub(crate) fn document(&self, failure: Option<&Failure>) {
        let data = self.document.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(document) = one_document(data, failure).filter(|_| self.is_json()) {
            self.write_stdout(&format!("{document:#}\n"));
        }
    }
}

impl Printer {
    /// A signal ends a process that prints, so that no reader who does not read can hold it up; but not one that somebody
    /// else waits for no longer than is good: that one has others to watch over.
    fn printing<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.patient { print() } else { while_printing(print) }
    }

    fn write_stdout(&self, text: &str) {
        let written = self.printing(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match written {
            Ok(()) => {}
            // A reader that has seen enough (`| head`) is no failure of ours.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
        }
    }
}

/// Data and failure as one document.
fn one_document(data: Option<Value>, failure: Option<&Failure>) -> Option<Value> {
    let Some(failure) = failure else { return data };
    let mut document = data.filter(Value::is_object).unwrap_or_else(|| json!({"schema": 1}));
    document["failure"] = json!(failure);
    Some(document)
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(ExitCode::StepFailed, "stdout-unwritable", "stdout did not take everything")
        .because(error.to_string())
        .hint("make room where stdout goes to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_failure_are_one_document() {
        let failure = Failure::new(ExitCode::Drift, "stale", "it is stale");
        let both = one_document(Some(json!({"schema": 1, "changed": ["a"]})), Some(&failure)).unwrap();
        assert_eq!((&both["changed"][0], &both["failure"]["kind"]), (&json!("a"), &json!("stale")));
        let alone = one_document(None, Some(&failure)).unwrap();
        assert_eq!((&alone["schema"], &alone["failure"]["exit_code"]), (&json!(1), &json!(50)));
        assert_eq!(one_document(None, None), None);
    }
}
