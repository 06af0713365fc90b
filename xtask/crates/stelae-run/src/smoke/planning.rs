//! What is decided before a run begins, or goes on.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::agent::{Agent, Model};
use stelae_model::env::Environment;
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::flow::{Budgets, Keep};
use stelae_model::{ExitCode, Failure};

use super::checks::{check_golden, check_reload, check_same_agent, check_steps};
use super::description::{Description, STACK, path_in_commit, paths};
use super::options::{IfExists, Plan};
use super::sandbox::Sandbox;
use super::workspace::WORKSPACES;
use super::{play, step_names};
use crate::agents::{AgentProgram, find};
use crate::deadline::Deadline;
use crate::git::{Committed, Git};
use crate::guardian::check_private;
use crate::process::Limits;
use crate::record::{Recorder, RunFolder};
use crate::signals::Interrupt;
use crate::stack::check_installed;
use crate::tools::Shelf;

/// How long the questions to the source may take.
const ASKING: std::time::Duration = std::time::Duration::from_secs(20);

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The repository to clone.
    pub source: Utf8PathBuf,
    /// Where to work; absent: a new folder in the cache home.
    pub workspace: Option<Utf8PathBuf>,
    /// What to do when that is there already.
    pub if_exists: Option<IfExists>,
    /// Whether it stays.
    pub keep: Option<Keep>,
    /// Build into an empty folder.
    pub cold: bool,
    /// Seconds for the whole run, the build included.
    pub budget_s: Option<u64>,
    /// The gateway that the stack has.
    pub gateway: String,
    /// Who plays the stages.
    pub agent: Agent,
    /// Whose model tells an agent CLI what to do.
    pub model: Model,
    /// An agent CLI of another version than the pinned one is refused.
    pub locked_agents: bool,
    /// The last step.
    pub until: Option<String>,
    /// The first step that is carried out anew; only when resuming.
    pub from: Option<String>,
    /// The stage that a person plays.
    pub manual_stage: Option<String>,
    /// The golden run that is recorded.
    pub record: Option<Utf8PathBuf>,
    /// The golden run that is compared with.
    pub compare: Option<Utf8PathBuf>,
}

/// Decides a new run. Asks git about the source, and changes nothing. What describes the run is read from the commit that is
/// cloned.
///
/// # Errors
/// Exit 2 for a step, stage or gateway that there is not, a stage that the gateway cannot do, or budgets that do not nest;
/// 20 for `config/smoke.toml`, `config/stack.toml` or `config/agents.toml` of the commit; 40 for a workspace that others can
/// write to, a source that is not a repository, or a foreign gateway that is not installed.
pub fn plan_new(
    request: &Request,
    run: &str,
    host: &Environment,
    interrupt: &Interrupt,
    scratch: &Utf8Path,
) -> Result<(Plan, Description), Failure> {
    decide(request, run, host, interrupt, scratch, None)
}

/// The same for a run that began as `began`: its description is the one of its own commit.
fn decide(
    request: &Request,
    run: &str,
    host: &Environment,
    interrupt: &Interrupt,
    scratch: &Utf8Path,
    began: Option<&Plan>,
) -> Result<(Plan, Description), Failure> {
    check_steps(request)?;
    let git = Git::find(host)?;
    let (out, talk) = (scratch.join("git-stdout.log"), scratch.join("git.log"));
    let limits = Limits { deadline: Deadline::after(ASKING), interrupt, stdout: &out, stderr: &talk };
    let quiet = Recorder::to_listeners(Vec::new());
    if !request.source.is_dir() {
        return Err(Failure::new(
            ExitCode::PrerequisiteMissing,
            "not-a-repository",
            "the source is not a folder",
        )
        .on(request.source.to_string())
        .hint("name a git repository: --source PATH"));
    }
    let head = git.head(&request.source, &limits, &quiet)?;
    let uncommitted = git.uncommitted(&request.source, &limits, &quiet)?;
    let golden = path_in_commit(&request.source, request.compare.as_deref());
    let committed = match began {
        None => git.committed(&request.source, &head, &paths(golden), &limits, &quiet)?,
        Some(began) => of_its_own_commit(&git, began, &paths(golden), &limits, &quiet)?,
    };
    let mut described = Description::read(committed)?;
    let chosen = described.stack.choose(&request.gateway)?;
    check_reload(&chosen, request)?;
    check_installed(&chosen, host)?;
    play::check_prompts(&described.smoke.stages, host)?;
    described.check_agents(request.agent, request.model)?;
    described.golden = play::golden_to_compare(request.compare.as_deref(), golden, &described)?;
    check_golden(request, described.golden.as_ref().map(|compared| &compared.golden))?;
    let agent_program = agent_program(request, &described, host, scratch, interrupt)?;
    let budgets = budgets(&described, request)?;
    let workspace = match &request.workspace {
        Some(path) => path.clone(),
        None => host.get::<STELAE_CACHE_HOME>()?.join(WORKSPACES).join(run),
    };
    check_private(&workspace, "leave --workspace out, or name another folder: --workspace PATH")?;
    let plan = Plan {
        schema: 1,
        run: run.to_owned(),
        source: request.source.clone(),
        head,
        uncommitted,
        workspace,
        if_exists: request.if_exists.unwrap_or_default(),
        keep: request.keep.unwrap_or_default(),
        cold: request.cold,
        agent: request.agent,
        model: request.model,
        agent_program,
        locked_agents: request.locked_agents,
        gateway: request.gateway.clone(),
        budgets,
        until: request.until.clone(),
        from: None,
        manual_stage: request.manual_stage.clone(),
        record: request.record.clone(),
        compare: request.compare.clone(),
    };
    Ok((plan, described))
}

/// The description of a run that goes on: from the source, or from the clone where the source has lost the commit since.
fn of_its_own_commit(
    git: &Git,
    began: &Plan,
    paths: &[&str],
    limits: &Limits<'_>,
    quiet: &Recorder,
) -> Result<Committed, Failure> {
    let read = |repo: &Utf8Path| git.committed(repo, &began.head, paths, limits, quiet);
    read(&began.source).or_else(|lost| {
        let clone = began.workspace.join("repo");
        if lost.kind != "command-failed" || !clone.join(".git").is_dir() {
            return Err(lost);
        }
        read(&clone).map_err(|_| lost)
    })
}

/// The program of the agent CLI that is asked for, if one is.
fn agent_program(
    request: &Request,
    described: &Description,
    host: &Environment,
    scratch: &Utf8Path,
    interrupt: &Interrupt,
) -> Result<Option<AgentProgram>, Failure> {
    match (request.agent, request.model) {
        (Agent::Builtin, Model::Live) => {
            let what = "the builtin agent has no model: it plays the calls of a stage as they stand there";
            Err(Failure::new(ExitCode::Usage, "contradictory", what)
                .because("--model live is for --agent codex and --agent claude"))
        }
        (Agent::Builtin, Model::Scripted) => Ok(None),
        (agent, model) => {
            let shelf = Shelf::of_pins(described.tools()?, host)?;
            find(agent, model, request.locked_agents, &shelf, host, scratch, interrupt).map(Some)
        }
    }
}

fn budgets(described: &Description, request: &Request) -> Result<Budgets, Failure> {
    let mut budgets = described.smoke.budgets.of(&step_names(), request.model);
    let ceiling_ms = described.stack.readiness.ceiling_ci_ms;
    let restart_ms = budgets.of("restart").map_or(0, |step| step.budget_ms);
    if ceiling_ms >= restart_ms {
        return Err(Failure::new(
            ExitCode::Usage,
            "budget-impossible",
            "the stack may take longer to start than its step",
        )
        .on(described.place(STACK))
        .because(format!("ceiling_ci_ms is {ceiling_ms}, the step has {restart_ms} ms"))
        .hint("raise restart_s in config/smoke.toml, or lower the ceilings"));
    }
    if let Some(seconds) = request.budget_s {
        budgets = budgets.shrunk_to(seconds.saturating_mul(1000));
    }
    budgets.check()?;
    Ok(budgets)
}

/// What an earlier session of a run left.
#[derive(Debug)]
pub struct Resumption {
    /// Its sandbox.
    pub sandbox: Sandbox,
}

/// Decides how an earlier run goes on. Changes nothing: the run may be somebody's right now.
///
/// # Errors
/// Exit 2 for an unknown step; 50, `workspace-stale`, when the source has moved on since and `reuse` was not asked for;
/// 40 when the run's own records are gone.
pub fn plan_resumed(
    request: &Request,
    folder: &RunFolder,
    host: &Environment,
    interrupt: &Interrupt,
) -> Result<(Plan, Description, Resumption), Failure> {
    check_steps(request)?;
    let gone = |error: std::io::Error| {
        Failure::new(ExitCode::PrerequisiteMissing, "not-resumable", "the run left too little to go on from")
            .on(folder.path().to_string())
            .because(error.to_string())
            .hint("start a new one: cargo xtask smoke")
    };
    let old: Plan = folder.read_json("plan.json").map_err(gone)?;
    let sandbox: Sandbox = folder.read_json("sandbox.json").map_err(gone)?;
    let again = Request {
        source: old.source.clone(),
        workspace: Some(old.workspace.clone()),
        gateway: old.gateway.clone(),
        agent: old.agent,
        model: old.model,
        locked_agents: old.locked_agents,
        record: old.record.clone(),
        compare: old.compare.clone(),
        ..request.clone()
    };
    let (mut plan, described) = decide(&again, &old.run, host, interrupt, &folder.join("logs"), Some(&old))?;
    if plan.head != old.head && request.if_exists != Some(IfExists::Reuse) {
        return Err(Failure::new(
            ExitCode::Drift,
            "workspace-stale",
            "the source has moved on since the run began",
        )
        .on(old.workspace.to_string())
        .because(format!("the run is of {}, the source stands on {}", old.head, plan.head))
        .hint("start a new run, or go on with the old commit: --if-exists reuse"));
    }
    check_same_agent(&old, &plan, request.from.as_deref())?;
    plan.head = old.head;
    plan.cold = old.cold;
    // In its own workspace a run always goes on.
    plan.if_exists = IfExists::Reuse;
    plan.keep = request.keep.unwrap_or(old.keep);
    if request.budget_s.is_none() {
        plan.budgets = old.budgets;
    }
    // A stage that was to be played by hand, and is to be carried out anew, is played by the run.
    let by_hand = old.manual_stage.filter(|stage| request.from != Some(format!("stage:{stage}")));
    plan.manual_stage = request.manual_stage.clone().or(by_hand);
    plan.from.clone_from(&request.from);
    Ok((plan, described, Resumption { sandbox }))
}
