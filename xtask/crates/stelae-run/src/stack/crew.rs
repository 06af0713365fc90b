//! Everybody of a stack: who is started next, who is watched, and what the end of one means for the others.
//!
//! Each start has a thread of its own, which takes the member with it and brings it back; so nobody waits for anybody
//! whom it does not need. The threads end with their start, and a start has a ceiling: none outlives the call that made
//! it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use stelae_model::lifecycle::Ended;
use stelae_model::stack::{GATEWAY, Roster, Stands};
use stelae_model::{ExitCode, Failure};

use super::member::{Member, Watching};
use crate::deadline::Deadline;
use crate::process;
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::watch::Ready;

/// Between two looks while the stack starts.
const LOOK_AT_START: Duration = Duration::from_millis(2);
/// How often logs, ends, signals and the life line are looked at while the stack is up.
const LOOK_WHILE_UP: Duration = Duration::from_millis(20);

/// Everybody of a stack.
#[derive(Debug)]
pub(super) struct Crew {
    roster: Roster,
    /// Who is not in the hands of a thread.
    at_hand: BTreeMap<String, Member>,
    /// The gateway's answer, once it is ready.
    gateway: Option<Ready>,
}

/// Members that are being brought up, in threads of `scope`.
struct Working<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    all: Vec<AtWork<'scope>>,
    cx: Watching<'env>,
}

struct AtWork<'scope> {
    /// What it had died of, if it was ready before.
    died: Option<Failure>,
    handle: ScopedJoinHandle<'scope, (Member, Result<Ready, Failure>)>,
}

/// What the end of one is, as the stack stands.
#[derive(Clone, Copy)]
enum Phase {
    /// Not everybody has been ready yet.
    Starting,
    /// It is up.
    Up,
}

impl Crew {
    /// Nobody is started yet.
    pub(super) fn new(roster: Roster, members: Vec<Member>) -> Self {
        let at_hand = members.into_iter().map(|member| (member.name().to_owned(), member)).collect();
        Self { roster, at_hand, gateway: None }
    }

    /// The gateway, and what it answered when it was ready.
    pub(super) fn gateway(&self) -> Option<(&Member, &Ready)> {
        self.at_hand.get(GATEWAY).zip(self.gateway.as_ref())
    }

    /// Starts everybody, each as soon as what it needs is ready, and returns when all of them are.
    ///
    /// # Errors
    /// What the first that failed has failed of, with what became of everyone who needs it. The others are given up.
    pub(super) fn start(
        &mut self,
        deadline: Deadline,
        recorder: &Recorder,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let cut = AtomicBool::new(false);
        let cx = Watching { recorder, interrupt, deadline, cut: &cut };
        std::thread::scope(|scope| {
            let mut working = Working { scope, all: Vec::new(), cx };
            let outcome = self.until_all_ready(&mut working);
            self.take_back(working);
            outcome
        })
    }

    fn until_all_ready(&mut self, working: &mut Working<'_, '_>) -> Result<(), Failure> {
        while !self.roster.all_ready() {
            for name in self.roster.start_next() {
                self.send(working, &name, None);
            }
            if working.all.is_empty() {
                return Err(Failure::unexpected("a stack is neither ready nor starting"));
            }
            std::thread::sleep(LOOK_AT_START);
            self.turn(working, Phase::Starting)?;
        }
        Ok(())
    }

    /// Holds a stack that is up until `told` says why it ends, or a signal comes. Logs go on being told, and who dies is
    /// started again if it may be.
    ///
    /// # Errors
    /// Exit 10, `service-died`, when somebody ends by itself and does not come back.
    pub(super) fn hold(
        &mut self,
        recorder: &Recorder,
        interrupt: &Interrupt,
        told: &mut dyn FnMut() -> Option<&'static str>,
    ) -> Result<(), Failure> {
        let cut = AtomicBool::new(false);
        // Whoever is started again has its own ceiling; nothing else bounds a stack that is up.
        let cx = Watching { recorder, interrupt, deadline: Deadline::after(Duration::MAX), cut: &cut };
        std::thread::scope(|scope| {
            let mut working = Working { scope, all: Vec::new(), cx };
            let outcome = self.until_told(&mut working, told);
            self.take_back(working);
            outcome
        })
    }

    fn until_told(
        &mut self,
        working: &mut Working<'_, '_>,
        told: &mut dyn FnMut() -> Option<&'static str>,
    ) -> Result<(), Failure> {
        let Watching { recorder, interrupt, .. } = working.cx;
        loop {
            match self.turn(working, Phase::Up) {
                // Being told to end is how a held stack ends, also in the middle of a restart.
                Err(failure) if failure.kind != "interrupted" => return Err(failure),
                _ => {}
            }
            if let Some(why) = told() {
                recorder.note(why);
                return Ok(());
            }
            if interrupt.check().is_some() {
                interrupt.why().iter().for_each(|why| recorder.note(why.clone()));
                return Ok(());
            }
            process::reap_orphans();
            interrupt.wait(LOOK_WHILE_UP);
        }
    }

    /// Sees who has become ready, who has failed, and who has died.
    fn turn(&mut self, working: &mut Working<'_, '_>, phase: Phase) -> Result<(), Failure> {
        // Whoever fails because somebody that it needs has just died must not be taken for the cause: so who has died is
        // asked after, and judged before.
        let finished = self.finished(working);
        for (name, ended) in self.newly_dead(working.cx.recorder) {
            self.revive(working, &name, ended, phase)?;
        }
        for (name, died, outcome) in finished {
            let again = died.is_some();
            let outcome = outcome.map_err(|failure| phase.verdict(died, failure));
            let ready = outcome.map_err(|failure| self.blamed(&name, failure))?;
            if again {
                working.cx.recorder.note(format!("{} is ready again", self.label(&name)));
            }
            self.note_ready(&name, ready);
        }
        Ok(())
    }

    /// Gives a member to a thread that brings it up.
    fn send<'env>(&mut self, working: &mut Working<'_, 'env>, name: &str, died: Option<Failure>) {
        self.roster.note(name, Stands::Starting);
        let Some(mut member) = self.at_hand.remove(name) else { return };
        let (of, cx) = (died.clone(), working.cx);
        let handle = working.scope.spawn(move || {
            let outcome = member.bring_up(of, cx);
            (member, outcome)
        });
        working.all.push(AtWork { died, handle });
    }

    /// Has one that died while it was ready started again, if it may be.
    fn revive(
        &mut self,
        working: &mut Working<'_, '_>,
        name: &str,
        ended: Ended,
        phase: Phase,
    ) -> Result<(), Failure> {
        let Some(member) = self.at_hand.get_mut(name) else { return Ok(()) };
        let died = phase.died(member, ended);
        if let Some(last_word) = member.last_word(&died) {
            return Err(self.blamed(name, phase.verdict(Some(died), last_word)));
        }
        self.send(working, name, Some(died));
        Ok(())
    }

    /// Takes back whoever has been brought up, or was not.
    fn finished(
        &mut self,
        working: &mut Working<'_, '_>,
    ) -> Vec<(String, Option<Failure>, Result<Ready, Failure>)> {
        let mut finished = Vec::new();
        while let Some(at) = working.all.iter().position(|one| one.handle.is_finished()) {
            let one = working.all.remove(at);
            finished.push(self.take(one));
        }
        finished
    }

    fn take(&mut self, one: AtWork<'_>) -> (String, Option<Failure>, Result<Ready, Failure>) {
        let joined = one.handle.join();
        let (member, outcome) = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let name = member.name().to_owned();
        self.at_hand.insert(name.clone(), member);
        (name, one.died, outcome)
    }

    /// Gives everybody up who is still being waited for; what they say now is no cause any more.
    fn take_back(&mut self, working: Working<'_, '_>) {
        working.cx.cut.store(true, Ordering::Release);
        for one in working.all {
            drop(self.take(one));
        }
        self.at_hand.values_mut().for_each(|member| member.tell_log(working.cx.recorder));
    }

    fn note_ready(&mut self, name: &str, ready: Ready) {
        self.roster.note(name, Stands::Ready);
        if name == GATEWAY {
            self.gateway = Some(ready);
        }
    }

    /// Tells the logs of those who are not at work, and says who of the ready ones has ended, whom others need first.
    fn newly_dead(&mut self, recorder: &Recorder) -> Vec<(String, Ended)> {
        // The end is asked for before the log is read: then what was read is complete.
        let any = !self.ended_of_ready().is_empty();
        self.at_hand.values_mut().for_each(|member| member.tell_log(recorder));
        // Once more: who has died of another's death must not be seen without it.
        if any { self.ended_of_ready() } else { Vec::new() }
    }

    /// One that has just failed to become ready is none of them: of that, its start has spoken.
    fn ended_of_ready(&mut self) -> Vec<(String, Ended)> {
        let Self { roster, at_hand, .. } = self;
        let end = |name: &str| Some((name.to_owned(), at_hand.get_mut(name)?.try_exit()?));
        roster.ready().filter_map(end).collect()
    }

    /// The failure, with what it means for everyone who needs `name`.
    fn blamed(&self, name: &str, failure: Failure) -> Failure {
        let label = self.label(name);
        let what = match failure.what.strip_prefix(&format!("{label} ")) {
            Some(what) => what.to_owned(),
            None => format!("failed: {}", failure.what),
        };
        let lost = self.roster.needing(name);
        lost.iter().fold(failure, |failure, one| failure.because(one.told(name, &what)))
    }

    fn label(&self, name: &str) -> String {
        self.at_hand.get(name).map_or(name, Member::process).to_owned()
    }
}

impl Phase {
    /// The failure of one that was ready, and has ended.
    fn died(self, member: &Member, ended: Ended) -> Failure {
        let name = if member.name() == GATEWAY { "the gateway" } else { member.process() };
        let failure = match self {
            Self::Starting => Failure::new(
                ExitCode::ExitedBeforeReady,
                "exited-before-ready",
                format!("{name} died after it was ready, before the stack was: {ended}"),
            ),
            Self::Up => Failure::new(
                ExitCode::StepFailed,
                "service-died",
                format!("{name} died while the stack was up: {ended}"),
            ),
        };
        failure
            .on(member.command())
            .because(format!(
                "it ended {:.1} s after it was started for the first time",
                member.age().as_secs_f64()
            ))
            .log_tail(member.tail())
            .hint(format!("look at its log: {}", member.log()))
    }

    /// What is said when starting it again came to nothing. Of a stack that was up, its end is the news.
    fn verdict(self, died: Option<Failure>, failure: Failure) -> Failure {
        match (self, died) {
            (Self::Up, Some(died)) if failure.kind != died.kind && failure.kind != "interrupted" => Failure {
                what: format!("{}, and it did not come back", died.what),
                why: std::iter::once(failure.what).chain(failure.why).collect(),
                exit_code: died.exit_code,
                kind: died.kind,
                ..failure
            },
            _ => failure,
        }
    }
}
