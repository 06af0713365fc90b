//! Readers of the event stream, for people and machines.

mod panics;
mod terminal;

pub use panics::show_panics;
pub use terminal::{Terminal, summary};

use std::io::Write as _;

use serde_json::{Deserializer, Value};
use stelae_model::Failure;
use stelae_model::terminal::shown_json;

use crate::record::Listener;

/// Writes every record to stdout as a line of JSON: what `restart --attached --format json` gives its reader.
pub fn json_lines() -> Listener {
    Box::new(|record| {
        if let Ok(line) = serde_json::to_string(record) {
            let line = shown_json(&line) + "\n";
            #[expect(clippy::disallowed_methods, reason = "one of the places that print: JSON, escaped")]
            let mut stdout = std::io::stdout().lock();
            // The reader has gone when this fails; the run has its own record.
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).ok();
        }
    })
}

/// The failure in what a verb of ours wrote with `--format json`: in its document, which is the last one, and may stand among
/// talk.
pub(crate) fn failure_in(text: &str) -> Option<Failure> {
    let starts = text.match_indices("{\n").map(|(at, _)| at);
    let at_line_start = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'\n';
    let last = starts.filter(at_line_start).last()?;
    let document: Value = Deserializer::from_str(&text[last..]).into_iter().next()?.ok()?;
    serde_json::from_value(document.get("failure")?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stelae_model::ExitCode;

    use super::*;

    #[test]
    fn the_failure_is_in_the_last_document_which_may_stand_among_talk() {
        let failure = Failure::new(ExitCode::PrerequisiteMissing, "not-registered", "it has no room");
        let document = json!({ "schema": 1, "failure": failure });
        for text in [
            format!("error: it has no room\n   on: {{\n{document:#}\nbye\n"),
            format!("{:#}\n{document:#}\n", json!({ "schema": 1 })),
        ] {
            assert_eq!(failure_in(&text).unwrap().kind, "not-registered", "{text}");
        }
        assert!(failure_in("no document\n").is_none() && failure_in("{\n").is_none());
        assert!(failure_in(&format!("{:#}\n", json!({ "schema": 1 }))).is_none());
    }
}
