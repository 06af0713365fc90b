//! The logs of the stack's processes, told line by line, each under the name of the process that wrote it.

use std::time::Instant;

use stelae_model::throttle::{Admission, Throttle};

use crate::process::Service;
use crate::record::Recorder;
use crate::watch::Follower;

/// More than anybody reads; the log itself has all of them.
const LINES_PER_SECOND: usize = 1_000;

/// Tells the log of one process.
#[derive(Debug)]
pub(super) struct LogReader {
    process: String,
    follower: Follower,
    throttle: Throttle,
    begun: Instant,
}

impl LogReader {
    /// From where this start of the process begins.
    pub(super) fn new(service: &Service) -> Self {
        let follower = Follower::new(service.log(), service.log_start());
        let process = service.process().to_owned();
        Self { process, follower, throttle: Throttle::new(LINES_PER_SECOND), begun: Instant::now() }
    }

    pub(super) fn poll(&mut self, recorder: &Recorder) {
        let Self { process, follower, throttle, begun } = self;
        let at = begun.elapsed();
        follower.poll(&mut |line| {
            let Admission::Tell { after_leaving_out } = throttle.admit(at) else { return };
            if after_leaving_out > 0 {
                recorder.note(format!("{after_leaving_out} lines of the log of {process} are left out here"));
            }
            let (source, text) = source_of(process, line);
            recorder.line(&source, text);
        });
    }
}

/// The gateway writes `[name] text` for what its server `name` wrote; what a service writes is its own.
fn source_of<'a>(process: &str, line: &'a str) -> (String, &'a str) {
    let named = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match named.filter(|_| process == "gateway") {
        Some((name, text)) if stelae_model::proxy::is_server_name(name) && name != "gateway" => {
            (format!("server:{name}"), text)
        }
        Some(("gateway", text)) => ("gateway".to_owned(), text),
        _ => (process.to_owned(), line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_servers_carry_their_name() {
        let source_of = |line| source_of("gateway", line);
        assert_eq!(source_of("[wordcount] hello"), ("server:wordcount".to_owned(), "hello"));
        assert_eq!(source_of("[gateway] listening"), ("gateway".to_owned(), "listening"));
        assert_eq!(source_of("[not a name] x"), ("gateway".to_owned(), "[not a name] x"));
        assert_eq!(source_of("panicked"), ("gateway".to_owned(), "panicked"));
    }

    #[test]
    fn a_service_speaks_for_nobody_else() {
        let line = "[gateway] listening";
        assert_eq!(source_of("service:a", line), ("service:a".to_owned(), line));
    }
}
