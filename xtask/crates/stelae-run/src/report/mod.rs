//! Readers of the event stream, for people and machines.

mod terminal;

pub use terminal::{Terminal, summary};

use std::io::Write as _;

use crate::record::Listener;

/// Writes every record to stdout as a line of JSON: what `restart --attached --format json` gives its reader.
pub fn json_lines() -> Listener {
    Box::new(|record| {
        if let Ok(line) = serde_json::to_string(record) {
            // Whoever reads has gone when this fails; the run has its own record.
            writeln!(std::io::stdout().lock(), "{line}").ok();
        }
    })
}
