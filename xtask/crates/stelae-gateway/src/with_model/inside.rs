//! The half that the program runs below: in a network namespace of its own, if there is one.
//!
//! It listens there for the half outside, which has the sockets from then on; starts the program; and ends what that leaves. It
//! follows the half outside into death, and that one ends what this one leaves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::{ExitCode, Failure};
use stelae_run::process::{Family, Foreign, Network};
use stelae_run::signals::Interrupt;

use super::counters::Counters;
use super::line::{self, Course, Go, Line};
use super::loopback;
use crate::watch;

/// What the program has left below, when it has ended, gets this long to end in order.
const LEFTOVERS_GRACE: Duration = Duration::from_millis(500);
/// The program gets this long, once it is told to end.
const GRACE: Duration = Duration::from_secs(3);
/// From kill to giving up.
const CEILING: Duration = Duration::from_secs(3);
/// So long can it take from being told to the end.
pub(super) const ENDS_WITHIN: Duration =
    GRACE.saturating_add(CEILING).saturating_add(Duration::from_secs(10));
/// The half outside says at once how it goes on, or is dead.
const WORD_LIMIT: Duration = Duration::from_secs(60);

/// Run a program for with-model, which is who starts this
#[derive(Debug, Args)]
pub(crate) struct Inside {
    /// The process that watches this one
    #[arg(long, value_name = "PID")]
    watched: i32,
    /// This is a network namespace of its own
    #[arg(long)]
    no_route: bool,
    /// An address on which the half outside wants to be reached from in here
    #[arg(long, value_name = "ADDRESS")]
    reach: Vec<SocketAddr>,
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl Inside {
    /// Runs the program, and tells the half outside how it went.
    ///
    /// # Errors
    /// 2: nobody watches, or no line to the half outside. 40: the program cannot be started. 34: something is left.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (interrupt, family) = (Interrupt::install()?, Family::enter()?);
        watch::follow(self.watched)?;
        let line = Line::of_stdin().map_err(|error| cut(&error))?;
        if let Err(error) = self.listen(&line) {
            return line.say(&line::Inside::Cannot { why: error }, &[]).map_err(|error| cut(&error));
        }
        let (Go, stderr) = line.hear(WORD_LIMIT).map_err(|error| cut(&error))?;
        let stderr = stderr.first().ok_or_else(|| cut(&io::ErrorKind::InvalidData.into()))?;
        rustix::stdio::dup2_stderr(stderr).map_err(|error| cut(&error.into()))?;
        self.play(&line, family, &interrupt)
    }

    /// Has the half outside listen in here.
    fn listen(&self, line: &Line) -> Result<(), String> {
        if self.no_route {
            loopback::raise().map_err(|error| format!("loopback cannot be raised: {error}"))?;
        }
        let listen = |to: &SocketAddr| {
            TcpListener::bind(to).map_err(|error| format!("nothing can listen on {to} in there: {error}"))
        };
        let listeners = self.reach.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
        let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        line.say(&line::Inside::Ready, &descriptors).map_err(|error| error.to_string())
    }

    fn play(&self, line: &Line, family: Family, interrupt: &Interrupt) -> Result<(), Failure> {
        let before = self.counters();
        let begun = Instant::now();
        let mut program = self.start()?;
        let ended = program.until_the_end(interrupt);
        let grace = if ended.is_some() { LEFTOVERS_GRACE } else { GRACE };
        let by_itself = ended.map(|ended| (ended, begun.elapsed()));
        let proof = family.stop(StopLimits { grace, ceiling: CEILING }, interrupt, &mut |_| ());
        let (ended, elapsed) =
            by_itself.unwrap_or_else(|| (program.try_exit().unwrap_or(Ended::Unseen), begun.elapsed()));
        let counted = self.counters().zip(before).map(|(now, before)| now.since(before));
        let course = Course {
            exit_code: exit_code(ended),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            no_route: counted.map(|counted| counted.no_route),
            lookups: counted.map(|counted| counted.lookups),
        };
        // Nobody listens any more when we end because of that.
        line.say(&line::Inside::Over(course), &[]).ok();
        proof.check()
    }

    fn start(&self) -> Result<Foreign, Failure> {
        let network = if self.no_route { Network::Loopback } else { Network::Same };
        let (program, args) = self.program.split_first().ok_or_else(|| Failure::unexpected("no program"))?;
        Foreign::start(program, args, network).map_err(|error| {
            let what = "the program cannot be started";
            Failure::new(ExitCode::PrerequisiteMissing, "program-not-started", what)
                .on(program)
                .because(error.to_string())
        })
    }

    /// Nothing where the network is everybody's: what is counted there is not the program's.
    fn counters(&self) -> Option<Counters> {
        self.no_route.then(Counters::read).flatten()
    }
}

/// As a shell says it.
fn exit_code(ended: Ended) -> Option<u8> {
    match ended {
        Ended::Status(status) => u8::try_from(status).ok(),
        Ended::Signal(signal) => u8::try_from(128 + signal).ok(),
        Ended::Unseen => None,
    }
}

fn cut(error: &io::Error) -> Failure {
    Failure::new(ExitCode::Usage, "no-line", "there is nobody to run a program for")
        .because(error.to_string())
        .hint("run stelae-gateway with-model")
}
