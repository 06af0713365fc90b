//! The stack in the foreground: this process owns every process of it, and takes them all with it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Environment;
use stelae_model::env::declared::PROXY_PORT;
use stelae_model::event::Event;
use stelae_model::lifecycle::{Rung, StopLimits, TeardownProof};
use stelae_model::stack::Socket;
use stelae_model::throttle::{Admission, Throttle};
use stelae_model::value::Secret;
use stelae_model::{ExitCode, Failure};

use super::config::{PORT_WRITTEN_DOWN, StackConfig};
use crate::deadline::Deadline;
use crate::evidence::Evidence;
use crate::ports;
use crate::process::{Family, Service, Session, Stdin};
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::tail::tail;
use crate::watch::{Follower, Progress, wait_ready};

/// How often log, exit, signals and the life line are looked at while the stack is up.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// More than anybody reads; the log itself has all of them.
const LINES_PER_SECOND: usize = 1_000;

/// What a stack is started with.
#[derive(Debug)]
pub struct Attached<'a> {
    /// Its variables.
    pub environment: &'a Environment,
    /// What it is.
    pub config: &'a StackConfig,
    /// The gateway's log.
    pub log: Utf8PathBuf,
    /// What is seen before the teardown, and what the teardown finds, is kept here.
    pub evidence: Evidence,
    /// Who is told.
    pub recorder: &'a Recorder,
    /// Ctrl-C and its kin.
    pub interrupt: &'a Interrupt,
}

/// A stack that is ready.
#[derive(Debug)]
pub struct Up {
    gateway: Service,
    log: LogReader,
}

/// What ends the time that a stack is held, besides a signal.
#[derive(Debug, Default)]
pub struct HoldUntil {
    /// A moment.
    lifetime: Option<Deadline>,
}

impl HoldUntil {
    /// A moment.
    #[must_use]
    pub fn or_after(mut self, lifetime: Option<Duration>) -> Self {
        self.lifetime = lifetime.map(Deadline::after);
        self
    }

    fn has_come(&self) -> bool {
        self.lifetime.is_some_and(|lifetime| lifetime.passed())
    }
}

impl Attached<'_> {
    /// Starts the gateway, and waits until it is ready.
    ///
    /// # Errors
    /// Exit 33 for a taken port, 20 for a port that differs, 40 for a missing program; and everything that
    /// [`wait_ready`] finds. Nothing is stopped here: that is the family's part, on every way out.
    pub fn start(&self, deadline: Deadline) -> Result<Up, Failure> {
        let begun = Instant::now();
        let port = self.environment.get::<PROXY_PORT>()?.number();
        let listener = ports::listen(self.config.address).map_err(|taken| {
            let failure = taken.failure("PROXY_PORT");
            if self.config.address.port() == port {
                return failure;
            }
            // Not the stranger is in the wrong place, but we are.
            failure.because(self.config.port_note(port)).hint(PORT_WRITTEN_DOWN)
        })?;
        self.config.check_port(self.environment)?;
        let stdin = match self.config.stack.gateway.socket {
            Socket::Passed => Stdin::Listener(listener),
            // It was free a moment ago. Whoever shares the port's placeholder keeps it for the gateway; we must not.
            Socket::Own => {
                drop(listener);
                Stdin::Null
            }
        };
        let token = control_token()?;
        self.recorder.hide(&token);
        let invocation = self.config.gateway(self.environment, token)?;
        let mut gateway = Service::start(&invocation, &self.log, stdin, Session::Ours)?;
        let mut log = LogReader::new(&gateway);
        let wanted = self.config.wanted(self.environment)?;
        let ready =
            wait_ready(&mut gateway, &wanted, deadline, self.interrupt, &mut |progress| match progress {
                Progress::Line(line) => log.tell(line, self.recorder),
                Progress::Reached(reached) => self.tell(reached, "ready"),
                Progress::Status(stands, status) => self.tell(stands, status),
            });
        let ready = ready.map_err(|failure| match self.interrupt.why() {
            Some(why) => failure.because(why),
            None => failure,
        })?;
        log.go_on_from(gateway.log(), ready.told_until);
        self.recorder.event(Event::Ready {
            url: self.config.url(),
            pid: u32::try_from(gateway.pid()).unwrap_or(0),
            tools: ready.tools,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        Ok(Up { gateway, log })
    }

    fn tell(&self, rung: Rung, status: &str) {
        self.recorder.event(Event::Rung {
            process: "gateway".to_owned(),
            rung: rung.name().to_owned(),
            status: status.to_owned(),
        });
    }

    /// Holds a stack that is up, until it is told to end. Its log goes on being told.
    ///
    /// # Errors
    /// Exit 10, `service-died`, when the gateway ends by itself.
    pub fn hold(&self, up: &mut Up, until: &HoldUntil) -> Result<(), Failure> {
        loop {
            up.log.poll(self.recorder);
            if let Some(ended) = up.gateway.try_exit() {
                up.log.poll(self.recorder);
                return Err(Failure::new(
                    ExitCode::StepFailed,
                    "service-died",
                    format!("the gateway died while the stack was up: {ended}"),
                )
                .on(up.gateway.command())
                .log_tail(tail(up.gateway.log()))
                .hint(format!("look at its log: {}", up.gateway.log())));
            }
            if until.has_come() {
                self.recorder.note("the stack's lifetime is over");
                return Ok(());
            }
            if self.interrupt.check().is_some() {
                self.interrupt.why().iter().for_each(|why| self.recorder.note(why.clone()));
                return Ok(());
            }
            self.interrupt.wait(LOOK_EVERY);
        }
    }

    /// How long the teardown may take.
    pub fn teardown_limits(&self) -> StopLimits {
        StopLimits {
            grace: Duration::from_millis(self.config.stack.gateway.grace_ms),
            ..StopLimits::default()
        }
    }

    /// Ends everything, and tells what was found.
    pub fn tear_down(&self, family: Family) -> TeardownProof {
        let keep_snapshot = &mut |root| self.evidence.keep_snapshot(root, self.recorder);
        let proof = family.stop(self.teardown_limits(), self.interrupt, keep_snapshot);
        self.evidence.keep_teardown(&proof, self.recorder);
        self.recorder.event(Event::TornDown {
            signalled: proof.stopped.len(),
            survivors: proof
                .survivors
                .iter()
                .map(|survivor| format!("pid {}: {}", survivor.pid, survivor.command))
                .collect(),
            elapsed_ms: proof.elapsed_ms,
        });
        proof
    }
}

/// Tells the gateway's log line by line, each under the name of the process that wrote it.
#[derive(Debug)]
struct LogReader {
    follower: Follower,
    throttle: Throttle,
    begun: Instant,
}

impl LogReader {
    fn new(gateway: &Service) -> Self {
        let follower = Follower::new(gateway.log(), gateway.log_start());
        Self { follower, throttle: Throttle::new(LINES_PER_SECOND), begun: Instant::now() }
    }

    /// Goes on where the watch stopped. Until then it is the watch that reads: a second reader, asked at each line of the
    /// first, would read a whole backlog within one look, and keep the watch from the exit, the signals and the limits.
    fn go_on_from(&mut self, log: &Utf8Path, offset: u64) {
        self.follower = Follower::new(log, offset);
    }

    fn poll(&mut self, recorder: &Recorder) {
        let Self { follower, throttle, begun } = self;
        follower.poll(&mut |line| tell_line(line, throttle, *begun, recorder));
    }

    fn tell(&mut self, line: &str, recorder: &Recorder) {
        tell_line(line, &mut self.throttle, self.begun, recorder);
    }
}

fn tell_line(line: &str, throttle: &mut Throttle, begun: Instant, recorder: &Recorder) {
    let Admission::Tell { after_leaving_out } = throttle.admit(begun.elapsed()) else { return };
    if after_leaving_out > 0 {
        recorder.note(format!("{after_leaving_out} lines of the gateway's log are left out here"));
    }
    let (source, text) = source_of(line);
    recorder.line(&source, text);
}

/// The gateway writes `[name] text` for what its server `name` wrote.
fn source_of(line: &str) -> (String, &str) {
    let named = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match named {
        Some((name, text)) if stelae_model::proxy::is_server_name(name) && name != "gateway" => {
            (format!("server:{name}"), text)
        }
        Some(("gateway", text)) => ("gateway".to_owned(), text),
        _ => ("gateway".to_owned(), line),
    }
}

/// 128 random bits of the kernel.
fn control_token() -> Result<Secret<String>, Failure> {
    let mut bytes = [0_u8; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "no-randomness", "the kernel gives no random bytes")
            .on("/dev/urandom")
            .because(error.to_string())
    })?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_servers_carry_their_name() {
        assert_eq!(source_of("[wordcount] hello"), ("server:wordcount".to_owned(), "hello"));
        assert_eq!(source_of("[gateway] listening"), ("gateway".to_owned(), "listening"));
        assert_eq!(source_of("[not a name] x"), ("gateway".to_owned(), "[not a name] x"));
        assert_eq!(source_of("panicked"), ("gateway".to_owned(), "panicked"));
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, two) = (control_token().unwrap(), control_token().unwrap());
        assert_eq!(one.expose().len(), 32);
        assert!(one != two);
    }
}
