//! One line per event on stderr, written by a thread of its own: a reader that does not read holds nobody up.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{LazyLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use stelae_model::hidden::Hidden;
use stelae_model::terminal::Lines;

/// So many lines may wait to be read; what comes then is only counted.
const MOST_WAITING: usize = 4096;
/// How long the end of the gateway waits for its last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

static WRITER: LazyLock<SyncSender<Entry>> = LazyLock::new(|| {
    let (writer, entries) = sync_channel(MOST_WAITING);
    thread::spawn(|| write_all(entries));
    writer
});
static HIDDEN: LazyLock<RwLock<Hidden>> = LazyLock::new(RwLock::default);
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);

enum Entry {
    Line(String),
    /// Everything before this is written when the other end is told.
    Written(Sender<()>),
}

/// From now on these secrets are in no line.
pub(super) fn hide(secrets: &Hidden) {
    HIDDEN.write().unwrap_or_else(PoisonError::into_inner).extend(secrets);
}

/// The secrets that are in no line.
pub(super) fn hidden() -> Hidden {
    HIDDEN.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes `[source] text` as one line, whatever the text holds of others.
pub(crate) fn line(source: &str, text: fmt::Arguments<'_>) {
    if WRITER.try_send(Entry::Line(written(source, &text.to_string()))).is_err() {
        LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until everything is written that was said before; not for long.
pub(super) fn flush() {
    let (written, rest) = channel();
    if WRITER.try_send(Entry::Written(written)).is_ok() {
        rest.recv_timeout(LAST_LINES).ok();
    }
}

fn written(source: &str, text: &str) -> String {
    // Masked first: what is escaped is another text.
    let text = HIDDEN.read().unwrap_or_else(PoisonError::into_inner).masked(text);
    Lines::one(format!("[{source}] {text}")).as_str().to_owned()
}

/// One `write` per line, so that lines of other processes do not mix with ours. A closed stderr is no reason to stop
/// serving, which is why this is not `eprintln!`: that panics.
fn write_all(entries: Receiver<Entry>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "one of the places that print: what comes here was made by `Lines`"
    )]
    let write = |text: &str| std::io::stderr().lock().write_all(text.as_bytes()).ok();
    for entry in entries {
        match entry {
            Entry::Line(text) => drop(write(&text)),
            Entry::Written(told) => drop(told.send(())),
        }
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            write(&format!("[gateway] {left_out} lines were left out: nobody read what there was\n"));
        }
    }
}

/// An event of the gateway itself.
macro_rules! event {
    ($($text:tt)*) => { $crate::serve::log::line("gateway", format_args!($($text)*)) };
}
pub(super) use event;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_has_no_secret_and_nothing_that_a_terminal_acts_upon() {
        let mut secrets = Hidden::default();
        secrets.hide("log-test-hunter2");
        hide(&secrets);
        let line = written("a", "x\r\n[gateway] server \"b\" is ready \u{1b}[1A\u{202e} log-test-hunter2");
        let shown = r#"[a] x\r\n[gateway] server "b" is ready \x1b[1A\u{202e} (secret)"#;
        assert_eq!(line, format!("{shown}\n"));
    }
}
