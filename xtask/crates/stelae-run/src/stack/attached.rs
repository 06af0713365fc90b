//! The stack in the foreground: this process owns every process of it, and takes them all with it.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Environment;
use stelae_model::env::declared::{PROXY_PORT, STELAE_MCP_TOKEN};
use stelae_model::event::Event;
use stelae_model::lifecycle::{StopLimits, TeardownProof};
use stelae_model::stack::{GATEWAY, Roster, Service, Socket, plan_start};
use stelae_model::value::Secret;
use stelae_model::{ExitCode, Failure};

use super::config::{PORT_WRITTEN_DOWN, StackConfig};
use super::crew::Crew;
use super::member::{Description, Input, Member};
use crate::deadline::Deadline;
use crate::evidence::Evidence;
use crate::ports::{self, Placeholder, PortTaken};
use crate::process::Family;
use crate::record::Recorder;
use crate::signals::Interrupt;

/// A stranger on the port is reported within a second, so nobody is waited for longer.
const GOES_WITHIN: Duration = Duration::from_millis(700);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a stack is started with.
#[derive(Debug)]
pub struct Attached<'a> {
    /// Its variables.
    pub environment: &'a Environment,
    /// What it is.
    pub config: &'a StackConfig,
    /// The gateway's log; those of the services lie beside it.
    pub log: Utf8PathBuf,
    /// Where the gateway is to write every call that it is given.
    pub calls: Option<Utf8PathBuf>,
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
    crew: Crew,
}

/// The ports that are kept for whoever binds them itself. Drop it when the stack is gone.
#[derive(Debug, Default)]
pub struct KeptPorts {
    placeholders: Vec<Placeholder>,
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
    /// Starts the services and the gateway, each as soon as what it needs is ready, and waits until all of them are.
    /// Everything that can be known before is found out before the first of them is started.
    ///
    /// # Errors
    /// Exit 33 for a taken port, 20 for a port that differs, 40 for a missing program; and everything that
    /// [`wait_ready`](crate::watch::wait_ready) finds, with what became of whoever needs the one that failed. Nothing is
    /// stopped here: that is the family's part, on every way out.
    pub fn start(&self, deadline: Deadline, ports: &mut KeptPorts) -> Result<Up, Failure> {
        let begun = Instant::now();
        let plan = plan_start(&self.config.stack)?;
        let mut members = vec![self.gateway(ports)?];
        for (name, service) in &self.config.stack.services {
            members.push(self.service(name, service, ports)?);
        }
        let mut crew = Crew::new(Roster::new(plan), members);
        let started = crew.start(deadline, self.recorder, self.interrupt);
        started.map_err(|failure| match self.interrupt.why() {
            Some(why) => failure.because(why),
            None => failure,
        })?;
        let Some((gateway, ready)) = crew.gateway() else {
            return Err(Failure::unexpected("everybody is ready, but not the gateway"));
        };
        for left_out in &ready.left_out {
            self.recorder.warn(format!("a server that is not required is left out: {left_out}"));
        }
        let endpoints = self.config.endpoints(&ready.servers);
        self.recorder.event(Event::Ready {
            url: endpoints.url,
            servers: endpoints.servers,
            pid: u32::try_from(gateway.pid()).unwrap_or(0),
            tools: ready.tools.clone(),
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        Ok(Up { crew })
    }

    /// Binds; waits a little for an earlier stack that is on its way out: its harness may have been killed a moment ago.
    fn listen(&self) -> Result<TcpListener, PortTaken> {
        let deadline = Deadline::after(GOES_WITHIN);
        loop {
            match ports::listen(self.config.address) {
                Err(taken)
                    if taken.may_be_going() && !deadline.passed() && self.interrupt.check().is_none() =>
                {
                    self.interrupt.wait(LOOK_EVERY.min(deadline.remaining()));
                }
                listening => return listening,
            }
        }
    }

    fn gateway(&self, ports: &mut KeptPorts) -> Result<Member, Failure> {
        let gateway = &self.config.stack.gateway;
        let port = self.environment.get::<PROXY_PORT>()?.number();
        let listener = self.listen().map_err(|taken| {
            let failure = taken.failure("PROXY_PORT");
            if self.config.address.port() == port {
                return failure;
            }
            // Not the stranger is in the wrong place, but we are.
            failure.because(self.config.port_note(port)).hint(PORT_WRITTEN_DOWN)
        })?;
        self.config.check_port(self.environment)?;
        let input = match gateway.socket {
            Socket::Passed => Input::Listener(self.config.address, Some(listener)),
            // It was free a moment ago; a listener of ours would be the stranger, but a placeholder keeps the port for it.
            Socket::Own => {
                drop(listener);
                let address = self.config.address;
                let held = Placeholder::hold(address.ip(), address.port());
                ports.placeholders.push(held.map_err(|taken| taken.failure("PROXY_PORT"))?);
                Input::Nothing
            }
        };
        let token = self.config.chosen.reloads().then(control_token).transpose()?;
        token.iter().for_each(|token| self.recorder.hide(token));
        self.environment.get::<STELAE_MCP_TOKEN>()?.iter().for_each(|token| self.recorder.hide(token));

        let invocation = self.config.gateway(self.environment, token, self.calls.as_deref())?;
        if let Some(calls) = self.calls.as_deref().filter(|_| !self.config.chosen.reloads()) {
            let name = &self.config.chosen.name;
            self.recorder.warn(format!("the gateway {name} does not tell of its calls: there is no {calls}"));
        }
        for lacks in self.config.write_dialect(self.environment)? {
            self.recorder.warn(lacks);
        }
        Member::new(Description {
            name: GATEWAY.to_owned(),
            invocation,
            input,
            log: self.log.clone(),
            wanted: self.config.wanted(self.environment)?,
            grace: Duration::from_millis(gateway.grace_ms),
            restarts: gateway.restarts,
            port_hint: None,
        })
    }

    fn service(&self, name: &str, service: &Service, ports: &mut KeptPorts) -> Result<Member, Failure> {
        let wanted = self.config.service_wanted(service, self.environment)?;
        let port_hint = self.config.port_hint(name);
        if let Some(address) = wanted.address {
            let held = Placeholder::hold(address.ip(), address.port());
            ports.placeholders.push(held.map_err(|taken| taken.failure("").hint(port_hint.clone()))?);
        }
        Member::new(Description {
            name: name.to_owned(),
            invocation: self.config.service(name, service, self.environment)?,
            input: Input::Nothing,
            log: service_log(&self.log, name),
            wanted,
            grace: Duration::from_millis(service.grace_ms),
            restarts: service.restarts,
            port_hint: Some(port_hint),
        })
    }

    /// Holds a stack that is up, until it is told to end. Its logs go on being told, and who dies is started again if it
    /// may be.
    ///
    /// # Errors
    /// Exit 10, `service-died`, when one of its processes ends by itself, and does not come back.
    pub fn hold(&self, up: &mut Up, until: &HoldUntil) -> Result<(), Failure> {
        let mut over = || until.has_come().then_some("the stack's lifetime is over");
        up.crew.hold(self.recorder, self.interrupt, &mut over)
    }

    /// How long the teardown may take.
    pub fn teardown_limits(&self) -> StopLimits {
        StopLimits { grace: Duration::from_millis(self.config.stack.grace_ms()), ..StopLimits::default() }
    }

    /// Ends everything, and tells what was found.
    pub fn tear_down(&self, family: Family) -> TeardownProof {
        let proof = family.stop(self.teardown_limits(), self.interrupt, &mut |present| {
            self.evidence.keep_snapshot(present, self.recorder);
        });
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

/// The log of a service, beside the gateway's. (`NAME.log` could be somebody else's: the supervisor's own is `restart.log`.)
pub fn service_log(gateways: &Utf8Path, name: &str) -> Utf8PathBuf {
    gateways.with_file_name(format!("service-{name}.log"))
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
    fn tokens_are_long_and_never_the_same() {
        let (one, two) = (control_token().unwrap(), control_token().unwrap());
        assert_eq!(one.expose().len(), 32);
        assert!(one != two);
    }
}
