//! `smoke`: the main job.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use serde_json::json;
use stelae_model::agent::{Agent, Model};
use stelae_model::stack::BUILTIN;
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure, flow};
use stelae_run::files::discard;
use stelae_run::record::{Listener, RunFolder};
use stelae_run::report::{Terminal, summary};
use stelae_run::signals::Interrupt;

use stelae_run::smoke::{self, Description, Plan, Request, Resumption, Run};

use crate::context::{Context, absolute};
use crate::guard::Guard;
use crate::verb::Outcome;

/// `smoke`
#[derive(Debug, Args)]
#[command(after_help = "A run keeps its evidence under target/xtask/runs/<run>; see: cargo xtask runs list")]
pub(crate) struct Smoke {
    /// Prints the plan that would be carried out, and does nothing
    #[arg(long, conflicts_with = "resume")]
    plan: bool,
    /// Repository to clone [default: the root]
    #[arg(long, value_name = "PATH")]
    source: Option<Utf8PathBuf>,
    /// Folder to work in [default: a new one in the cache home]
    #[arg(long, value_name = "PATH")]
    workspace: Option<Utf8PathBuf>,
    /// What to do when the workspace is there already [default: refuse]
    #[arg(long, value_enum, value_name = "ACTION")]
    if_exists: Option<IfExists>,
    /// Whether the workspace stays after the run [default: on-failure]
    #[arg(long, value_enum, value_name = "WHEN")]
    keep: Option<Keep>,
    /// Builds into an empty folder, in place of the one that runs share
    #[arg(long)]
    cold: bool,
    /// Seconds for the whole run, the build included [default: those of config/smoke.toml, without a cold build]
    #[arg(long, value_name = "SECONDS")]
    budget_s: Option<u64>,
    /// Last step
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// First step to carry out anew; needs --resume
    #[arg(long, value_name = "STEP", requires = "resume")]
    from: Option<String>,
    /// Goes on with an earlier run
    #[arg(long, value_name = "RUN", conflicts_with_all = ["source", "workspace", "cold"])]
    resume: Option<String>,
    /// The gateway of the stack: `builtin`, or one of its [gateways] [default: builtin]
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    gateway: Option<String>,
    /// Who plays the stages [default: builtin]
    #[arg(long, value_enum, value_name = "AGENT", conflicts_with = "resume")]
    agent: Option<AgentName>,
    /// Whose model tells an agent CLI what to do [default: scripted]
    #[arg(long, value_enum, value_name = "MODEL", conflicts_with = "resume")]
    model: Option<ModelName>,
    /// Refuses an agent CLI of another version than the one that config/tools.toml pins
    #[arg(long, conflicts_with = "resume")]
    locked_agents: bool,
    /// Keeps what the run came to, without what is another in each run, as config/golden/NAME.json
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "until", "manual_stage"])]
    record: Option<String>,
    /// Fails where the run comes to something else than the one that was recorded under this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "until", "manual_stage", "record"])]
    compare: Option<String>,
    /// Stops before this stage with the stack up, and says how to play it by hand
    #[arg(long, value_name = "STAGE")]
    manual_stage: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AgentName {
    /// Ours, which needs no model
    Builtin,
    /// Codex CLI
    Codex,
    /// Claude Code
    Claude,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModelName {
    /// Ours, which plays the stage's calls: no key, no internet
    Scripted,
    /// The one of the agent's maker, with your credentials
    Live,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IfExists {
    /// Leave it alone and say so
    Refuse,
    /// Go on in it, if it is of the same commit
    Reuse,
    /// Remove it, if it is ours and nobody uses it
    Replace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keep {
    /// It goes
    Never,
    /// It stays when the run fails or stops early
    OnFailure,
    /// It stays
    Always,
}

impl Smoke {
    /// How it is guarded.
    pub(crate) fn guard(&self) -> Guard {
        match (&self.manual_stage, &self.resume) {
            (Some(_), _) => Guard::but_what_stays("--manual-stage leaves the stack up"),
            (None, Some(_)) => Guard::but_what_stays("--resume takes over a stack that was left up"),
            (None, None) => Guard::of_everything(),
        }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        // Before anything else: from here on Ctrl-C means "tear down and say so".
        let interrupt = context.interrupt()?;
        let request = self.request(context)?;
        let host = context.environment()?;
        if self.plan {
            return self.show_plan(context, &request, &interrupt);
        }
        let (folder, decided, resumption) = match &self.resume {
            Some(run) => {
                let folder = RunFolder::open(context.root(), run)?;
                let (plan, described, resumption) =
                    smoke::plan_resumed(&request, &folder, &host, &interrupt)?;
                (folder, (plan, described), Some(resumption))
            }
            None => {
                let (id, folder) = RunFolder::create_new(context.root())?;
                let decided = smoke::plan_new(&request, &id, &host, &interrupt, &folder.join("logs"));
                // A run that never began leaves no folder.
                let decided = decided.inspect_err(|_| drop(folder.remove()))?;
                (folder, decided, None)
            }
        };
        carry_out(context, folder, decided, resumption, host, &interrupt)
    }

    fn request(&self, context: &Context) -> Result<Request, Failure> {
        let golden = |name: &Option<String>| {
            name.as_deref().map(|name| smoke::golden_file(context.root(), name)).transpose()
        };
        Ok(Request {
            source: self.source.as_deref().map_or_else(|| Ok(context.root().to_owned()), absolute)?,
            workspace: self.workspace.as_deref().map(absolute).transpose()?,
            if_exists: self.if_exists.map(|if_exists| match if_exists {
                IfExists::Refuse => smoke::IfExists::Refuse,
                IfExists::Reuse => smoke::IfExists::Reuse,
                IfExists::Replace => smoke::IfExists::Replace,
            }),
            keep: self.keep.map(|keep| match keep {
                Keep::Never => flow::Keep::Never,
                Keep::OnFailure => flow::Keep::OnFailure,
                Keep::Always => flow::Keep::Always,
            }),
            cold: self.cold,
            budget_s: self.budget_s,
            agent: self.agent.map_or(Agent::Builtin, |agent| match agent {
                AgentName::Builtin => Agent::Builtin,
                AgentName::Codex => Agent::Codex,
                AgentName::Claude => Agent::Claude,
            }),
            model: self.model.map_or(Model::Scripted, |model| match model {
                ModelName::Scripted => Model::Scripted,
                ModelName::Live => Model::Live,
            }),
            locked_agents: self.locked_agents,
            gateway: self.gateway.clone().unwrap_or_else(|| BUILTIN.to_owned()),
            until: self.until.clone(),
            from: self.from.clone(),
            manual_stage: self.manual_stage.clone(),
            record: golden(&self.record)?,
            compare: golden(&self.compare)?,
        })
    }

    fn show_plan(&self, context: &Context, request: &Request, interrupt: &Interrupt) -> Outcome {
        // git's answers need files to go to; a plan leaves nothing behind.
        let (id, folder) = RunFolder::create_new(context.root())?;
        let planned = smoke::plan_new(request, &id, &context.environment()?, interrupt, &folder.join("logs"));
        let removed = folder.remove();
        let (plan, _) = planned?;
        removed.map_err(|error| {
            Failure::unexpected("a plan's folder cannot be removed").because(error.to_string())
        })?;
        context.printer.data(&plan, || plan_text(&plan));
        Ok(ExitCode::Pass)
    }
}

fn carry_out(
    context: &Context,
    folder: RunFolder,
    (plan, described): (Plan, Description),
    resumption: Option<Resumption>,
    host: stelae_model::env::Environment,
    interrupt: &Interrupt,
) -> Outcome {
    let listeners: Vec<Listener> = if context.printer.is_json() {
        Vec::new()
    } else {
        vec![Terminal::with_colour(context.printer.colour()).listener()]
    };
    let path = folder.path().to_string();
    let new = resumption.is_none();
    let run = Run { plan, described, host, folder, resumption };
    // A new run that could not begin leaves no folder.
    let smoke::Finished { verdict, instructions } =
        run.carry_out(interrupt, listeners).inspect_err(|_| {
            if new {
                discard(Utf8Path::new(&path)).ok();
            }
        })?;
    let text = || {
        let mut lines = summary(&verdict, &path);
        lines.append(&Lines::block("", instructions.as_deref().unwrap_or_default()));
        lines
    };
    match (&instructions, serde_json::to_value(&verdict)) {
        (Some(instructions), Ok(mut document)) => {
            // The stack is up, and this is kept nowhere else.
            document["instructions"] = json!(instructions);
            context.printer.data(&document, text);
        }
        _ => context.printer.data(&verdict, text),
    }
    match &verdict.failure {
        None => Ok(ExitCode::Pass),
        Some(failure) => {
            context.printer.failure(failure);
            Ok(verdict.exit_code)
        }
    }
}

fn plan_text(plan: &Plan) -> Lines {
    let version =
        plan.agent_program.as_ref().map(|program| format!(" {} ({})", program.version.said, program.path));
    let version = version.unwrap_or_default();
    let budgets = &plan.budgets;
    let mut lines: Lines = [
        format!("run        {}", plan.run),
        format!("source     {} at {}", plan.source, plan.head),
        format!("workspace  {}", plan.workspace),
        format!("agent      {}{version}", plan.agent),
        format!("gateway    {}", plan.gateway),
        format!(
            "budget     {} ms, {} ms of it for the teardown",
            budgets.run_ms, budgets.teardown_reserve_ms
        ),
    ]
    .iter()
    .collect();
    for step in &budgets.steps {
        let note = if step.counted { "" } else { "  (not counted)" };
        lines.push(format!("  {:<20} {:>8} ms{note}", step.step, step.budget_ms));
    }
    lines.extend(plan.uncommitted.iter().map(|line| format!("not in the clone: {line}")));
    lines
}
