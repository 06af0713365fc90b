//! One process of the stack: started, watched until it is ready, and started again as long as it may be.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Invocation;
use stelae_model::event::Event;
use stelae_model::lifecycle::{AfterCrash, Crash, Crashes, Ended, StopLimits};
use stelae_model::{ExitCode, Failure};

use super::first_crash::FirstCrash;
use super::log_reader::LogReader;
use crate::deadline::Deadline;
use crate::ports;
use crate::process::{Service, Session, Stdin};
use crate::record::Recorder;
use crate::signals::{self, Interrupt};
use crate::tail::tail_from;
use crate::watch::{Progress, Ready, Wanted, wait_ready_unless};

/// Between two looks at what ends a pause.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long what a crashed process has left behind may take to go. Its head is gone, so nothing of it ends in order.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// What a process of the stack finds on its standard input.
#[derive(Debug)]
pub(super) enum Input {
    /// Nothing.
    Nothing,
    /// A listening socket: the one that was made before anything was started, and a new one at each later start.
    Listener(SocketAddr, Option<TcpListener>),
}

/// What everyone who watches a process is told by, and stops for.
#[derive(Clone, Copy)]
pub(super) struct Watching<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) interrupt: &'a Interrupt,
    pub(super) deadline: Deadline,
    /// Somebody else has failed.
    pub(super) cut: &'a AtomicBool,
}

/// One process of the stack.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    invocation: Invocation,
    input: Input,
    log: Utf8PathBuf,
    wanted: Wanted,
    grace: Duration,
    /// In place of the hint that a taken port gets by itself.
    port_hint: Option<String>,
    crashes: Crashes,
    first_crash: FirstCrash,
    /// When it was started for the first time.
    begun: Option<Instant>,
    running: Option<Running>,
}

/// One start of it.
#[derive(Debug)]
struct Running {
    service: Service,
    log: LogReader,
}

/// What a member is made of.
#[derive(Debug)]
pub(super) struct Description {
    /// Its name in the plan.
    pub(super) name: String,
    pub(super) invocation: Invocation,
    pub(super) input: Input,
    pub(super) log: Utf8PathBuf,
    pub(super) wanted: Wanted,
    pub(super) grace: Duration,
    pub(super) restarts: u32,
    pub(super) port_hint: Option<String>,
}

impl Member {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// Exit 40, `log-unwritable`: what an earlier start left beside the log cannot be removed.
    pub(super) fn new(description: Description) -> Result<Self, Failure> {
        let Description { name, invocation, input, log, wanted, grace, restarts, port_hint } = description;
        let first_crash = FirstCrash::beside(&log).map_err(|error| {
            let what = "the log of an earlier crash cannot be removed";
            Failure::new(ExitCode::PrerequisiteMissing, "log-unwritable", what)
                .on(log.with_extension("first-crash.log").to_string())
                .because(error.to_string())
        })?;
        let crashes = Crashes::new(restarts);
        let (begun, running) = (None, None);
        Ok(Self {
            name,
            invocation,
            input,
            log,
            wanted,
            grace,
            port_hint,
            crashes,
            first_crash,
            begun,
            running,
        })
    }

    /// Its name in the plan.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its label.
    pub(super) fn process(&self) -> &str {
        &self.invocation.process
    }

    /// Its log.
    pub(super) fn log(&self) -> &Utf8Path {
        &self.log
    }

    /// The longest time that one start of it may take, restarts included.
    pub(super) fn ceiling(&self) -> Duration {
        self.wanted.patience.ceiling
    }

    /// The pid of the start that runs.
    pub(super) fn pid(&self) -> i32 {
        self.running.as_ref().map_or(0, |running| running.service.pid())
    }

    /// Program and arguments of the start that runs.
    pub(super) fn command(&self) -> &str {
        self.running.as_ref().map_or(self.invocation.program.as_str(), |running| running.service.command())
    }

    /// Tells what it wrote since the last time.
    pub(super) fn tell_log(&mut self, recorder: &Recorder) {
        if let Some(running) = &mut self.running {
            running.log.poll(recorder);
        }
    }

    /// How it ended, if it was started and has ended.
    pub(super) fn try_exit(&mut self) -> Option<Ended> {
        self.running.as_mut().and_then(|running| running.service.try_exit())
    }

    /// The last lines of the start that ran last.
    pub(super) fn tail(&self) -> Vec<String> {
        let running = self.running.as_ref();
        running.map(|running| tail_from(&self.log, running.service.log_start())).unwrap_or_default()
    }

    /// Starts it and waits until it is ready, again and again as long as it may be; `died` is the failure of one that was
    /// ready before. All of it together takes no longer than its ceiling.
    ///
    /// # Errors
    /// Everything that [`crate::watch::wait_ready`] finds; `crash-loop`, exit 30, when it ended again and again; `died`,
    /// when it may not be started again; what a start can fail of.
    pub(super) fn bring_up(&mut self, died: Option<Failure>, cx: Watching<'_>) -> Result<Ready, Failure> {
        let ceiling = Deadline::after(self.ceiling());
        if let Some(died) = died {
            self.recover(died, ceiling, cx)?;
        }
        loop {
            let failure = match self.attempt(ceiling, cx) {
                Ok(ready) => return Ok(ready),
                Err(failure) => self.with_port_hint(failure),
            };
            if failure.exit_code != ExitCode::ExitedBeforeReady {
                return Err(self.with_history(failure));
            }
            self.recover(failure, ceiling, cx)?;
        }
    }

    /// What is to be said of one that has ended while it was ready, if it is not started again; `died` is its failure.
    pub(super) fn last_word(&mut self, died: &Failure) -> Option<Failure> {
        if !self.crashes.exhausted() {
            return None;
        }
        let crash = self.crash();
        match self.crashes.exited(crash, Duration::ZERO) {
            AfterCrash::CrashLoop { starts, first } => Some(self.crash_loop(died, starts, first)),
            AfterCrash::Over | AfterCrash::StartAgain { .. } => Some(died.clone()),
        }
    }

    fn attempt(&mut self, ceiling: Deadline, cx: Watching<'_>) -> Result<Ready, Failure> {
        self.begun.get_or_insert_with(Instant::now);
        let stdin = self.stdin()?;
        let mut service = Service::start(&self.invocation, &self.log, stdin, Session::Ours)?;
        let mut log = LogReader::new(&service);
        let mut wanted = self.wanted.clone();
        wanted.patience.ceiling = ceiling.remaining();
        let process = &self.invocation.process;
        let ready =
            wait_ready_unless(&mut service, &wanted, cx.deadline, cx.interrupt, cx.cut, &mut |progress| {
                tell(process, &progress, &mut log, cx.recorder);
            });
        if let Ok(ready) = &ready {
            log.go_on_from(&service, ready.told_until);
        }

        self.running = Some(Running { service, log });
        ready
    }

    fn stdin(&mut self) -> Result<Stdin, Failure> {
        match &mut self.input {
            Input::Nothing => Ok(Stdin::Null),
            Input::Listener(address, made) => {
                let listener = made.take().map_or_else(|| ports::listen(*address), Ok);
                let listener = listener.map_err(|taken| taken.failure(&self.wanted.port_variable))?;
                Ok(Stdin::Listener(listener))
            }
        }
    }

    /// After a crash, of which `failure` is what would be said: clears away what is left of it, and waits a little. Or
    /// says that this was the last time.
    fn recover(&mut self, failure: Failure, ceiling: Deadline, cx: Watching<'_>) -> Result<(), Failure> {
        let left = ceiling.min(cx.deadline);
        let crash = self.crash();
        match self.crashes.exited(crash, left.remaining()) {
            AfterCrash::Over => Err(failure),
            AfterCrash::CrashLoop { starts, first } => Err(self.crash_loop(&failure, starts, first)),
            AfterCrash::StartAgain { after } => {
                let pause = Deadline::after(after);
                self.keep_first_crash(cx.recorder);
                cx.recorder.warn(format!(
                    "{}, and is started again ({} of {})",
                    failure.what,
                    self.crashes.used(),
                    self.crashes.allowed()
                ));
                self.clear_away(left, cx.interrupt)?;
                self.pause(pause, cx)
            }
        }
    }

    /// How long ago it was started for the first time.
    pub(super) fn age(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    fn crash(&mut self) -> Crash {
        let at = self.age();
        Crash { ended: self.try_exit().unwrap_or(Ended::Unseen), at }
    }

    fn keep_first_crash(&mut self, recorder: &Recorder) {
        let Some(running) = self.running.as_ref().filter(|_| self.crashes.used() == 1) else { return };
        if let Err(error) = self.first_crash.keep(&self.log, running.service.log_start()) {
            recorder.evidence_failed(self.first_crash.path().as_str(), &error);
        }
    }

    /// Nothing is started again beside what is left of it.
    fn clear_away(&mut self, left: Deadline, interrupt: &Interrupt) -> Result<(), Failure> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let grace = self.grace.min(LEFTOVERS).min(left.remaining());
        running.service.stop(StopLimits { grace, ..StopLimits::default() }, interrupt).check()
    }

    fn pause(&self, pause: Deadline, cx: Watching<'_>) -> Result<(), Failure> {
        while !pause.passed() {
            if let Some(code) = cx.interrupt.check() {
                return Err(signals::interrupted(code, &format!("the start of {}", self.process())));
            }
            if cx.cut.load(Ordering::Acquire) {
                let what = format!("{} is not started again, as something else had failed", self.process());
                return Err(Failure::new(ExitCode::StepFailed, "cut-short", what));
            }
            cx.interrupt.wait(LOOK_EVERY.min(pause.remaining()));
        }
        Ok(())
    }

    fn crash_loop(&self, last: &Failure, starts: u32, first: Crash) -> Failure {
        let restarts = match starts {
            2 => "once".to_owned(),
            _ => format!("{} times", starts - 1),
        };
        let what = format!("{} ended {starts} times, and was started again {restarts}", self.process());
        let failure = Failure::new(ExitCode::ExitedBeforeReady, "crash-loop", what)
            .on(self.command())
            .on(format!("log of the first crash: {}", self.first_crash.path()))
            .because(self.first_said(first))
            .because(format!("the last time: {}", last.what));
        failure.log_tail(self.first_crash.tail()).hint(format!("less {}", self.first_crash.path()))
    }

    /// What has another reason, but came after a crash.
    fn with_history(&self, failure: Failure) -> Failure {
        match self.crashes.first().filter(|_| self.crashes.used() > 0) {
            None => failure,
            Some(first) => {
                failure.because(format!("{}; its log: {}", self.first_said(first), self.first_crash.path()))
            }
        }
    }

    fn first_said(&self, first: Crash) -> String {
        format!("the first time, it ended with {} after {:.1} s", first.ended, first.at.as_secs_f64())
    }

    fn with_port_hint(&self, failure: Failure) -> Failure {
        match &self.port_hint {
            Some(hint) if failure.exit_code == ExitCode::PortTaken => failure.hint(hint.clone()),
            _ => failure,
        }
    }
}

fn tell(process: &str, progress: &Progress<'_>, log: &mut LogReader, recorder: &Recorder) {
    let rung = |rung: &'static str, status: &str| Event::Rung {
        process: process.to_owned(),
        rung: rung.to_owned(),
        status: status.to_owned(),
    };
    match progress {
        Progress::Reached(reached) => recorder.event(rung(reached.name(), "ready")),
        Progress::Status(stands, status) => recorder.event(rung(stands.name(), status)),
        Progress::Line(line) => log.tell(line, recorder),
    }
}
