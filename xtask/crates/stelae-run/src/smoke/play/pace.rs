//! How long an agent waited for what. Transcripts have no times: a call that took four seconds looks like one that took none.

use std::time::{Duration, Instant};

use stelae_model::agent::Agent;
use stelae_model::transcript::Transcript;

/// A wait that is worth a word.
const LONG: Duration = Duration::from_secs(2);
/// What comes after so many bytes is a flood, and nobody waits for anything in it.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// The pace of a transcript, while it is written.
#[derive(Debug)]
pub(super) struct Pace {
    agent: Agent,
    last: Instant,
    waiting_for: String,
    long: Vec<String>,
    bytes: usize,
}

impl Pace {
    /// The agent is started now.
    pub(super) fn new(agent: Agent) -> Self {
        let waiting_for = "the agent's first word: its servers and its model come before".to_owned();
        Self { agent, last: Instant::now(), waiting_for, long: Vec::new(), bytes: 0 }
    }

    /// A line of the transcript has come.
    pub(super) fn line(&mut self, line: &str) {
        self.until(Instant::now());
        self.bytes = self.bytes.saturating_add(line.len());
        if self.bytes > MOST_BYTES {
            return;
        }
        let begun = Transcript::read(self.agent, "", line).ok();
        let begun = begun.and_then(|read| read.unended().last().map(|tool| (*tool).to_owned()));
        self.waiting_for = match begun {
            Some(tool) => format!("the answer of {tool}"),
            None => "what the agent, or its model, does next".to_owned(),
        };
    }

    /// The agent has ended. Gives each long wait, in order.
    pub(super) fn over(mut self) -> Vec<String> {
        self.until(Instant::now());
        self.long
    }

    fn until(&mut self, now: Instant) {
        let waited = now.duration_since(self.last);
        if waited >= LONG {
            self.long.push(format!("{:.1} s for {}", waited.as_secs_f64(), self.waiting_for));
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_named_by_what_came_before_it() {
        let mut pace = Pace::new(Agent::Codex);
        let step = |pace: &mut Pace, line: &str, seconds: u64| {
            pace.line(line);
            pace.last = pace.last.checked_sub(Duration::from_secs(seconds)).unwrap();
        };
        pace.last = pace.last.checked_sub(Duration::from_secs(3)).unwrap();
        step(&mut pace, r#"{"type":"thread.started","thread_id":"t"}"#, 0);
        let call = r#"{"type":"item.started","item":{"type":"mcp_tool_call","id":"i","server":"s","tool":"grep","status":"in_progress"}}"#;
        step(&mut pace, call, 4);
        step(&mut pace, r#"{"type":"turn.completed"}"#, 5);
        let long = pace.over();
        let waits = [(3.0, "first word"), (4.0, "the answer of grep"), (5.0, "does next")];
        for (line, (seconds, what)) in long.iter().zip(waits) {
            // The test may itself be kept waiting.
            let told: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
            assert!(told >= seconds && line.contains(what), "{long:?}");
        }
        assert_eq!(long.len(), 3);
    }
}
