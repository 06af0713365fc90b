//! What a verb says when it does not succeed: what failed, on what, why, and what to type next.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ExitCode;
use crate::hidden::Hidden;
use crate::terminal::{CONTINUED, write_continued};

/// A typed failure at the edge of a verb: one per run, printed once, written into the verdict.
///
/// Texts follow one style: lowercase, no full stop, the value that was wrong in quotes. `kind` is the stable name of
/// the cause (`port-taken`, `unknown-variable`): tests and dispatchers match on it, people read the sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The exit code that this failure ends the process with.
    pub exit_code: ExitCode,
    /// Stable, kebab-case name of the cause.
    pub kind: String,
    /// What failed: one sentence.
    pub what: String,
    /// On what: path, pid, port, url; in the order in which a reader needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Why: the chain of causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// A command, or an action, that is likely to help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The end of the log of whatever is guilty, oldest line first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

impl Failure {
    /// A failure of which only the kind, the code and the sentence are known yet.
    pub fn new(exit_code: ExitCode, kind: &str, what: impl Into<String>) -> Self {
        Self {
            exit_code,
            kind: kind.to_owned(),
            what: what.into(),
            on: Vec::new(),
            why: Vec::new(),
            hint: None,
            log_tail: Vec::new(),
        }
    }

    /// A bug of ours: something that the code holds to be impossible.
    pub fn unexpected(what: impl Into<String>) -> Self {
        Self::new(ExitCode::Unexpected, "unexpected", what)
            .hint("this is a bug in the harness: please report it with the run's folder")
    }

    /// Adds what it happened on.
    #[must_use]
    pub fn on(mut self, place: impl Into<String>) -> Self {
        self.on.push(place.into());
        self
    }

    /// Adds the next cause down the chain.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.why.push(cause.into());
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Attaches the end of the guilty log.
    #[must_use]
    pub fn log_tail(mut self, lines: Vec<String>) -> Self {
        self.log_tail = lines.into_iter().map(|line| shortened(&line, LONGEST_QUOTE)).collect();
        self
    }

    /// The same without the secrets that it quotes, where it quotes a whole one.
    #[must_use]
    pub fn masked(mut self, hidden: &Hidden) -> Self {
        let texts = self.on.iter_mut().chain(&mut self.why).chain(&mut self.log_tail);
        let texts = texts.chain(&mut self.hint).chain([&mut self.what]);
        texts.for_each(|text| *text = hidden.masked(text));
        self
    }
}

/// The text a person reads: `error:` is put before it by the one place that prints. What it quotes of others is safe for a
/// terminal, and looks like no other part: a second line of a text stands after [`CONTINUED`].
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_continued(f, &self.what)?;
        let mut part = |label: &str, text: &str| {
            write!(f, "\n{label}")?;
            write_continued(f, text)
        };
        self.on.iter().try_for_each(|place| part("   on: ", place))?;
        self.why.iter().try_for_each(|cause| part("  why: ", cause))?;
        if !self.log_tail.is_empty() {
            part("  log:", "")?;
            self.log_tail.iter().try_for_each(|line| part(CONTINUED, line))?;
        }
        self.hint.iter().try_for_each(|hint| part(" hint: ", hint))
    }
}

impl std::error::Error for Failure {}

/// A line that is quoted is for a person to read.
const LONGEST_QUOTE: usize = 500;

/// The text, or its first `longest` characters and how many bytes there are more.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} bytes more)", &text[..at], text.len() - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_quoted_nowhere() {
        let mut hidden = Hidden::default();
        hidden.hide("hunter2");
        let said = |place: &str| format!("{place} hunter2");
        let failure = Failure::new(ExitCode::StepFailed, "kind", said("what")).on(said("on"));
        let failure = failure.because(said("why")).hint(said("hint")).log_tail(vec![said("log")]);
        let text = failure.masked(&hidden).to_string();
        assert_eq!((text.matches("hunter2").count(), text.matches("(secret)").count()), (0, 5), "{text}");
    }

    #[test]
    fn text_has_what_on_why_log_hint_in_this_order() {
        let failure = Failure::new(ExitCode::PortTaken, "port-taken", "port 9090 is taken by a stranger")
            .on("127.0.0.1:9090")
            .because("pid 12 listens on it")
            .hint("kill 12")
            .log_tail(vec!["bind: address in use".into()]);
        let text = failure.to_string();
        let order: Vec<_> =
            ["port 9090", "on: 127", "why: pid", "| bind", "hint: kill"].map(|part| text.find(part)).into();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{text}");
    }

    #[test]
    fn what_is_quoted_is_no_line_of_its_own_and_nothing_that_a_terminal_acts_upon() {
        let hostile = "x\u{1b}[2J\n hint: rm -rf ~\r\nerror: y";
        let failure = Failure::new(ExitCode::StepFailed, "kind", hostile).on(hostile).because(hostile);
        let text = failure.hint(hostile).log_tail(vec![hostile.to_owned()]).to_string();
        let ours = ["x\\x1b[2J", "   on: x", "  why: x", "  log:", "    | ", " hint: x"];
        assert!(text.lines().all(|line| ours.iter().any(|ours| line.starts_with(ours))), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        // One that quotes another reads the same.
        let outer = Failure::unexpected("outer").because(text).to_string();
        assert!(outer.contains("\n    |  hint: x\\x1b[2J") && !outer.contains("|     |"), "{outer}");
    }

    #[test]
    fn a_long_line_is_shortened_between_two_characters() {
        assert_eq!(
            (shortened("äöü", 3), shortened("äöü", 2)),
            ("äöü".to_owned(), "äö… (2 bytes more)".to_owned())
        );
        let failure = Failure::unexpected("x").log_tail(vec!["y".repeat(100_000)]);
        assert!(failure.log_tail[0].len() < 600);
    }
}
