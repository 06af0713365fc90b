//! The inner half: it works, and it ends when the outer half does.

use std::io::{self, stdin};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use camino::Utf8Path;
use serde_json::Value;
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure, Isolation};

use super::document::pieces;
use super::line::{Answer, Dead, Listener, Question, Speaker, ToInner, ToOuter};
use super::live::LiveFile;
use crate::files::open_null;
use crate::process;
use crate::signals::Interrupt;

/// How long a verb's teardown may take, if it says nothing else.
pub(super) const LIMITS: StopLimits =
    StopLimits { grace: Duration::from_secs(15), ceiling: Duration::from_secs(15) };
/// From the moment at which the verb should have ended until this is done for it.
pub(super) const MARGIN: Duration = Duration::from_secs(3);
/// An answer that takes longer will not come.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What is true of a process that is the inner half of a guardian.
#[derive(Debug)]
pub struct Guarded {
    isolation: Isolation,
    interrupt: Interrupt,
    speaker: Speaker,
    answers: Mutex<Receiver<Answer>>,
    limits: Arc<Mutex<StopLimits>>,
    live: LiveFile,
}

static GUARDED: OnceLock<Guarded> = OnceLock::new();

/// The guardian of this process, if it is an inner half.
pub fn guarded() -> Option<&'static Guarded> {
    GUARDED.get()
}

/// What keeps the processes of this verb together.
pub fn isolation() -> Isolation {
    guarded().map_or(Isolation::Guard, |guarded| guarded.isolation)
}

/// Makes this process the inner half: called once, before anything else is.
///
/// # Errors
/// Exit 2, `not-guarded`: standard input is no life line, so nobody started this process as an inner half. Exit 1, if
/// signals cannot be handled.
pub fn become_inner(isolation: Isolation, live: &Utf8Path) -> Result<&'static Guarded, Failure> {
    let line = take_line().map_err(|error| not_guarded(&error))?;
    // Out of reach of whoever kills the outer half's group. It fails for who leads a group already, which is as good.
    rustix::process::setsid().ok();
    process::continued_by_the_death_of_the_other_half().map_err(|error| not_guarded(&error))?;
    let interrupt = Interrupt::install()?;
    let speaker = Speaker::new(&line).map_err(|error| not_guarded(&error))?;
    let live = LiveFile::share(live).map_err(|error| not_guarded(&error))?;
    speaker.say(&ToOuter::Hello).map_err(|error| not_guarded(&error))?;
    let limits = Arc::new(Mutex::new(LIMITS));
    let (answered, answers) = channel();
    let reader = Reader { interrupt: interrupt.clone(), answered, limits: Arc::clone(&limits) };
    thread::spawn(move || reader.follow(Listener::new(line)));
    let answers = Mutex::new(answers);
    Ok(GUARDED.get_or_init(|| Guarded { isolation, interrupt, speaker, answers, limits, live }))
}

impl Guarded {
    /// What keeps the processes of this verb together.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Ctrl-C and its kin, and the end of the outer half.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Says how long the verb's teardown may take. The outer half stops what falls to it within the same limits.
    pub fn limit(&self, limits: StopLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        let (grace_ms, ceiling_ms) = (millis(limits.grace), millis(limits.ceiling));
        self.say(&ToOuter::Limits { grace_ms, ceiling_ms });
    }

    /// Says that a process of ours, and what is its, stays on purpose when we end.
    pub fn release(&self, pid: i32) {
        self.say(&ToOuter::Release(pid));
    }

    /// Says that the verb will be over by then, whatever happens. If it is not (it may be held up by a reader of its output
    /// that does not read), the outer half ends it.
    pub fn over_in(&self, longest: Duration) {
        self.say(&ToOuter::OverIn(millis(longest)));
    }

    /// Says that this process is about to end.
    pub fn ending(&self, code: u8) {
        self.say(&ToOuter::Ending(code));
    }

    /// Hands the verb's document over: the outer half prints it, together with what it finds when this process has ended.
    ///
    /// # Errors
    /// The outer half is gone, or takes nothing.
    pub fn document(&self, document: &Value) -> io::Result<()> {
        pieces(&document.to_string())
            .try_for_each(|piece| self.speaker.say(&ToOuter::Document(piece.to_owned())))
    }

    /// Says which run this is, before anything of it is started: should both halves be killed, the next start ends what
    /// carries its id, and removes its workspace.
    ///
    /// # Errors
    /// Exit 40, `not-registered`: what nobody could find again must not be started.
    pub fn register(&self, dead: &Dead) -> Result<(), Failure> {
        self.live.write(dead)
    }

    /// Asks the outer half, which sees what is outside of the namespace. None without an answer.
    pub(super) fn ask(&self, question: Question, within: Duration) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was too late is not the answer to this.
        answers.try_iter().for_each(drop);
        self.speaker.say(&ToOuter::Ask(question)).ok()?;
        answers.recv_timeout(within).ok()
    }

    /// An outer half that takes no message is dead, which the reader of the line finds out.
    fn say(&self, message: &ToOuter) {
        self.speaker.say(message).ok();
    }
}

/// For messages between the halves.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the line off standard input, which is empty from then on: nobody inherits it.
fn take_line() -> io::Result<UnixStream> {
    let line = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    // Anything but a socket is refused here.
    line.peer_addr()?;
    rustix::stdio::dup2_stdin(open_null()?)?;
    Ok(line)
}

fn not_guarded(error: &io::Error) -> Failure {
    Failure::new(ExitCode::Usage, "not-guarded", "nobody guards this process")
        .because(format!("standard input is no life line: {error}"))
        .hint("leave --guarded out: it is for the program itself")
}

/// The thread that reads the line.
struct Reader {
    interrupt: Interrupt,
    answered: Sender<Answer>,
    limits: Arc<Mutex<StopLimits>>,
}

impl Reader {
    fn follow(self, mut listener: Listener) {
        loop {
            match listener.hear() {
                Some(ToInner::Signal(code)) => self.interrupt.raise(code),
                Some(ToInner::End(why)) => self.interrupt.raise_because(ExitCode::Terminated, &why),
                // Nobody waits for an answer that comes too late.
                Some(ToInner::Answer(answer)) => drop(self.answered.send(*answer)),
                None => break,
            }
        }
        self.interrupt.raise_because(ExitCode::Terminated, "whoever guarded this process has died");
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        // The end of this process ends the wait.
        thread::sleep(limits.longest().saturating_add(MARGIN));
        process::end_everything();
        std::process::exit(i32::from(ExitCode::Terminated.number()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Owner;

    #[test]
    fn an_answer_that_was_too_late_is_not_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (answered, answers) = channel();
        let guarded = Guarded {
            isolation: Isolation::Pidns,
            interrupt: Interrupt::never(),
            speaker: Speaker::new(&ours).unwrap(),
            answers: Mutex::new(answers),
            limits: Arc::new(Mutex::new(LIMITS)),
            live: LiveFile::create(Utf8Path::from_path(folder.path()).unwrap()).unwrap(),
        };
        let address = ([127, 0, 0, 1], 1).into();
        let owner = Owner { address, inode: 2, uid: 3, holders: Vec::new(), outside: true };
        answered.send(Answer::OwnerOf(None)).unwrap();
        let answer = Answer::OwnerOf(Some(owner.clone()));
        let outside = thread::spawn(move || {
            let asked = Listener::new(theirs).hear::<ToOuter>();
            assert!(matches!(asked, Some(ToOuter::Ask(_))), "{asked:?}");
            answered.send(answer).unwrap();
        });
        let Answer::OwnerOf(seen) = guarded.ask(Question::OwnerOf(address), ANSWERS_WITHIN).unwrap() else {
            panic!("another answer");
        };
        assert_eq!(seen, Some(owner));
        outside.join().unwrap();
    }
}
