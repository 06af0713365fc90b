//! `ci`: everything that has to be green before a merge, in the order in which it is cheapest to be told.
//!
//! The commands are what a developer would type, and a developer's Ctrl-C is their bound; each has a limit besides, so
//! that a machine on its own ends, too.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use stelae_model::{ExitCode, Failure};
use xshell::{Cmd, Shell, cmd};

use crate::context::Context;
use crate::verb::Outcome;

/// `ci`
#[derive(Debug, Args)]
pub(crate) struct Ci {
    /// Leaves out the measurement of a cold build
    #[arg(long)]
    no_cold_build: bool,
}

/// No command of these takes as long, on two slow cores from cold.
const LIMIT: Duration = Duration::from_secs(40 * 60);

#[derive(Debug, Serialize)]
struct Done {
    step: &'static str,
    elapsed_ms: u128,
}

impl Ci {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let shell = shell(context)?;
        let mut done = Vec::new();
        let mut step = |name: &'static str, commands: Vec<Cmd>| -> Result<(), Failure> {
            context.printer.talk(&format!("ci: {name}"));
            let begun = Instant::now();
            for command in commands {
                run(name, &command.timeout(LIMIT))?;
            }
            done.push(Done { step: name, elapsed_ms: begun.elapsed().as_millis() });
            Ok(())
        };
        // This very program, which cargo may write anew while it runs: so it is not started by its path, but by cargo.
        let xtask = |shell: &Shell| cmd!(shell, "cargo run --quiet --locked --package xtask --");
        step("format", vec![cmd!(shell, "cargo fmt --all --check")])?;
        step("lints", vec![cmd!(shell, "cargo clippy --workspace --all-targets --locked -- -D warnings")])?;
        step("pages", vec![xtask(&shell).args(["docs", "--check"])])?;
        step("tests", vec![cmd!(shell, "cargo test --workspace --locked")])?;
        let cold = if self.no_cold_build { None } else { Some(cold_build(context, &shell)?) };
        step("smoke", vec![xtask(&shell).args(["smoke"])])?;
        context.printer.data(&json!({"schema": 1, "steps": done, "cold_build": cold}), || {
            let line = |done: &Done| {
                format!("ci: {:<10} ok {:>8.1} s\n", done.step, done.elapsed_ms as f64 / 1000.0)
            };
            let steps: String = done.iter().map(line).collect();
            steps + &cold.map(ColdBuild::text).unwrap_or_default()
        });
        Ok(ExitCode::Pass)
    }
}

/// A shell in the root. Builds of clones, by tests and by `smoke`, share one folder under `target`: what `ci` leaves is
/// all in there.
fn shell(context: &Context) -> Result<Shell, Failure> {
    let mut shell = Shell::new().map_err(|error| Failure::unexpected(error.to_string()))?;
    shell.set_current_dir(context.root());
    shell.set_var("STELAE_CACHE_HOME", context.root().join("target/xtask/cache"));
    Ok(shell)
}

fn run(step: &str, command: &Cmd) -> Result<(), Failure> {
    let shown = command.to_string();
    command.run_echo().map_err(|error| {
        Failure::new(ExitCode::StepFailed, "ci-step-failed", format!("{step} is not green"))
            .because(error.to_string())
            .hint(shown)
    })
}

/// What it costs to see `cargo xtask --help` on a new machine.
#[derive(Clone, Copy, Debug, Serialize)]
struct ColdBuild {
    seconds: f64,
    crates: usize,
}

impl ColdBuild {
    fn text(self) -> String {
        format!("ci: a cold build of xtask takes {:.1} s, and has {} crates\n", self.seconds, self.crates)
    }
}

fn cold_build(context: &Context, shell: &Shell) -> Result<ColdBuild, Failure> {
    let target = context.root().join("target/xtask/cold");
    let remove = || match std::fs::remove_dir_all(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::unexpected("the folder of the cold build cannot be removed")
                .because(error.to_string()))
        }
        _ => Ok(()),
    };
    context.printer.talk("ci: cold build of xtask");
    remove()?;
    let begun = Instant::now();
    let build = cmd!(shell, "cargo build --locked --package xtask --target-dir {target}").timeout(LIMIT);
    let said = build.read_stderr().map_err(|error| {
        Failure::new(ExitCode::StepFailed, "ci-step-failed", "xtask does not build")
            .because(error.to_string())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    remove()?;
    Ok(ColdBuild {
        seconds,
        crates: said.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count(),
    })
}
