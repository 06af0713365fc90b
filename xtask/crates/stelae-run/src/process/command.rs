//! Short commands, each with an end: `git`, `cargo`, a verb of the clone.

use std::io;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use stelae_model::env::Invocation;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::{ExitCode, Failure};

use super::output::{Output, Source, Written};
use super::{family, launch, os, reaper};
use crate::deadline::Deadline;
use crate::signals::{self, Interrupt};

/// How long a command that has to go may take to say goodbye.
const GRACE: Duration = Duration::from_secs(1);
/// How long new output may wait before it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long is waited for those who were killed, before another look.
const DYING: Duration = Duration::from_millis(1);

/// Which of its outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What bounds a command, and where its output goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// When it has to be over.
    pub deadline: Deadline,
    /// Ends it sooner.
    pub interrupt: &'a Interrupt,
    /// File that its standard output is appended to.
    pub stdout: &'a Utf8Path,
    /// The same for standard error; may be the same file, whose lines then all count as standard output.
    pub stderr: &'a Utf8Path,
}

/// A command that came to an end by itself, whatever it said.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The label of the process.
    pub process: String,
    /// Program and arguments, for messages.
    pub command: String,
    /// How it ended.
    pub status: Ended,
    /// What it wrote to standard output: all of it, or the first and the last half MiB. For people; what a program
    /// reads is [`Finished::stdout_whole`].
    pub stdout_text: String,
    /// The same for standard error.
    pub stderr_text: String,
    /// It left processes of its group behind; they were killed.
    pub leaky: bool,
    /// From start to end.
    pub elapsed_ms: u64,
    /// The last lines of both outputs, as they came.
    pub tail: Vec<String>,
    stdout: Written,
}

impl Finished {
    /// All that it wrote to its standard output's file, read back from there.
    ///
    /// # Errors
    /// Exit code 10: `output-too-large` above 64 MiB, `output-unreadable`.
    pub fn stdout_whole(&self) -> Result<String, Failure> {
        self.stdout.whole()
    }

    /// The same where it need not be text.
    ///
    /// # Errors
    /// As for [`Finished::stdout_whole`].
    pub(crate) fn stdout_bytes(&self) -> Result<Vec<u8>, Failure> {
        self.stdout.bytes()
    }

    /// This, if it ended with status 0.
    ///
    /// # Errors
    /// `command-failed`, exit code 10, with the end of its output.
    pub fn success_or_failure(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        let what = format!("{} ended with {}", self.process, self.status);
        Err(Failure::new(ExitCode::StepFailed, "command-failed", what).on(self.command).log_tail(self.tail))
    }
}

/// [`run_unless`] nothing but a deadline or a signal ends it.
///
/// # Errors
/// As [`run_unless`].
pub fn run(
    invocation: &Invocation,
    limits: &Limits<'_>,
    on_line: &mut dyn FnMut(Stream, &str),
) -> Result<Finished, Failure> {
    run_unless(invocation, limits, on_line, &mut || None)
}

/// Runs a command until it ends by itself, and hands out its output line by line while it does.
///
/// The command gets a process group of its own, no standard input, and exactly the environment of `invocation`. Lines
/// come without colour codes and without their line break.
///
/// # Errors
/// It could not be started (`program-missing`, `folder-missing`, …: 40), it was stopped at its deadline
/// (`command-timed-out`: 10, or 124 if that was the run's budget), or by a signal to us (`interrupted`: 129, 130, 143).
/// In the last two cases its whole tree is gone when this returns. The same holds when `reason` gives a failure, which is then
/// the one that is returned; it is asked every 10 ms.
pub fn run_unless(
    invocation: &Invocation,
    limits: &Limits<'_>,
    on_line: &mut dyn FnMut(Stream, &str),
    reason: &mut dyn FnMut() -> Option<Failure>,
) -> Result<Finished, Failure> {
    let begun = Instant::now();
    let mut output = Output::open(limits.stdout, limits.stderr)?;
    let (pid, _handle) = start(invocation, &output)?;
    let ending = wait(pid, limits, &mut output, on_line, reason);
    if !matches!(ending, Ending::ByItself) {
        let grace = StopLimits { grace: GRACE, ..StopLimits::default() };
        family::stop_tree(pid, &invocation.process, grace, limits.interrupt);
    }
    let leaky = stop_leftovers(pid, invocation, limits);
    let status = reaper::forget(pid).unwrap_or(Ended::Unseen);
    output.drain(true, on_line);
    let command = launch::described(invocation);
    let process = invocation.process.clone();
    match ending {
        Ending::ByItself => Ok(Finished {
            process,
            command,
            status,
            stdout_text: output.stdout.text(),
            stderr_text: output.stderr.as_ref().map(Source::text).unwrap_or_default(),
            leaky,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            tail: output.tail.into(),
            stdout: output.stdout.written(),
        }),
        Ending::TimedOut => Err(timed_out(&process, &limits.deadline, begun.elapsed())
            .on(command)
            .log_tail(output.tail.into())),
        Ending::Interrupted(code) => {
            Err(signals::interrupted(code, &process).on(command).log_tail(output.tail.into()))
        }
        Ending::Pointless(failure) => {
            let after = begun.elapsed().as_secs_f64();
            Err(failure.because(format!("{process} was ended for that, {after:.1} s after its start")))
        }
    }
}

enum Ending {
    ByItself,
    TimedOut,
    Interrupted(ExitCode),
    /// What it needs is gone.
    Pointless(Failure),
}

fn timed_out(process: &str, deadline: &Deadline, after: Duration) -> Failure {
    let what = format!("{process} was stopped after {:.1} s", after.as_secs_f64());
    let why = if deadline.is_budget() { "the budget of the run is exhausted" } else { "its limit passed" };
    Failure::new(deadline.exit_code(ExitCode::StepFailed), "command-timed-out", what).because(why)
}

#[allow(clippy::disallowed_methods, reason = "this module is the one that starts processes")]
fn start(invocation: &Invocation, output: &Output) -> Result<(i32, duct::Handle), Failure> {
    let (program, arguments) = invocation.words();
    let expression = duct::cmd(program, arguments)
        .dir(invocation.cwd.as_str())
        .full_env(launch::environment(invocation))
        .stdin_null()
        .stdout_file(output.stdout.writer()?)
        .stderr_file(output.stderr.as_ref().unwrap_or(&output.stdout).writer()?)
        .unchecked()
        .before_spawn(|command| {
            command.process_group(0);
            Ok(())
        });
    let started = reaper::spawn(|| {
        let handle = expression.start()?;
        let pid =
            handle.pids().first().copied().ok_or_else(|| io::Error::other("a command without a process"))?;
        Ok((pid, handle))
    });
    started.map_err(|error| launch::not_started(invocation, &error))
}

fn wait(
    pid: i32,
    limits: &Limits<'_>,
    output: &mut Output,
    on_line: &mut dyn FnMut(Stream, &str),
    reason: &mut dyn FnMut() -> Option<Failure>,
) -> Ending {
    let handle = os::process_row(pid).and_then(|row| os::Handle::open(&row));
    let wakers = limits.interrupt.wakers();
    loop {
        output.drain(false, on_line);
        if reaper::has_ended(pid) {
            return Ending::ByItself;
        }
        if let Some(code) = limits.interrupt.check() {
            return Ending::Interrupted(code);
        }
        if let Some(failure) = reason() {
            return Ending::Pointless(failure);
        }
        if limits.deadline.passed() {
            return Ending::TimedOut;
        }
        os::wait_any(handle.iter(), &wakers, LOOK_EVERY.min(limits.deadline.remaining()));
    }
}

/// Stops what is left of the command's group; says whether there was something.
fn stop_leftovers(pid: i32, invocation: &Invocation, limits: &Limits<'_>) -> bool {
    // Only after the leader's status was taken does the signal 0 tell whether the group has anyone else.
    let Some(group) = reaper::status(pid).and_then(|_| Pid::from_raw(pid)) else { return false };
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let ceiling = Deadline::after(StopLimits::at_once().longest());
    loop {
        // By its number first: without a family, the orphans of the group are somebody else's children.
        let _gone = kill_process_group(group, Signal::KILL);
        family::stop_tree(pid, &invocation.process, StopLimits::at_once(), limits.interrupt);
        // One look at the table can miss who was forked meanwhile, and who was killed takes a moment to die.
        if nobody_runs_in(group) || ceiling.passed() {
            return true;
        }
        os::wait_any(std::iter::empty(), &[], DYING);
    }
}

/// Whether nobody is left in the group but zombies, which are for whoever is their parent.
fn nobody_runs_in(group: Pid) -> bool {
    let number = group.as_raw_nonzero().get();
    let only_zombies = || {
        let rows = os::process_table().unwrap_or_default();
        let mut members = rows.iter().filter(|row| row.group == number).peekable();
        members.peek().is_some() && members.all(|row| row.zombie)
    };
    test_kill_process_group(group).is_err() || only_zombies()
}
