//! `smoke`: takes a clone, and proves that it builds, starts, serves, is usable by an agent, leaves git clean and
//! leaves nothing behind.
//!
//! The steps are in `steps`, what they give each other in `state`. The engine drives them within their budgets; this
//! file begins a run, ends it, and tears down whatever happened in between.

mod beginning;
mod build_cache;
mod checks;
mod context;
mod description;
mod ending;
mod engine;
mod manifest;
mod nonce;
mod options;
mod planning;
mod play;
mod protection;
mod sandbox;
mod servers;
mod stack;
mod state;
mod steps;
mod workspace;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stelae_model::Failure;
use stelae_model::env::Environment;
use stelae_model::env::declared::STELAE_MCP_TOKEN;
use stelae_model::event::Event;
use stelae_model::flow::{Flow, Keep};
use stelae_model::lifecycle::StopLimits;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::verdict::Verdict;

pub use description::Description;
pub use options::{IfExists, Plan};
pub use planning::{Request, Resumption, plan_new, plan_resumed};
pub use play::{golden_file, take_back_all};
pub use sandbox::Sandbox;
pub use workspace::{WORKSPACE_ID, WORKSPACES, Workspace};

use beginning::{Begun, begin_new, begin_resumed};
use context::SmokeContext;
use ending::Ending;
use engine::{SmokeEngine, file_of};
use state::{Attested, Built, Staged, Start, Verified};

use crate::deadline::Deadline;
use crate::git::Git;
use crate::guardian;
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

/// A session of a run that is about to begin.
#[derive(Debug)]
pub struct Run {
    /// What was decided.
    pub plan: Plan,
    /// What describes it.
    pub described: Description,
    /// The host's variables.
    pub host: Environment,
    /// Where the evidence goes.
    pub folder: RunFolder,
    /// What an earlier session left, when the run goes on.
    pub resumption: Option<Resumption>,
}

/// What is left when a session is over.
#[derive(Debug)]
pub struct Finished {
    /// The verdict.
    pub verdict: Verdict,
    /// What a person types next, when the run stopped for a manual stage.
    pub instructions: Option<String>,
}

impl Run {
    /// Carries the session out: steps, evidence, teardown, verdict, in this order, whatever happens.
    ///
    /// # Errors
    /// Only what keeps it from beginning: then the run is as it was. Everything after that is in the verdict.
    pub fn carry_out(mut self, interrupt: &Interrupt, listeners: Vec<Listener>) -> Result<Finished, Failure> {
        self.register()?;
        let family = Family::enter()?;
        let started = Instant::now();
        let git = Git::find(&self.host)?;
        let begun = match self.resumption.take() {
            None => begin_new(&self.plan, &self.host)?,
            Some(resumption) => begin_resumed(&self.plan, &self.host, &self.folder, resumption, interrupt)?,
        };
        let recorder = Arc::new(Recorder::to_file(&self.folder.join("events.jsonl"), listeners));
        self.host.get::<STELAE_MCP_TOKEN>()?.iter().for_each(|token| recorder.hide(token));
        recorder.event(Event::RunStarted {
            run: self.plan.run.clone(),
            verb: "smoke".to_owned(),
            source: self.plan.source.to_string(),
            isolation: guardian::isolation(),
        });
        if let Some(program) = &self.plan.agent_program {
            if !program.pinned {
                let path = &program.path;
                recorder
                    .note(format!("{path} is the one on PATH: only its version is compared with the pin"));
            }
            if let Some(difference) = program.version.difference(self.plan.agent) {
                recorder.warn(difference);
            }
        }
        for note in &begun.notes {
            recorder.note(note.clone());
        }
        if let Some(compared) = self.described.golden.as_ref().filter(|compared| !compared.committed) {
            recorder.warn(format!("the golden run is not in the commit that is cloned: {}", compared.place));
        }
        let (bundle, read_back) = (self.described.smoke.bundle.clone(), begun.read_back);
        let context = self.context(git, begun, interrupt, &recorder)?;
        context.keep_json("plan.json", &context.plan);
        context.keep_json("sandbox.json", &context.sandbox);
        let mut engine = SmokeEngine::new(context, read_back);
        let halt = flow(&bundle).drive(&mut engine, Start).err();
        Ok(Ending { engine, family, recorder, interrupt: interrupt.clone(), started }.conclude(halt))
    }

    /// Tells the guardian what is left of us should it be killed, and how long the end may take.
    fn register(&self) -> Result<(), Failure> {
        let Some(guarded) = guardian::guarded() else { return Ok(()) };
        let half = Duration::from_millis(self.plan.budgets.teardown_reserve_ms) / 2;
        guarded.limit(StopLimits { grace: half, ceiling: half });
        guarded.over_in(Duration::from_millis(self.plan.budgets.longest_ms()));
        let workspace = (self.plan.keep != Keep::Always).then(|| self.plan.workspace.clone());
        guarded.register(&guardian::Dead::new(&self.plan.run, workspace))
    }

    fn context(
        self,
        git: Git,
        begun: Begun,
        interrupt: &Interrupt,
        recorder: &Arc<Recorder>,
    ) -> Result<SmokeContext, Failure> {
        let path =
            |path: camino::Utf8PathBuf| AbsolutePath::parse(path.as_str()).map_err(Failure::unexpected);
        // What an earlier session has built, as it was then.
        let built: Option<Built> = self.folder.read_json(&file_of("build")).ok();
        let programs = built.map(|built| built.programs).unwrap_or_default();
        let clone_git = git.isolated(path(begun.sandbox.home())?, path(begun.sandbox.git_config())?)?;
        Ok(SmokeContext {
            recorder: Arc::clone(recorder),
            folder: self.folder,
            interrupt: interrupt.clone(),
            plan: self.plan,
            described: self.described,
            host: self.host,
            sandbox: begun.sandbox,
            git,
            clone_git,
            deadline: Deadline::after(Duration::ZERO),
            workspace: begun.workspace,
            lease: begun.lease,
            placeholder: begun.placeholder,
            stack: begun.stack,
            calls_seen: None,
            server_warnings: Vec::new(),
            protection: std::sync::OnceLock::new(),
            kept: None,
            programs: Mutex::new(programs),
        })
    }
}
