//! The outer half: it starts the inner one, passes signals on, answers questions, and cleans up after it.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use stelae_model::lifecycle::{Ended, StopLimits, StoppedProcess, TeardownProof};
use stelae_model::{ExitCode, Failure, Isolation};

use super::document::Document;
use super::inner::{LIMITS, MARGIN};
use super::line::{Listener, Speaker, ToInner, ToOuter};
use super::live::LiveFile;
use super::outside;
use crate::deadline::Deadline;
use crate::process::{self, Family, OtherHalf, RELEASED};
use crate::signals::{self, Interrupt};

/// How often the inner half is looked at, when nothing else wakes us.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An inner half that was stopped (SIGSTOP) for so long is continued: it guards nobody, and holds no deadline.
const STOPPED_AT_MOST: Duration = Duration::from_secs(5);
/// From the last word of the inner half to the end of its process. It has nothing left to do: to end it sooner harms nothing.
const EXITS_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take to see whether namespaces are allowed.
const DECIDES_WITHIN: Duration = Duration::from_secs(5);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A namespace where they are allowed and nothing is to stay up, else only the two halves.
    Auto,
    /// Only the two halves.
    Guard,
    /// A namespace, or nothing.
    Pidns,
}

/// Decides, once, what keeps the processes of a verb together. `stays` says why something of it may stay up when it ends,
/// which nothing in a namespace can.
///
/// # Errors
/// A namespace was asked for: exit 2, `contradictory`, if something stays up; 40, `no-namespace`, if there is none.
pub fn decide(wanted: Wanted, stays: Option<&str>) -> Result<Isolation, Failure> {
    let allowed = || process::namespaces_are_allowed(DECIDES_WITHIN);
    match (wanted, stays) {
        (Wanted::Guard, _) | (Wanted::Auto, Some(_)) => Ok(Isolation::Guard),
        (Wanted::Auto, None) => Ok(if allowed() { Isolation::Pidns } else { Isolation::Guard }),
        (Wanted::Pidns, Some(why)) => {
            let what = "nothing in a PID namespace stays up when the verb ends";
            Err(Failure::new(ExitCode::Usage, "contradictory", what).because(why).hint("--isolation guard"))
        }
        (Wanted::Pidns, None) if allowed() => Ok(Isolation::Pidns),
        (Wanted::Pidns, None) => Err(no_namespace().because("`unshare --pid --mount-proc` fails here")),
    }
}

fn no_namespace() -> Failure {
    let what = "a PID namespace cannot be made";
    Failure::new(ExitCode::PrerequisiteMissing, "no-namespace", what).hint("--isolation guard")
}

/// The outer half of a guardian, before it starts the inner one.
#[derive(Debug)]
pub struct Outer {
    /// The program: this one.
    pub program: Utf8PathBuf,
    /// The arguments of the inner half.
    pub args: Vec<String>,
    /// Variables that it gets besides ours.
    pub env: Vec<(String, String)>,
    /// What was decided.
    pub isolation: Isolation,
    /// Whether the verb ends with our standard input.
    pub follows_stdin: bool,
    /// The file that both halves hold.
    pub live: LiveFile,
    /// What the inner half writes to its standard output.
    pub prints: Prints,
    /// The document that it hands over.
    pub document: Document,
}

/// What the inner half writes to its standard output.
#[derive(Clone, Copy, Debug)]
pub enum Prints {
    /// Lines, as they come.
    Lines,
    /// Nothing: there is only the document, which it hands over. Its standard output is our standard error, so that nothing below
    /// it can print into the document.
    Document,
}

/// How the inner half has ended, by its own word.
#[derive(Debug)]
pub struct Stood {
    /// The exit code: the one that it said; 34 if that was 0 and something is left.
    pub code: u8,
    /// What was left of it, and was ended here: for a person.
    pub ended: Vec<String>,
    /// What was left of it, and could not be ended: for a person.
    pub left: Vec<String>,
}

impl Prints {
    /// The standard output of the inner half, where it is not ours.
    fn stdout(self) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Lines => Ok(None),
            Self::Document => rustix::stdio::stderr().try_clone_to_owned().map(Some),
        }
    }
}

impl Outer {
    /// Starts the inner half, and returns when nothing of it is left; or, of what cannot die, when it had its time.
    ///
    /// # Errors
    /// Exit 10, `guardian-killed`: another process ended it before it said how it ends; `guardian-hangs`: it did not end when it
    /// should have. 34, `survivor`. 129, 130, 143 when it died of a signal that came to us, too.
    pub fn stand(self, interrupt: Interrupt, talk: &dyn Fn(&str)) -> Result<Stood, Failure> {
        let family = Family::enter()?;
        let (ours, theirs) = UnixStream::pair().map_err(|error| cannot_start(&error))?;
        let speaker = Arc::new(Speaker::new(&ours).map_err(|error| cannot_start(&error))?);
        let heard = Arc::new(Heard::default());
        if self.follows_stdin {
            follow_stdin(Arc::clone(&speaker), Arc::clone(&heard));
        }
        let stdout = self.prints.stdout().map_err(|error| cannot_start(&error))?;
        let half =
            OtherHalf::start(&self.program, &self.args, &self.env, self.isolation, theirs.into(), stdout)
                .map_err(|error| cannot_start(&error))?;
        let all_heard =
            listen(Listener::new(ours), Arc::clone(&speaker), Arc::clone(&heard), self.document.clone());
        let mut watch =
            Watch { half, speaker, heard, interrupt, passed_on: 0, over: None, stopped: None, talk };
        let ended = watch.until_the_end();
        // Its last words may still be on the line, which is at its end as soon as it is gone.
        if ended.is_some() {
            all_heard.recv_timeout(MARGIN).ok();
        }
        self.conclude(&watch, family, ended)
    }

    fn conclude(self, watch: &Watch<'_>, family: Family, ended: Option<Ended>) -> Result<Stood, Failure> {
        let (said, began, gone) = {
            let mut state = watch.heard.state();
            state.released.drain(..).for_each(process::spare);
            (state.ending, state.began, state.line_ended.is_some())
        };
        let halves = watch.half.pids();
        let proof = family.stop(self.limits(watch, said, ended), &watch.interrupt, &mut |_| ());
        let proof = without_exiting(proof, &halves);
        if let Some(code) = said {
            return Ok(self.by_its_word(code, &proof, &halves));
        }
        let failure = match ended {
            None if gone => died("its line is cut, and the kernel still holds it", &watch.interrupt),
            None => hangs(&watch.interrupt, watch.heard.state().over.is_some_and(|over| over.passed())),
            Some(how) => died(&format!("it ended with {how}"), &watch.interrupt),
        };
        // What is left is worse than why it is.
        proof.check().map_err(|left| failure.why.iter().fold(left, Failure::because))?;
        let namespace = !began && ended.is_some() && self.isolation == Isolation::Pidns;
        Err(match namespace {
            true => failure.hint("if `unshare` says why above: --isolation guard"),
            false => failure.because("everything that it had started is gone"),
        })
    }

    /// How long what is left of the inner half may take. Who ended by itself has given it its chance; so has one that hangs.
    fn limits(&self, watch: &Watch<'_>, said: Option<u8>, ended: Option<Ended>) -> StopLimits {
        match (said, ended) {
            // Its own teardown is over: what does not go now does not go.
            (Some(_), _) => StopLimits { grace: Duration::ZERO, ceiling: MARGIN },
            // In a namespace every process died with the inner half; one whose `unshare` alone was killed is no exception.
            (None, Some(_)) if self.isolation == Isolation::Guard => watch.heard.limits(),
            (None, _) => StopLimits::at_once(),
        }
    }

    /// The end of a verb that has said how it ends: it has told the user everything, and nothing is said here in its place.
    fn by_its_word(self, code: u8, proof: &TeardownProof, halves: &[i32]) -> Stood {
        let left = proof.left();
        let named = |one: &StoppedProcess| format!("pid {}: {}", one.pid, one.command);
        let ended = proof.stopped.iter().filter(|one| !halves.contains(&one.pid)).map(named).collect();
        if left.is_empty() {
            self.live.remove();
            return Stood { code, ended, left };
        }
        // The file stays, unlocked: the next start looks whether what is left has gone.
        let code = if code == ExitCode::Pass.number() { ExitCode::Survivor.number() } else { code };
        Stood { code, ended, left }
    }
}

/// The same proof, without the halves that have ended but for what the kernel does with their namespace: one that is the first
/// process of a PID namespace is there until the last of the namespace has gone, and that one is the survivor.
fn without_exiting(mut proof: TeardownProof, halves: &[i32]) -> TeardownProof {
    let exiting = |pid: i32| halves.contains(&pid) && process::is_exiting(pid);
    if proof.survivors.iter().any(|survivor| !exiting(survivor.pid)) {
        proof.survivors.retain(|survivor| !exiting(survivor.pid));
    }
    proof
}

fn died(how: &str, interrupt: &Interrupt) -> Failure {
    let failure = match interrupt.check() {
        Some(code) => signals::interrupted(code, "the verb"),
        None => {
            let what = "the half of the harness that does the work was killed by somebody else";
            Failure::new(ExitCode::StepFailed, "guardian-killed", what)
        }
    };
    failure.because(how).hint("if nobody did that on purpose, was there no memory left? see: dmesg | tail")
}

/// The exit code says why it had to end: a signal, or its own word.
fn hangs(interrupt: &Interrupt, by_its_word: bool) -> Failure {
    let late = if by_its_word { ExitCode::BudgetExhausted } else { ExitCode::StepFailed };
    let what = "the half of the harness that does the work did not end in time, and was killed";
    Failure::new(interrupt.check().unwrap_or(late), "guardian-hangs", what)
        .hint("is its output a pipe that nobody reads? if not, please report it, with: cargo xtask runs list")
}

fn cannot_start(error: &io::Error) -> Failure {
    Failure::unexpected("the inner half of the guardian cannot be started").because(error.to_string())
}

/// What the inner half has said, and what standard input has.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
    /// Standard input is at its end.
    cut: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// It has said anything at all.
    began: bool,
    limits: Option<StopLimits>,
    released: Vec<i32>,
    /// When it will be over by its own word.
    over: Option<Deadline>,
    /// The exit code that it was about to end with.
    ending: Option<u8>,
    /// When its process has to be gone: it has said its last word, has closed its end of the line, or is exiting. The kernel may
    /// hold it for longer, for a process of its namespace that cannot die.
    line_ended: Option<Deadline>,
}

impl Heard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> StopLimits {
        self.state().limits.unwrap_or(LIMITS)
    }
}

/// Whoever holds our standard input has died, unless it says [`RELEASED`] before.
fn follow_stdin(speaker: Arc<Speaker>, heard: Arc<Heard>) {
    thread::spawn(move || {
        let mut byte = [0];
        // An error is an end as good as any.
        if matches!(io::stdin().lock().read(&mut byte), Ok(1) if byte == [RELEASED]) {
            return;
        }
        heard.cut.store(true, Ordering::Release);
        // It may not be there yet: the line keeps this for it. Gone it may be, too.
        speaker.say(&ToInner::End("whoever started the stack has gone".to_owned())).ok();
    });
}

/// Hears until the inner half is gone; what is given is at its end then.
fn listen(
    mut listener: Listener,
    speaker: Arc<Speaker>,
    heard: Arc<Heard>,
    document: Document,
) -> Receiver<()> {
    let (listens, ends) = channel();
    thread::spawn(move || {
        let _until_the_end: Sender<()> = listens;
        while let Some(message) = listener.hear() {
            let mut state = heard.state();
            state.began = true;
            match message {
                ToOuter::Hello => {}
                ToOuter::Limits { grace_ms, ceiling_ms } => {
                    let (grace, ceiling) =
                        (Duration::from_millis(grace_ms), Duration::from_millis(ceiling_ms));
                    state.limits = Some(StopLimits { grace, ceiling });
                }
                ToOuter::OverIn(millis) => {
                    state.over = Some(Deadline::after(Duration::from_millis(millis) + MARGIN));
                }
                ToOuter::Ending(code) => {
                    state.ending = Some(code);
                    state.line_ended.get_or_insert_with(|| Deadline::after(EXITS_WITHIN));
                }
                ToOuter::Document(piece) => document.add(&piece),
                ToOuter::Release(pid) => state.released.push(pid),
                ToOuter::Ask(question) => {
                    drop(state);
                    let answer = outside::answer(&question);
                    // Whoever asked may be gone.
                    speaker.say(&ToInner::Answer(Box::new(answer))).ok();
                }
            }
        }
        heard.state().line_ended.get_or_insert_with(|| Deadline::after(EXITS_WITHIN));
    });
    ends
}

/// The time in which the inner half works.
struct Watch<'a> {
    half: OtherHalf,
    speaker: Arc<Speaker>,
    heard: Arc<Heard>,
    interrupt: Interrupt,
    /// How many signals have been passed on.
    passed_on: usize,
    /// When it has to have ended, once it was told to.
    over: Option<Deadline>,
    stopped: Option<Instant>,
    talk: &'a dyn Fn(&str),
}

impl Watch<'_> {
    /// How it ended; `None` if it did not when it should have.
    fn until_the_end(&mut self) -> Option<Ended> {
        let wakers = self.interrupt.wakers();
        let mut looked = Instant::now();
        loop {
            if let Some(ended) = self.half.try_exit() {
                return Some(ended);
            }
            self.pass_on();
            let (by_its_word, line_ended) = {
                let state = self.heard.state();
                (state.over, state.line_ended)
            };
            if self.over.into_iter().chain(by_its_word).chain(line_ended).any(|over| over.passed()) {
                return None;
            }
            if looked.elapsed() >= LOOK_EVERY {
                self.continue_if_stopped();
                self.note_exiting();
                looked = Instant::now();
            }
            let over = self.over.into_iter().chain(line_ended);
            let at_most = over.map(|over| over.remaining()).fold(LOOK_EVERY, Duration::min);
            self.half.wait(&wakers, at_most);
        }
    }

    fn pass_on(&mut self) {
        let limit = self.heard.limits().longest() + 2 * MARGIN;
        if self.heard.cut.load(Ordering::Acquire) {
            self.over.get_or_insert_with(|| Deadline::after(limit));
        }
        let Some(code) = self.interrupt.check() else { return };
        while self.passed_on < self.interrupt.count() {
            self.passed_on += 1;
            // One that takes no message is given up at the deadline.
            self.speaker.say(&ToInner::Signal(code)).ok();
            let over = *self.over.get_or_insert_with(|| Deadline::after(limit));
            // The third means: at once.
            self.over = Some(if self.passed_on >= 3 { over.within(2 * MARGIN) } else { over });
        }
    }

    /// `unshare` holds the end of the line that the half below it had, so that the line alone does not tell.
    fn note_exiting(&self) {
        if self.half.is_exiting() {
            self.heard.state().line_ended.get_or_insert_with(|| Deadline::after(EXITS_WITHIN));
        }
    }

    fn continue_if_stopped(&mut self) {
        if !self.half.is_stopped() {
            self.stopped = None;
            return;
        }
        let since = *self.stopped.get_or_insert_with(Instant::now);
        if since.elapsed() >= STOPPED_AT_MOST {
            // First: should we die while we say so, it has to be able to notice.
            self.half.go_on();
            (self.talk)("note: the working half of the harness was stopped by a signal, and is continued");
            self.stopped = None;
        }
    }
}
