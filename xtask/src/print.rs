//! The one place that prints: stdout is data, stderr is talk. Text is made of [`Lines`], which no text of others breaks.
//!
//! With `--format json` stdout is **one** document, whatever happens: data is kept until the end, and a failure that
//! comes after it becomes its key `failure`. Where a watchdog watches over the verb, the worker hands its document over, and
//! the watchdog prints it, so that what it finds after the worker's end stands in the same document.
//! (`restart --attached` writes lines of JSON instead, and says so.)

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use stelae_model::terminal::{Lines, shown, shown_json};
use stelae_model::{ExitCode, Failure};
use stelae_run::guardian::guarded;
use stelae_run::signals::while_printing;

use crate::cli::Format;

/// A reader of stderr that takes nothing for so long does not read.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// The same for stdout: a person may be reading a long document page by page.
const DATA_TAKEN_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Prints, in the format that was asked for. Clones print as one.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    format: Format,
    colour: bool,
    /// The document, until the end says whether a failure belongs into it.
    document: Arc<Mutex<Option<Value>>>,
    /// Why stdout did not take everything.
    lost: Arc<Mutex<Option<io::Error>>>,
    /// Another thread waits for it no longer than is good: see [`Printer::patiently`].
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
    pub(crate) fn data(&self, json: &impl Serialize, text: impl FnOnce() -> Lines) {
        match self.format {
            Format::Text => self.write_stdout(text().as_str()),
            Format::Json => {
                let document = serde_json::to_value(json)
                    .unwrap_or_else(|error| json!({"schema": 1, "error": error.to_string()}));
                self.take_over(Some(document));
            }
        }
    }

    /// A document that another process made, to be printed by this one.
    pub(crate) fn take_over(&self, document: Option<Value>) {
        *lock(&self.document) = document;
    }

    /// Talk: one line for a person, never for a machine.
    pub(crate) fn talk(&self, text: &str) {
        self.show(&Lines::one(text));
    }

    /// Talk of several lines.
    pub(crate) fn show(&self, lines: &Lines) {
        self.write_stderr(lines.as_str());
    }

    /// Does some printing, and goes on when it is done, or when its reader has taken nothing for a while: for the process that
    /// watches over others, and may not be held up by a reader that does not read.
    pub(crate) fn patiently<T: Send + 'static>(
        &self,
        at_most: Duration,
        print: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, is_done) = mpsc::channel();
        let printer = Self { patient: true, ..self.clone() };
        // The end of the process ends it, if nothing else does. The other end may have gone.
        thread::spawn(move || done.send(print(&printer)).ok());
        is_done.recv_timeout(at_most).ok()
    }

    /// A failure, for a person.
    pub(crate) fn failure(&self, failure: &Failure) {
        let label = if self.colour && stderr().is_terminal() { "\x1b[1;31merror\x1b[0m" } else { "error" };
        self.write_stderr(&format!("{label}: {failure}\n"));
    }

    /// Ends the main function of a process that no watchdog watches over, or of a worker: prints what is left to print (a
    /// worker hands its document over), and gives the exit code.
    pub(crate) fn finish(&self, outcome: &Result<ExitCode, Failure>) -> ExitCode {
        if let Err(failure) = outcome {
            // First for the person: the reader of stdout may not read.
            self.failure(failure);
        }
        let document = self.finished(outcome.as_ref().err());
        match guarded().zip(document.as_ref()) {
            Some((guarded, document)) => {
                if let Err(error) = guarded.document(document) {
                    self.lose(error);
                }
            }
            None => self.print_document(document.as_ref()),
        }
        self.code(outcome)
    }

    /// The same for a watchdog, in whose hands the document of the worker is. No reader holds it up for long.
    pub(crate) fn finish_after_worker(&self, outcome: Result<ExitCode, Failure>) -> ExitCode {
        if let Err(failure) = &outcome {
            let failure = failure.clone();
            self.patiently(TAKEN_WITHIN, move |printer| printer.failure(&failure));
        }
        if let Some(document) = self.finished(outcome.as_ref().err()) {
            let print = move |printer: &Self| {
                // Nothing is left to be watched over: here a signal ends a process that waits for its reader.
                Self { patient: false, ..printer.clone() }.print_document(Some(&document));
            };
            // A verb that was interrupted, or did not end by itself, waits for no slow reader.
            let signals = [ExitCode::Hangup, ExitCode::Interrupted, ExitCode::Terminated];
            let patience = match &outcome {
                Ok(code) if !signals.contains(code) => DATA_TAKEN_WITHIN,
                _ => TAKEN_WITHIN,
            };
            if self.patiently(patience, print).is_none() {
                self.lose(io::Error::other("its reader took nothing for too long"));
            }
        }
        let (printer, ended) = (self.clone(), outcome.clone());
        let code = outcome.unwrap_or_else(|failure| failure.exit_code);
        let told = self.patiently(TAKEN_WITHIN, move |patient| patient.code(&ended));
        told.unwrap_or_else(|| if printer.lost_anything() { without_output(code) } else { code })
    }

    /// Says something beside a worker, and waits for its reader no longer than is good.
    pub(crate) fn talk_beside(&self, text: String) {
        self.patiently(TAKEN_WITHIN, move |printer| printer.talk(&text));
    }

    /// Prints a failure as the whole document, where that is JSON.
    pub(crate) fn failure_document(&self, failure: &Failure) {
        let document = self.finished(Some(failure));
        self.print_document(document.as_ref());
    }
}

impl Printer {
    /// The document, if this is JSON and there is anything to say.
    fn finished(&self, failure: Option<&Failure>) -> Option<Value> {
        let data = lock(&self.document).take();
        one_document(data, failure).filter(|_| self.is_json())
    }

    fn print_document(&self, document: Option<&Value>) {
        if let Some(document) = document {
            self.write_stdout(&format!("{}\n", shown_json(&format!("{document:#}"))));
        }
    }

    /// The exit code: the verdict's own. What was lost of the output is told, and no pass.
    fn code(&self, outcome: &Result<ExitCode, Failure>) -> ExitCode {
        let code = outcome.as_ref().map_or_else(|failure| failure.exit_code, |&code| code);
        let Some(error) = lock(&self.lost).take() else { return code };
        self.failure(&lost(&error).on(format!("the result, which ends with {}", code.number())));
        without_output(code)
    }

    fn lost_anything(&self) -> bool {
        lock(&self.lost).is_some()
    }

    fn lose(&self, error: io::Error) {
        *lock(&self.lost) = Some(error);
    }

    /// A signal ends a process that prints, so that no reader who does not read can hold it up; but not one that another
    /// thread waits for no longer than is good: that process has others to watch over.
    fn printing<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.patient { print() } else { while_printing(print) }
    }

    fn write_stderr(&self, text: &str) {
        // A closed stderr must not end the verb.
        self.printing(|| stderr().lock().write_all(text.as_bytes())).ok();
    }

    fn write_stdout(&self, text: &str) {
        let written = self.printing(|| {
            #[expect(clippy::disallowed_methods, reason = "the one place that prints data")]
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match written {
            Ok(()) => {}
            // A reader of text that has seen enough (`| head`) is no failure of ours; of a document it has not all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.is_json() => {}
            Err(error) => self.lose(error),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that talks")]
fn stderr() -> io::Stderr {
    io::stderr()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A result that did not arrive is no pass; every other keeps its code.
fn without_output(code: ExitCode) -> ExitCode {
    if code == ExitCode::Pass { ExitCode::StepFailed } else { code }
}

/// Data and failure as one document. A failure that stands in the data already is the cause of the later one.
fn one_document(data: Option<Value>, failure: Option<&Failure>) -> Option<Value> {
    let Some(failure) = failure else { return data };
    let mut document = data.filter(Value::is_object).unwrap_or_else(|| json!({"schema": 1}));
    let before = document.get("failure").and_then(|before| before.get("what")).and_then(Value::as_str);
    let failure = match before {
        Some(before) if before != failure.what => {
            failure.clone().because(format!("before that, the verb itself failed: {}", shown(before)))
        }
        _ => failure.clone(),
    };
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

    #[test]
    fn a_later_failure_keeps_the_earlier_one_as_its_cause() {
        let (first, later) = (Failure::unexpected("first"), Failure::unexpected("later"));
        let document = one_document(None, Some(&first));
        let both = one_document(document, Some(&later)).unwrap();
        assert_eq!(both["failure"]["what"], "later");
        assert_eq!(both["failure"]["why"][0], "before that, the verb itself failed: first");
    }

    #[test]
    fn what_was_lost_is_no_pass_and_takes_no_other_code() {
        let outcomes = [
            (Ok(ExitCode::Pass), ExitCode::StepFailed),
            (Ok(ExitCode::Drift), ExitCode::Drift),
            (Err(Failure::new(ExitCode::Hangup, "interrupted", "x")), ExitCode::Hangup),
        ];
        for (outcome, code) in outcomes {
            let printer = Printer::new(Format::Text, false);
            let own = outcome.as_ref().map_or_else(|failure| failure.exit_code, |&code| code);
            assert_eq!(printer.code(&outcome), own, "nothing was lost");
            printer.lose(io::Error::other("no room"));
            assert_eq!(printer.code(&outcome), code);
        }
    }
}
