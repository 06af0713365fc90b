//! The run as a person sees it: plain lines, and on a terminal one live status line under them.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stelae_model::event::{Event, Record, StepOutcome};
use stelae_model::terminal::{Lines, shown};
use stelae_model::verdict::Verdict;

use crate::record::Listener;

/// How often the status line is drawn at the most: more is flicker.
const REDRAW: Duration = Duration::from_millis(50);
/// How often its seconds move when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// Prints a run's events on stderr.
#[derive(Debug)]
pub struct Terminal {
    live: bool,
    colour: bool,
    step: Option<(String, Instant)>,
    done: usize,
    detail: String,
    drawn: Option<Instant>,
}

fn lock(terminal: &Mutex<Terminal>) -> MutexGuard<'_, Terminal> {
    // Half a line printed is no reason to print nothing any more.
    terminal.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Terminal {
    /// For this process's stderr, as its environment says: `NO_COLOR` is honoured.
    pub fn new() -> Self {
        Self::with_colour(std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()))
    }

    /// For this process's stderr, coloured only if that is wanted and it is a terminal.
    pub fn with_colour(wanted: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "nothing is printed here")]
        let live = io::stderr().is_terminal();
        Self { live, colour: live && wanted, step: None, done: 0, detail: String::new(), drawn: None }
    }

    /// As a listener. On a terminal a thread keeps the status line moving, until the listener is dropped.
    pub fn listener(self) -> Listener {
        let live = self.live;
        let terminal = Arc::new(Mutex::new(self));
        if live {
            let terminal = Arc::downgrade(&terminal);
            std::thread::spawn(move || {
                while let Some(terminal) = terminal.upgrade() {
                    lock(&terminal).tick();
                    drop(terminal);
                    std::thread::sleep(TICK);
                }
            });
        }
        Box::new(move |record| lock(&terminal).show(record))
    }

    /// What it prints of an event is one line, whatever the texts in it hold.
    fn show(&mut self, record: &Record) {
        let seconds = format!("{:>6.1}", record.at_ms as f64 / 1000.0);
        match &record.event {
            Event::RunStarted { run, verb, source, .. } => {
                self.line(&format!("{seconds}  {verb} {run} of {source}"));
            }
            Event::StepStarted { step, .. } => {
                self.step = Some((step.clone(), Instant::now()));
                self.status("");
            }
            Event::StepFinished { step, outcome, elapsed_ms } => {
                self.step = None;
                self.done += 1;
                let (mark, colour) = match outcome {
                    StepOutcome::Passed => ("ok", "32"),
                    StepOutcome::Failed => ("FAILED", "1;31"),
                    StepOutcome::Resumed => ("as before", "32"),
                };
                self.painted(&format!("{seconds}  {step}: "), colour, mark, &format!(" ({elapsed_ms} ms)"));
            }
            Event::Line { source, text } => {
                self.painted(&format!("{seconds}  "), "2", &format!("[{source}]"), &format!(" {text}"));
            }
            Event::Rung { process, rung, status } => self.status(&format!("{process}: {rung}: {status}")),
            Event::Ready { url, servers, tools, elapsed_ms, .. } => {
                let names: Vec<_> = servers.keys().map(String::as_str).collect();
                let each = match names.is_empty() {
                    true => String::new(),
                    false => format!(", each server at an endpoint of its own: {}", names.join(", ")),
                };
                let tools = tools.len();
                self.line(&format!(
                    "{seconds}  ready after {elapsed_ms} ms: {url} lists {tools} tools{each}"
                ));
            }
            Event::Call { stage, tool, status } => {
                self.line(&format!("{seconds}  {stage}: {tool}: {status}"));
            }
            Event::Note { text } => self.line(&format!("{seconds}  {text}")),
            Event::Warning { text } => {
                self.painted(&format!("{seconds}  "), "33", "warning", &format!(": {text}"));
            }
            Event::Attested { processes, differences } => {
                self.line(&format!(
                    "{seconds}  environment of {processes} processes read, {differences} differences"
                ));
            }
            Event::TornDown { signalled, survivors, elapsed_ms } => {
                let left =
                    if survivors.is_empty() { "none survived".to_owned() } else { survivors.join("; ") };
                self.line(&format!(
                    "{seconds}  torn down in {elapsed_ms} ms: {signalled} processes ended, {left}"
                ));
            }
            // The failure is printed once, at the end, by whoever prints failures.
            Event::Failed { .. } | Event::Verdict { .. } => self.clear(),
        }
    }

    fn line(&mut self, text: &str) {
        self.painted(text, "", "", "");
    }

    /// One line, of which a part is coloured. Only the colour is ours to say in a terminal's language.
    fn painted(&mut self, before: &str, colour: &str, part: &str, after: &str) {
        let part = if part.is_empty() { String::new() } else { self.paint(colour, &shown(part)) };
        self.clear();
        write(&format!("{}{part}{}\n", shown(before), shown(after)));
        self.status("");
    }

    fn status(&mut self, detail: &str) {
        detail.clone_into(&mut self.detail);
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.tick();
        }
    }

    fn tick(&mut self) {
        let Some((step, since)) = self.step.as_ref().filter(|_| self.live) else { return };
        let (number, seconds) = (self.done + 1, since.elapsed().as_secs_f64());
        let text = format!("step {number}: {step} {seconds:.1} s {}", self.detail);
        let text: String = shown(&text).chars().take(100).collect();
        write(&format!("\r\x1b[K{}", self.paint("36", &text)));
        self.drawn = Some(Instant::now());
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            write("\r\x1b[K");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "one of the places that print: what comes here was made by `shown`"
)]
fn write(text: &str) {
    // A closed stderr must not end a run.
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

/// The verdict as text for stdout: the steps, and one sentence.
pub fn summary(verdict: &Verdict, folder: &str) -> Lines {
    let mut lines = Lines::default();
    for step in &verdict.steps {
        let outcome = match step.outcome {
            Some(StepOutcome::Passed) => "ok",
            Some(StepOutcome::Failed) => "FAILED",
            Some(StepOutcome::Resumed) => "as before",
            None => "not reached",
        };
        lines.push(format!("{:<20} {outcome:<12} {:>8} ms", step.step, step.elapsed_ms));
    }
    for warning in &verdict.warnings {
        lines.push(format!("warning: {warning}"));
    }
    let word = if verdict.failure.is_none() { "pass" } else { "fail" };
    lines.push(format!("{word} ({}): {}", verdict.exit_code.number(), verdict.sentence));
    lines.push(format!("evidence: {folder}"));
    lines
}
