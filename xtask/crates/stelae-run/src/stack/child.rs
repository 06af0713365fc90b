//! The stack as a child process: `xtask restart --attached --format json`, seen from whoever started it.

use std::time::Duration;

use camino::Utf8Path;
use stelae_model::endpoints::Endpoints;
use stelae_model::env::Invocation;
use stelae_model::event::{Event, Record};
use stelae_model::{ExitCode, Failure};

use crate::deadline::Deadline;
use crate::guardian;
use crate::process::{Service, Session, Stdin, tree};
use crate::record::Recorder;
use crate::report::failure_in;
use crate::signals::{self, Interrupt};
use crate::tail::{tail, tail_from};
use crate::watch::Follower;

/// How often the child's events are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// More than any failure of ours has.
const MOST_BESIDES: usize = 256 * 1024;

/// Whether the stack follows whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// It ends when we end, however we end.
    EndsWithUs,
    /// It stays once it was left with [`StackChild::release`], in a session of its own; its lifetime bounds it.
    MayStay,
}

/// A stack that was started by us, and is ready.
#[derive(Debug)]
pub struct StackChild {
    service: Service,
    follower: Follower,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// What it lists.
    pub tools: Vec<String>,
    /// When the child was started, in the kernel's ticks.
    pub started: u64,
    /// What it said it failed of: said before it ends, and asked for after.
    failure: Option<Failure>,
    /// The last thing it said about its readiness.
    status: String,
    /// What it said besides records: one that fails before it has any says so in one document.
    besides: String,
}

impl StackChild {
    /// Starts it, tells its events as ours, and waits until it says that it is ready.
    ///
    /// # Errors
    /// The child's own failure, as it is; `stack-silent` (10, or 124) when the deadline passes before it says
    /// anything; 129, 130, 143 on a signal.
    pub fn start(
        invocation: &Invocation,
        log: &Utf8Path,
        attendance: Attendance,
        deadline: Deadline,
        interrupt: &Interrupt,
        recorder: &Recorder,
    ) -> Result<Self, Failure> {
        let session = match attendance {
            Attendance::EndsWithUs => Session::Ours,
            Attendance::MayStay => Session::Own,
        };
        // Also one that may stay follows us until it is released.
        let service = Service::start(invocation, log, Stdin::LifeLine, session)?;
        let follower = Follower::of_records(log, service.log_start());
        let started = tree::started_ticks(service.pid()).unwrap_or(0);
        let mut child = Self {
            service,
            follower,
            endpoints: Endpoints::default(),
            tools: Vec::new(),
            started,
            failure: None,
            status: "it never said anything".to_owned(),
            besides: String::new(),
        };
        let mut said = None;
        loop {
            // The exit is asked for before the log is read: then the log that is read is complete.
            let ended = child.service.try_exit();
            child.poll(recorder, &mut said);
            if let Some(Said::Ready { endpoints, tools }) = said {
                (child.endpoints, child.tools) = (endpoints, tools);
                return Ok(child);
            }
            if let Some(ended) = ended {
                return Err(child.failure.take().or_else(|| failure_in(&child.besides)).unwrap_or_else(
                    || {
                        Failure::new(
                            ExitCode::StepFailed,
                            "stack-ended",
                            format!("the stack's supervisor ended with {ended}, and did not say why"),
                        )
                        .on(child.service.command())
                        .log_tail(tail_from(log, child.service.log_start()))
                        .hint(format!("look at its log: {log}"))
                    },
                ));
            }
            if let Some(code) = interrupt.check() {
                return Err(signals::interrupted(code, "the start of the stack"));
            }
            if deadline.passed() {
                let code = deadline.exit_code(ExitCode::StepFailed);
                return Err(Failure::new(
                    code,
                    "stack-silent",
                    "the stack's supervisor said nothing in time",
                )
                .on(child.service.command())
                .because(child.status.clone())
                .log_tail(tail_from(log, child.service.log_start()))
                .hint(format!("look at its log: {log}")));
            }
            interrupt.wait(LOOK_EVERY.min(deadline.remaining()));
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.service.pid()
    }

    /// Where in its log its records begin.
    pub fn log_start(&self) -> u64 {
        self.service.log_start()
    }

    /// Tells what it said since the last time.
    pub fn tell(&mut self, recorder: &Recorder) {
        self.poll(recorder, &mut None);
    }

    /// Whether the stack is still up. Its supervisor says that it is not before it tears the rest down.
    ///
    /// # Errors
    /// Exit 10, `service-died`.
    pub fn check(&mut self, recorder: &Recorder) -> Result<(), Failure> {
        let ended = self.service.try_exit();
        self.poll(recorder, &mut None);
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(ended) = ended else { return Ok(()) };
        Err({
            Failure::new(
                ExitCode::StepFailed,
                "service-died",
                format!("the stack's supervisor ended with {ended}"),
            )
            .on(self.service.command())
            .log_tail(tail(self.service.log()))
            .hint(format!("look at its log: {}", self.service.log()))
        })
    }

    /// Leaves it running when we go, and when the other half of our guardian does.
    pub fn release(self) -> i32 {
        let pid = self.service.release();
        if let Some(guarded) = guardian::guarded() {
            guarded.release(pid);
        }
        pid
    }

    /// Reads its events. Keeps its failure, if it said one; sets `said` when it said that it is ready.
    fn poll(&mut self, recorder: &Recorder, said: &mut Option<Said>) {
        let Self { follower, failure: failed, status: last, besides, .. } = self;
        follower.poll(&mut |line| {
            let Ok(record) = serde_json::from_str::<Record>(line) else {
                recorder.line("restart", line);
                if besides.len() + line.len() < MOST_BESIDES {
                    *besides += line;
                    besides.push('\n');
                }
                return;
            };
            match record.event {
                Event::Ready { ref url, ref servers, ref tools, .. } => {
                    let endpoints = Endpoints { url: url.clone(), servers: servers.clone() };
                    *said = Some(Said::Ready { endpoints, tools: tools.clone() });
                    recorder.event(record.event);
                }
                Event::Failed { failure, .. } => *failed = Some(failure),
                // Its beginning and its end are steps of ours, and so is the proof that nothing is left.
                Event::RunStarted { .. } | Event::Verdict { .. } | Event::TornDown { .. } => {}
                event => {
                    if let Event::Rung { process, rung, status } = &event {
                        *last = format!("{process} stood on {rung}: {status}");
                    }
                    recorder.event(event);
                }
            }
        });
    }
}

enum Said {
    Ready { endpoints: Endpoints, tools: Vec<String> },
}
