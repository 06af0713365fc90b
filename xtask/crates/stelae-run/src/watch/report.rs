//! From the verdict on a start to what a person reads.

use std::time::Duration;

use stelae_model::lifecycle::{Lacking, Rung, Verdict};
use stelae_model::{ExitCode, Failure};

use super::wanted::Wanted;
use crate::ports::{self, Owner};
use crate::process::{Service, tree};
use crate::signals;

/// A start that did not come to "ready".
pub(super) struct Case<'a> {
    pub(super) service: &'a Service,
    pub(super) wanted: &'a Wanted,
    pub(super) stranger: Option<Owner>,
    pub(super) tail: Vec<String>,
    pub(super) elapsed: Duration,
}

impl Case<'_> {
    pub(super) fn failure(self, verdict: Verdict) -> Failure {
        let failure = self.without_log(verdict);
        let hint = format!("less {}", self.service.log());
        let failure = if failure.hint.is_none() { failure.hint(hint) } else { failure };
        failure.log_tail(self.tail)
    }

    fn without_log(&self, verdict: Verdict) -> Failure {
        let name = self.service.process();
        let after = format!("{:.1} s", self.elapsed.as_secs_f64());
        match verdict {
            Verdict::Exited(ended) => self
                .about(
                    ExitCode::ExitedBeforeReady,
                    "exited-before-ready",
                    format!("{name} ended with {ended} before it was ready"),
                )
                .extend_why(self.address_in_use()),
            Verdict::TooLate { limit, rung, status } => self
                .about(
                    ExitCode::NotReadyInTime,
                    limit.name(),
                    format!("{name} was not ready after {after} ({} limit)", limit.name()),
                )
                .because(format!("it stood on rung {rung}: {status}"))
                .extend_why(self.listens_elsewhere(rung)),
            Verdict::Incomplete { rung, status, lacking } => self.incomplete(rung, status, &lacking),
            Verdict::Failed { rung, why } => self
                .about(ExitCode::NotReadyInTime, "rung-failed", format!("{name} cannot become ready"))
                .because(format!("on rung {rung}: {why}")),
            Verdict::PortTaken => self.port_taken(),
            Verdict::BudgetPassed { rung, status } => self
                .about(
                    ExitCode::BudgetExhausted,
                    "budget-exhausted",
                    format!("the budget was exhausted before {name} was ready"),
                )
                .because(format!("it stood on rung {rung}: {status}")),
            Verdict::Interrupted(code) => signals::interrupted(code, &format!("the start of {name}")),
            Verdict::CutShort => self.about(
                ExitCode::StepFailed,
                "cut-short",
                format!("{name} was not waited for any longer, as something else had failed"),
            ),
            Verdict::Ready => Failure::unexpected(format!("{name} is ready, and was reported as failed")),
        }
    }

    fn about(&self, code: ExitCode, kind: &str, what: String) -> Failure {
        let failure = Failure::new(code, kind, what).on(format!(
            "pid {}: {}",
            self.service.pid(),
            self.service.command()
        ));
        match self.wanted.address {
            Some(address) => failure.on(address.to_string()),
            None => failure,
        }
    }

    fn incomplete(&self, rung: Rung, status: String, lacking: &Lacking) -> Failure {
        let name = self.service.process();
        if rung == Rung::Canary {
            let what = format!("{name} answers, but its canary call does not work");
            return self.about(ExitCode::ReadyButIncomplete, "canary-failed", what).because(status);
        }
        if lacking.missing.is_empty() {
            let what = format!("{name} answers, but not every required server is ready");
            return self
                .about(ExitCode::ReadyButIncomplete, "servers-not-ready", what)
                .extend_why(lacking.reasons.clone());
        }
        let what = format!("{name} answers, but tools are missing: {}", lacking.missing.join(", "));
        let there = if lacking.present.is_empty() { "none".to_owned() } else { lacking.present.join(", ") };
        self.about(ExitCode::ReadyButIncomplete, "tools-missing", what)
            .because(format!("tools that are there: {there}"))
            .extend_why(lacking.reasons.clone())
    }

    fn port_taken(&self) -> Failure {
        match self.wanted.address {
            Some(address) => {
                let us = i32::try_from(std::process::id()).unwrap_or(0);
                let ours = self.stranger.as_ref().is_some_and(|owner| owner.is_below(us));
                ports::port_taken(address, self.stranger.as_ref(), ours, &self.wanted.port_variable)
            }
            None => Failure::unexpected("a port is taken that nobody asked for"),
        }
    }

    /// What it said last about an address that is taken, which is not known to be its own.
    fn address_in_use(&self) -> Vec<String> {
        let line = self.tail.iter().rfind(|line| says_address_in_use(line));
        line.map(|line| format!("its log says: {}", line.trim())).into_iter().collect()
    }

    /// The usual reason for "nothing listens": it does, somewhere else.
    fn listens_elsewhere(&self, rung: Rung) -> Vec<String> {
        if rung != Rung::Listening {
            return Vec::new();
        }
        let below = tree::descendants(self.service.pid()).into_iter().map(|row| row.pid);
        let own: Vec<i32> = std::iter::once(self.service.pid()).chain(below).collect();
        let elsewhere = ports::listening_addresses(&own);
        // It may have come to listen where it should since it was looked at last.
        let elsewhere = elsewhere.into_iter().filter(|address| Some(*address) != self.wanted.address);
        elsewhere.map(|address| format!("it listens on {address} instead")).collect()
    }
}

trait ExtendWhy {
    fn extend_why(self, causes: Vec<String>) -> Self;
}

impl ExtendWhy for Failure {
    fn extend_why(self, causes: Vec<String>) -> Self {
        causes.into_iter().fold(self, Failure::because)
    }
}

/// Whether a log line says, in the words of any runtime that we know, that an address is taken.
pub(super) fn says_address_in_use(line: &str) -> bool {
    const WORDS: [&str; 4] = ["address already in use", "address in use", "eaddrinuse", "addrinuse"];
    let line = line.to_ascii_lowercase();
    WORDS.iter().any(|words| line.contains(words))
}

/// Whether a log line has this port in it.
pub(super) fn names_port(line: &str, port: u16) -> bool {
    let port = port.to_string();
    line.split(|character: char| !character.is_ascii_digit()).any(|number| number == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_say_it_differently() {
        for line in [
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:9090",
            "listen tcp 127.0.0.1:9090: bind: address already in use",
            "OSError: [Errno 98] Address already in use",
            "Os { code: 98, kind: AddrInUse, message: \"Address in use\" }",
        ] {
            assert!(says_address_in_use(line), "{line}");
        }
        assert!(!says_address_in_use("listening on 127.0.0.1:9090"));
    }

    #[test]
    fn a_port_is_named_by_all_of_its_digits() {
        assert!(names_port("listen EADDRINUSE: address already in use :::9090", 9090));
        for line in ["listen EADDRINUSE: address already in use 127.0.0.1:19090", "address in use", ""] {
            assert!(!names_port(line, 9090), "{line}");
        }
    }
}
