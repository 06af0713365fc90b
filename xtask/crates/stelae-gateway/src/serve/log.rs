//! One line per event on stderr.

use std::fmt;
use std::io::Write;

/// Writes `[source] text` as one line.
///
/// One `write` per line, so that lines of concurrent writers do not mix. A closed stderr is no reason to stop serving,
/// which is why this is not `eprintln!`: that panics.
pub(super) fn line(source: &str, text: fmt::Arguments<'_>) {
    let line = format!("[{source}] {text}\n");
    std::io::stderr().lock().write_all(line.as_bytes()).ok();
}

/// An event of the gateway itself.
macro_rules! event {
    ($($text:tt)*) => { $crate::serve::log::line("gateway", format_args!($($text)*)) };
}
pub(super) use event;
