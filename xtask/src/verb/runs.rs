//! `runs`: what is kept of runs.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::lifecycle::StopLimits;
use stelae_model::terminal::Lines;
use stelae_model::verdict::Verdict;
use stelae_model::{ExitCode, Failure};
use stelae_run::process;
use stelae_run::record::{RunFolder, list_runs};
use stelae_run::report::summary;

use stelae_run::smoke::{Plan, WORKSPACE_ID, WORKSPACES, Workspace, take_back_all};

use crate::context::Context;
use crate::verb::Outcome;

/// The verbs under `runs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// Lists all runs, newest first
    List,
    /// Shows one run: its verdict and its files
    Show(One),
    /// Ends what a run left up, and removes its workspace
    Stop(One),
}

/// A run.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its id; see: cargo xtask runs list
    run: String,
}

impl Runs {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List => list(context),
            Self::Show(one) => show(context, &one.run),
            Self::Stop(one) => stop(context, &one.run),
        }
    }
}

fn list(context: &Context) -> Outcome {
    let runs = list_runs(context.root());
    context.printer.data(&json!({"schema": 1, "runs": runs}), || {
        let line = |run: &stelae_run::record::RunSummary| match &run.verdict {
            Some(verdict) => {
                format!("{}  {:>3}  {}", run.run, verdict.exit_code.number(), verdict.sentence)
            }
            None => format!("{}    -  no verdict: it runs, or it was killed", run.run),
        };
        if runs.is_empty() {
            Lines::one("no runs yet: cargo xtask smoke")
        } else {
            runs.iter().map(line).collect()
        }
    });
    Ok(ExitCode::Pass)
}

fn show(context: &Context, run: &str) -> Outcome {
    let folder = RunFolder::open(context.root(), run)?;
    let verdict: Option<Verdict> = folder.read_json("verdict.json").ok();
    let files = folder.files();
    context.printer.data(&json!({"schema": 1, "run": run, "verdict": verdict, "files": files}), || {
        let mut lines = match &verdict {
            Some(verdict) => summary(verdict, folder.path().as_str()),
            None => [
                format!("{run} has no verdict: it runs, or it was killed"),
                format!("evidence: {}", folder.path()),
            ]
            .iter()
            .collect(),
        };
        if let Some(failure) = verdict.as_ref().and_then(|verdict| verdict.failure.as_ref()) {
            lines.append(&Lines::block("", &failure.to_string()));
        }
        lines.extend(files.iter().map(|file| format!("  {file}")));
        lines
    });
    Ok(ExitCode::Pass)
}

fn stop(context: &Context, run: &str) -> Outcome {
    let folder = RunFolder::open(context.root(), run)?;
    let plan: Plan = folder.read_json("plan.json").map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "not-resumable", "the run left no plan")
            .on(folder.join("plan.json").to_string())
            .because(error.to_string())
    })?;
    // Opening takes the lock: a run that is under way is not disturbed.
    let workspaces = context.environment()?.get::<STELAE_CACHE_HOME>()?.join(WORKSPACES);
    let made = folder.read_json(WORKSPACE_ID).ok();
    let workspace = Workspace::find(run, made, &plan.workspace, &workspaces)?;
    let limits = StopLimits { grace: Duration::from_secs(10), ceiling: Duration::from_secs(2) };
    let swept = process::sweep(&plan.run, limits, &context.interrupt()?);
    if !swept.survivors.is_empty() {
        let failure = Failure::new(ExitCode::Survivor, "survivor", "something of the run does not go");
        return Err(swept.survivors.into_iter().fold(failure, Failure::on).hint("end it by its pid"));
    }
    if let Some(workspace) = &workspace {
        take_back_all(workspace.path(), &folder)?;
    }
    let removed = workspace.as_ref().map(|workspace| workspace.path().to_owned());
    workspace.map_or(Ok(()), Workspace::remove)?;
    context.printer.data(&json!({"schema": 1, "ended": swept.ended, "removed": removed}), || {
        let ended = swept.ended.iter().map(|process| format!("ended {process}"));
        let removed = removed.iter().map(|path| format!("removed {path}"));
        let lines: Lines = ended.chain(removed).collect();
        if lines.is_empty() { Lines::one("nothing was left") } else { lines }
    });
    Ok(ExitCode::Pass)
}
