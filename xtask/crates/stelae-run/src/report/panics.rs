//! What a panic says, made safe for a terminal: it quotes values, and those may be of others.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};

use stelae_model::terminal::Lines;

/// From now on panics of this process are printed on stderr as the rest is. A backtrace follows where `RUST_BACKTRACE` asks for
/// one, as ever.
pub fn show_panics() {
    panic::set_hook(Box::new(|info| {
        let lines = lines(info, &Backtrace::capture());
        #[expect(
            clippy::disallowed_methods,
            reason = "one of the places that print: what comes here was made by `Lines`"
        )]
        let mut stderr = std::io::stderr().lock();
        // A closed stderr changes nothing about the panic.
        stderr.write_all(lines.as_str().as_bytes()).ok();
    }));
}

fn lines(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> Lines {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let (payload, without) = (info.payload(), "without words");
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let mut lines = Lines::one(format!("panic: {} at {place}", said.unwrap_or(without)));
    if backtrace.status() == BacktraceStatus::Captured {
        lines.append(&Lines::block("  ", &backtrace.to_string()));
    }
    lines
}
