//! Waiting until a service is ready, or until it is certain that it will not be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use stelae_model::Failure;
use stelae_model::lifecycle::{Ended, Event, Rung, Standing, Startup, Verdict};

use super::follow::Follower;
use super::probe::{Found, Prober};
use super::report;
use super::tools::Offer;
use super::wanted::Wanted;
use crate::deadline::Deadline;
use crate::ports::{self, Owner};
use crate::process::{Service, tree};
use crate::signals::Interrupt;

/// How often log, exit, signals and limits are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How many lines of the log a failure quotes.
const TAIL_LINES: usize = 20;

/// What is told while one waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A rung holds.
    Reached(Rung),
    /// What was seen last on the rung that does not hold yet; told when it changes.
    Status(Rung, &'a str),
    /// A line of the log.
    Line(&'a str),
}

/// A service that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Each rung, with the time since the watch began.
    pub rungs: Vec<(Rung, Duration)>,
    /// The names in its tool lists, as the servers ordered them.
    pub tools: Vec<String>,
    /// The servers whose endpoints answer; empty where one endpoint has them all.
    pub servers: Vec<String>,
    /// Whose endpoints do not answer and need not; a sentence each.
    pub left_out: Vec<String>,
    /// Where in its log the first line begins that was not told as [`Progress::Line`].
    pub told_until: u64,
}

/// Waits until `service` is what is `wanted`.
///
/// Returns as soon as the outcome is certain, and neither stops the service nor touches anybody else. A failure quotes
/// the last 20 lines of the log.
///
/// # Errors
/// | | exit code, `kind` |
/// | --- | --- |
/// | it ended, with whatever status | 30 `exited-before-ready` |
/// | no sign of life for the idle window; the ceiling passed | 31 `idle`, `ceiling` |
/// | it answers, but required tools are missing; the canary fails | 32 `tools-missing`, `canary-failed` |
/// | somebody else has its address | 33 `port-taken` |
/// | the run's budget is over; a signal came | 124 `budget-exhausted`; 129, 130, 143 `interrupted` |
pub fn wait_ready(
    service: &mut Service,
    wanted: &Wanted,
    deadline: Deadline,
    interrupt: &Interrupt,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Ready, Failure> {
    wait_ready_unless(service, wanted, deadline, interrupt, &AtomicBool::new(false), on_progress)
}

/// The same, given up as soon as `cut` is set: one of several that start at once need not be waited for any longer
/// when another has failed.
///
/// # Errors
/// Those of [`wait_ready`]; `cut-short`, exit 10, which is no verdict on the service.
pub(crate) fn wait_ready_unless(
    service: &mut Service,
    wanted: &Wanted,
    deadline: Deadline,
    interrupt: &Interrupt,
    cut: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Ready, Failure> {
    let mut wanted = wanted.clone();
    if !deadline.is_budget() {
        // A limit that the caller set for this start is nothing but a lower ceiling.
        wanted.patience.ceiling = wanted.patience.ceiling.min(deadline.remaining());
    }
    let wanted = &wanted;
    let mut watch = Watch::new(service, wanted, cut, on_progress);
    let verdict = watch.until_verdict(deadline, interrupt);
    if verdict == Verdict::Ready {
        let rungs = watch.startup.reached().iter().map(|(&rung, &at)| (rung, at)).collect();
        let Offer { tools, servers, left_out } = watch.offer;
        return Ok(Ready { rungs, tools, servers, left_out, told_until: watch.follower.told_until() });
    }
    watch.read_to_the_end();
    let Watch { stranger, tail, begun, .. } = watch;
    let case = report::Case { service, wanted, stranger, tail: tail.into(), elapsed: begun.elapsed() };
    Err(case.failure(verdict))
}

struct Watch<'a> {
    service: &'a mut Service,
    wanted: &'a Wanted,
    cut: &'a AtomicBool,
    on_progress: &'a mut dyn FnMut(Progress<'_>),
    begun: Instant,
    startup: Startup,
    follower: Follower,
    tail: VecDeque<String>,
    /// The last thing told, so that it is told once.
    told: Option<(Rung, String)>,
    /// A line of the log said that an address is in use; whose it is, is asked once per line.
    address_in_use: bool,
    announced: bool,
    stranger: Option<Owner>,
    offer: Offer,
}

impl<'a> Watch<'a> {
    fn new(
        service: &'a mut Service,
        wanted: &'a Wanted,
        cut: &'a AtomicBool,
        on_progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        Self {
            begun: Instant::now(),
            startup: Startup::new(wanted.patience, wanted.rungs()),
            follower: Follower::new(service.log(), service.log_start()),
            tail: VecDeque::new(),
            told: None,
            address_in_use: false,
            announced: false,
            stranger: None,
            offer: Offer::default(),
            service,
            wanted,
            cut,
            on_progress,
        }
    }

    fn until_verdict(&mut self, deadline: Deadline, interrupt: &Interrupt) -> Verdict {
        let prober = Prober::start(self.wanted, deadline.within(self.wanted.patience.ceiling));
        let mut verdict = self.observe(Event::Rung(Rung::Spawned, Standing::Ready));
        loop {
            if verdict == Some(Verdict::Ready) {
                // Its last answer may have been its last breath.
                return self.service.try_exit().map_or(Verdict::Ready, Verdict::Exited);
            }
            if let Some(verdict) = verdict {
                return verdict;
            }
            verdict = self.look(deadline, interrupt).or_else(|| self.hear(&prober));
        }
    }

    /// Everything that can be seen without asking the service.
    fn look(&mut self, deadline: Deadline, interrupt: &Interrupt) -> Option<Verdict> {
        if let Some(ended) = self.service.try_exit() {
            self.read_to_the_end();
            return self.exited(ended);
        }
        if let Some(verdict) = self.read_log() {
            return Some(verdict);
        }
        if let Some(code) = interrupt.check() {
            return self.observe(Event::Interrupted(code));
        }
        if self.cut.load(Ordering::Acquire) {
            return self.observe(Event::CutShort);
        }
        if deadline.is_budget() && deadline.passed() {
            return self.observe(Event::BudgetPassed);
        }
        self.observe(Event::Tick)
    }

    /// What the prober has found, waiting for it a little.
    fn hear(&mut self, prober: &Prober) -> Option<Verdict> {
        let at_most = LOOK_EVERY.min(self.startup.until_next_limit(self.begun.elapsed()));
        match prober.found.recv_timeout(at_most) {
            Ok(Found::Standing(rung, standing)) => self.observe(Event::Rung(rung, standing)),
            Ok(Found::Tools(offer)) => {
                self.offer = offer;
                None
            }
            Ok(Found::Listener(address)) => self.judge_listener(address, prober),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Nothing to ask, or everything is answered; the log, the exit and the limits remain.
                std::thread::sleep(at_most);
                None
            }
        }
    }

    fn judge_listener(&mut self, address: SocketAddr, prober: &Prober) -> Option<Verdict> {
        if self.find_stranger(address) {
            return self.observe(Event::Stranger);
        }
        prober.listener_is_ours();
        self.observe(Event::Rung(Rung::Listening, Standing::Ready))
    }

    fn read_log(&mut self) -> Option<Verdict> {
        let Self { follower, tail, on_progress, wanted, announced, address_in_use, .. } = self;
        let announces = |line: &str| wanted.ready_line.as_ref().is_some_and(|ready| line.contains(ready));
        let read = follower.poll(&mut |line| {
            *announced |= announces(line);
            *address_in_use |= report::says_address_in_use(line);
            keep(tail, line);
            on_progress(Progress::Line(line));
        });
        if read > 0 {
            *announced |= announces(&follower.unfinished());
        }
        if std::mem::take(&mut self.address_in_use) {
            let address = self.wanted.address;
            if address.is_some_and(|address| self.find_stranger(address)) {
                return self.observe(Event::Stranger);
            }
        }
        let verdict = if read > 0 { self.observe(Event::Output) } else { None };
        let (rung, _) = self.startup.stands_on();
        verdict.or_else(|| match (rung, self.announced) {
            (Rung::Announced, true) => self.observe(Event::Rung(Rung::Announced, Standing::Ready)),
            (Rung::Announced, false) => {
                let status = format!(
                    "its log does not say {:?}",
                    self.wanted.ready_line.as_deref().unwrap_or_default()
                );
                self.observe(Event::Rung(Rung::Announced, Standing::not_yet(status)))
            }
            _ => None,
        })
    }

    /// A service that ends because its address is taken is not guilty; who has the address is. That an address is taken may
    /// also be said by somebody of whom it tells, of another one.
    fn exited(&mut self, ended: Ended) -> Option<Verdict> {
        let blames: Vec<_> = self.tail.iter().filter(|line| report::says_address_in_use(line)).collect();
        let is_taken = match self.wanted.address {
            Some(address) if !blames.is_empty() => {
                let named = blames.iter().any(|line| report::names_port(line, address.port()));
                // Asked first: it keeps who that is.
                self.find_stranger(address) || named
            }
            _ => false,
        };
        self.observe(if is_taken { Event::Stranger } else { Event::Exited(ended) })
    }

    /// Whether somebody listens on `address` who is not this service. Keeps who it is.
    fn find_stranger(&mut self, address: SocketAddr) -> bool {
        let Some(socket) = ports::listeners_on(address).into_iter().next() else { return false };
        if self.service.passed_socket() == Some(socket.inode) {
            return false;
        }
        // Looking at the service's own processes takes a fraction of looking at all of them.
        let own: Vec<i32> = std::iter::once(self.service.pid())
            .chain(tree::descendants(self.service.pid()).into_iter().map(|row| row.pid))
            .collect();
        if !ports::owner_of_socket(socket, &own).holders.is_empty() {
            return false;
        }
        // Whoever holds it now, if it was not closed meanwhile.
        let Some(owner) = ports::owner_of(address) else { return false };
        if !owner.outside && owner.holders.iter().any(|holder| self.service.owns(holder.pid)) {
            return false;
        }
        self.stranger = Some(owner);
        true
    }

    /// Passes an event on, and tells what it changed.
    fn observe(&mut self, event: Event) -> Option<Verdict> {
        let before: Vec<Rung> = self.startup.reached().keys().copied().collect();
        let verdict = self.startup.observe(self.begun.elapsed(), event);
        for &rung in self.startup.reached().keys().filter(|rung| !before.contains(rung)) {
            (self.on_progress)(Progress::Reached(rung));
        }
        let standing = self.startup.stands_on();
        if verdict != Some(Verdict::Ready) && self.told.as_ref() != Some(&standing) {
            (self.on_progress)(Progress::Status(standing.0, &standing.1));
            self.told = Some(standing);
        }
        verdict
    }

    fn read_to_the_end(&mut self) {
        let Self { follower, tail, on_progress, .. } = self;
        follower.finish(&mut |line| {
            keep(tail, line);
            on_progress(Progress::Line(line));
        });
    }
}

fn keep(tail: &mut VecDeque<String>, line: &str) {
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.to_owned());
}
