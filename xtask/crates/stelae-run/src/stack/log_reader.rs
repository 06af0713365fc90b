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
    /// Absent as long as the watch reads: a second reader, asked at each line of the first, would read a whole backlog
    /// within one look, and keep the watch from the exit, the signals and the limits.
    follower: Option<Follower>,
    throttle: Throttle,
    begun: Instant,
}

impl LogReader {
    /// For a process that has just been started, and is watched.
    pub(super) fn new(service: &Service) -> Self {
        let process = service.process().to_owned();
        Self { process, follower: None, throttle: Throttle::new(LINES_PER_SECOND), begun: Instant::now() }
    }

    /// Goes on where the watch stopped.
    pub(super) fn go_on_from(&mut self, service: &Service, offset: u64) {
        self.follower = Some(Follower::new(service.log(), offset));
    }

    pub(super) fn poll(&mut self, recorder: &Recorder) {
        let Self { process, follower, throttle, begun } = self;
        if let Some(follower) = follower {
            follower.poll(&mut |line| tell(process, line, throttle, *begun, recorder));
        }
    }

    pub(super) fn tell(&mut self, line: &str, recorder: &Recorder) {
        tell(&self.process, line, &mut self.throttle, self.begun, recorder);
    }
}

fn tell(process: &str, line: &str, throttle: &mut Throttle, begun: Instant, recorder: &Recorder) {
    let Admission::Tell { after_leaving_out } = throttle.admit(begun.elapsed()) else { return };
    if after_leaving_out > 0 {
        recorder.note(format!("{after_leaving_out} lines of the log of {process} are left out here"));
    }
    let (source, text) = source_of(process, line);
    recorder.line(&source, text);
}

/// The gateway writes `[name] text` for what its server `name` wrote; what a service writes is its own.
fn source_of<'a>(process: &str, line: &'a str) -> (String, &'a str) {
    let named = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match named.filter(|_| process == "gateway") {
        Some((name, text)) if stelae_model::proxy::is_plain_name(name) && name != "gateway" => {
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
