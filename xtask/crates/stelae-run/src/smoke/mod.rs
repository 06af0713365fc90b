//! `smoke`: takes a clone, and proves that it builds, starts, serves, is usable by an agent, leaves git clean and
//! leaves nothing behind.
//!
//! The steps are in `steps`, what they give each other in `state`. The engine drives them within their budgets; this
//! file begins a run, ends it, and tears down whatever happened in between.

mod build_cache;
mod context;
mod engine;
mod options;
mod planning;
mod sandbox;
mod stack;
mod state;
mod steps;
mod workspace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stelae_model::Failure;
use stelae_model::env::Environment;
use stelae_model::event::{Event, StepOutcome};
use stelae_model::flow::{Flow, Halt};
use stelae_model::lifecycle::StopLimits;
use stelae_model::verdict::{Facts, Verdict, decide};

pub use options::{IfExists, Keep, Plan};
pub use planning::{Request, Resumption, plan_new, plan_resumed};
pub use sandbox::Sandbox;
pub use workspace::Workspace;

use context::SmokeContext;
use engine::{SmokeEngine, file_of};
use stack::{LiveStack, end_leftovers};
use state::{Attested, Restarted, Staged, Start, Verified};

use crate::deadline::Deadline;
use crate::git::Git;
use crate::ports::Placeholder;
use crate::process::Family;
use crate::record::{Listener, Recorder, RunFolder};
use crate::signals::Interrupt;

/// The step that is always carried out, and last.
const TEARDOWN: &str = "teardown";

/// The steps of a run, in the only order that compiles.
fn flow(bundle: &str) -> impl Flow<Context = SmokeContext, Needs = Start, Gives = Verified> {
    steps::Clone
        .then(steps::Build)
        .then(steps::Setup)
        .then(steps::Bundle { bundle: bundle.to_owned() })
        .then(steps::Render)
        .then(steps::Restart)
        .then(steps::Structural)
        .then(steps::Stage::<Attested, Staged<1>>::new("bundle-tools"))
        .then(steps::Stage::<Staged<1>, Staged<2>>::new("install"))
        .then(steps::Stage::<Staged<2>, Staged<3>>::new("remove"))
        .then(steps::Verify)
}

/// The names of all steps, the teardown included.
pub fn step_names() -> Vec<String> {
    let mut names = flow("").names();
    names.push(TEARDOWN.to_owned());
    names
}

/// A run that is about to begin, or to go on.
#[derive(Debug)]
pub struct Run {
    /// What was decided.
    pub plan: Plan,
    /// The bundle that is installed.
    pub bundle: String,
    /// The host's variables.
    pub host: Environment,
    /// Where the evidence goes.
    pub folder: RunFolder,
    /// An earlier session's sandbox, and how many of its steps are read back.
    pub resumption: Option<Resumption>,
}

/// What is left when a run is over.
#[derive(Debug)]
pub struct Finished {
    /// The verdict.
    pub verdict: Verdict,
    /// What a person types next, when the run stopped for a manual stage.
    pub instructions: Option<String>,
}

impl Run {
    /// Carries the run out: steps, evidence, teardown, verdict, in this order, whatever happens.
    ///
    /// # Errors
    /// Only what keeps it from beginning. Everything after that is in the verdict.
    pub fn carry_out(self, interrupt: &Interrupt, listeners: Vec<Listener>) -> Result<Finished, Failure> {
        let family = Family::enter()?;
        let started = Instant::now();
        let recorder = Arc::new(Recorder::to_file(&self.folder.join("events.jsonl"), listeners));
        recorder.event(Event::RunStarted {
            run: self.plan.run.clone(),
            verb: "smoke".to_owned(),
            source: self.plan.source.to_string(),
        });
        let bundle = self.bundle.clone();
        let (context, resumed) = self.context(interrupt, &recorder)?;
        context.keep_json("plan.json", &context.plan);
        context.keep_json("sandbox.json", &context.sandbox);
        let mut engine = SmokeEngine::new(context, resumed);
        let halt = flow(&bundle).drive(&mut engine, Start).err();
        Ok(Ending { engine, family, recorder, interrupt: interrupt.clone(), started, halt }.conclude())
    }

    fn context(
        self,
        interrupt: &Interrupt,
        recorder: &Arc<Recorder>,
    ) -> Result<(SmokeContext, usize), Failure> {
        let git = Git::find(&self.host)?;
        let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let taken = |taken: crate::ports::PortTaken| taken.failure("PROXY_PORT");
        let mut resumed = self.resumption.as_ref().map_or(0, |resumption| resumption.steps);
        let mut live = None;
        let mut workspace = None;
        let (sandbox, placeholder) = match self.resumption {
            None => {
                let placeholder = Placeholder::hold(ip, 0).map_err(taken)?;
                let port = placeholder.address().port();
                (
                    Sandbox { run: self.plan.run.clone(), workspace: self.plan.workspace.clone(), port },
                    Some(placeholder),
                )
            }
            Some(resumption) => {
                if resumed > 0 {
                    workspace = Some(Workspace::open(&self.plan.workspace)?);
                }
                let restart = step_names().iter().position(|name| name == "restart").unwrap_or(0);
                live = self
                    .folder
                    .read_json::<Restarted>(&file_of("restart"))
                    .ok()
                    .and_then(|old| LiveStack::resume(&old));
                if resumed > restart && live.is_none() {
                    recorder.note("the stack of the earlier session is gone: going on from restart");
                    resumed = restart;
                }
                if resumed <= restart && live.take().is_some() {
                    end_leftovers(&self.plan.run, recorder);
                }
                let placeholder = match live {
                    Some(_) => None,
                    None => Some(Placeholder::hold(ip, resumption.sandbox.port).map_err(taken)?),
                };
                (resumption.sandbox, placeholder)
            }
        };
        let context = SmokeContext {
            recorder: Arc::clone(recorder),
            folder: self.folder,
            interrupt: interrupt.clone(),
            plan: self.plan,
            host: self.host,
            sandbox,
            git,
            deadline: Deadline::after(Duration::ZERO),
            workspace,
            placeholder,
            stack: live,
        };
        Ok((context, resumed))
    }
}

/// Everything that is needed to end a run.
struct Ending {
    engine: SmokeEngine,
    family: Family,
    recorder: Arc<Recorder>,
    interrupt: Interrupt,
    started: Instant,
    halt: Option<Halt>,
}

impl Ending {
    /// Evidence first, teardown second, verdict third.
    fn conclude(mut self) -> Finished {
        let (mut failed, stopped_after) = match self.halt.take() {
            None => (None, None),
            Some(Halt::Reached { step }) => (None, Some(step)),
            Some(Halt::Failed { step, failure }) => (Some((step, failure)), None),
        };
        let mut instructions = None;
        if stopped_after.is_some() && self.engine.context.plan.manual_stage.is_some() {
            match self.leave_up() {
                Ok(text) => instructions = Some(text),
                Err(failure) => failed = Some(("manual-stage".to_owned(), failure)),
            }
        }
        let begun = Instant::now();
        let survivors = self.tear_down(instructions.is_some());
        // Whoever ends a run with a signal is not going to look at its workspace.
        let signalled = failed.as_ref().is_some_and(|(_, failure)| failure.kind == "interrupted");
        let kept = self.clear_workspace(!signalled && (failed.is_some() || stopped_after.is_some()));
        if let (Err(failure), None) = (kept, &failed) {
            failed = Some((TEARDOWN.to_owned(), failure));
        }
        let torn_down = if survivors.is_empty() { StepOutcome::Passed } else { StepOutcome::Failed };
        if let Some(report) = self.engine.reports.iter_mut().find(|report| report.step == TEARDOWN) {
            (report.outcome, report.elapsed_ms) = (Some(torn_down), millis(begun));
        }
        let verdict = decide(Facts {
            run: self.engine.context.plan.run.clone(),
            steps: self.engine.reports,
            failed,
            stopped_after,
            survivors,
            warnings: self.recorder.warnings(),
            evidence_complete: self.recorder.is_complete(),
            elapsed_ms: millis(self.started),
        });
        self.engine.context.keep_json("verdict.json", &verdict);
        self.recorder.event(Event::Verdict { verdict: Box::new(verdict.clone()) });
        // Written again when the verdict itself did not fit: whoever reads it should know.
        let complete = self.recorder.is_complete();
        Finished { verdict: Verdict { evidence_complete: complete, ..verdict }, instructions }
    }

    /// Leaves the stack up for a person, and says what to type.
    fn leave_up(&mut self) -> Result<String, Failure> {
        let context = &mut self.engine.context;
        let restarted: Restarted = context
            .folder
            .read_json(&file_of("restart"))
            .map_err(|error| Failure::unexpected(format!("the restart left no record: {error}")))?;
        let stage = context.plan.manual_stage.clone().unwrap_or_default();
        let text = steps::manual_instructions(context, &stage, &restarted)?;
        if let Some(LiveStack::Child(child)) = context.stack.take() {
            child.release();
        }
        Ok(text)
    }

    /// Ends every process of the run, but a stack that is left up on purpose. Gives what survived.
    fn tear_down(&mut self, left_up: bool) -> Vec<String> {
        let budgets = &self.engine.context.plan.budgets;
        self.recorder
            .event(Event::StepStarted { step: TEARDOWN.to_owned(), budget_ms: budgets.teardown_reserve_ms });
        let reserve = Duration::from_millis(budgets.teardown_reserve_ms);
        let resumed = matches!(self.engine.context.stack, Some(LiveStack::Resumed { .. }));
        let run = self.engine.context.plan.run.clone();
        let mut survivors =
            if resumed && !left_up { end_leftovers(&run, &self.recorder) } else { Vec::new() };
        // Half to ask, half to kill: together they fit into the reserve.
        let limits = StopLimits { grace: reserve / 2, ceiling: reserve / 2 };
        let family = std::mem::replace(&mut self.family, Family::none());
        let context = &mut self.engine.context;
        let proof = family
            .stop(limits, &self.interrupt, &mut |snapshot| context.keep_json("snapshot.json", snapshot));
        if let Some(LiveStack::Child(child)) = &mut context.stack {
            child.tell(&self.recorder);
        }
        survivors.extend(
            proof.survivors.iter().map(|one| format!("pid {}: {} ({})", one.pid, one.command, one.why)),
        );
        self.recorder.event(Event::TornDown {
            signalled: proof.stopped.len(),
            survivors: survivors.clone(),
            elapsed_ms: proof.elapsed_ms,
        });
        context.keep_json("teardown.json", &proof);
        if !left_up {
            self.check_port();
        }
        self.engine.context.placeholder = None;
        survivors
    }

    /// An assertion, and no more: when everything is dead, the port is free.
    fn check_port(&self) {
        let address =
            std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, self.engine.context.sandbox.port));
        if let Some(owner) = crate::ports::owner_of(address) {
            self.recorder
                .warn(format!("{address} is still listened on after the teardown, by {}", owner.describe()));
        }
    }

    fn clear_workspace(&mut self, unfinished: bool) -> Result<(), Failure> {
        let keep = match self.engine.context.plan.keep {
            Keep::Always => true,
            Keep::OnFailure => unfinished,
            Keep::Never => false,
        };
        match self.engine.context.workspace.take() {
            Some(workspace) if keep => {
                self.recorder.note(format!("the workspace stays: {}", workspace.path()));
                Ok(())
            }
            Some(workspace) => workspace.remove(),
            None => Ok(()),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
