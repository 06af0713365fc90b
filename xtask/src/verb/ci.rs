//! `ci`: everything that has to be green before a merge, in the order in which it is cheapest to be told.
//!
//! The commands are what a developer would type, run by xshell. Each has a limit, so that a machine on its own ends, too;
//! and a signal to us, with or without a terminal that sends it to the rest, ends everything below us.

pub(crate) mod counted;
mod peers;

use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::floors::Wanted;
use stelae_model::lifecycle::{StopLimits, TeardownProof};
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::files::{find_shared, remove_tree};
use stelae_run::guardian::Wanted as WantedIsolation;
use stelae_run::process::Family;
use stelae_run::signals::Interrupt;
use xshell::{Cmd, Shell, cmd};

use crate::context::Context;
use crate::guard::{Guard, over_in};
use crate::verb::Outcome;

/// `ci`
#[derive(Debug, Args)]
pub(crate) struct Ci {
    /// Leaves out the measurement of a cold build
    #[arg(long)]
    no_cold_build: bool,
    /// Fails when a test with the programs of others is skipped, because they are not there
    #[arg(long)]
    require_peers: bool,
    /// Only this step; can be given more than once. What was left out was not shown
    #[arg(long, value_enum, value_name = "STEP")]
    only: Vec<Step>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting
    Format,
    /// clippy
    Lints,
    /// Generated pages
    Pages,
    /// Every test
    Tests,
    /// Tests with the programs of others
    Peers,
    /// How long a cold build takes
    ColdBuild,
    /// The whole clone
    Smoke,
}

impl Step {
    /// What it may take.
    fn limit(self) -> Duration {
        if self == Self::Peers { peers::LONGEST } else { LIMIT }
    }
}

/// No command of these takes as long, on two slow cores from cold.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What a signal leaves `smoke`, below us, to tear down what it started.
const GRACE: Duration = Duration::from_secs(10);
/// How often the one who waits for signals looks whether there is still anything to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
struct Done {
    step: &'static str,
    elapsed_ms: u128,
}

impl Ci {
    /// How it is guarded: its tests make namespaces of their own.
    pub(crate) fn guard(&self) -> Guard {
        Guard { auto: WantedIsolation::Guard, names_run: true, ..Guard::of_everything() }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        self.check()?;
        let interrupt = context.interrupt()?;
        let family = Family::enter()?;
        let green = guarded(&interrupt, || self.steps(context, &interrupt));
        // What the steps left behind is nobody's.
        let proof = stop(family, &interrupt);
        green.and_then(|()| proof.check()).map(|()| ExitCode::Pass)
    }

    fn steps(&self, context: &Context, interrupt: &Interrupt) -> Result<(), Failure> {
        let shell = shell(context)?;
        let mut done = Vec::new();
        let mut step = |which: Step, name: &'static str, work: &mut dyn FnMut() -> Result<(), Failure>| {
            if !self.is_meant(which) {
                return Ok(());
            }
            interrupt.bail("ci")?;
            over_in(which.limit());
            context.printer.talk(&format!("ci: {name}"));
            let begun = Instant::now();
            work()?;
            done.push(Done { step: name, elapsed_ms: begun.elapsed().as_millis() });
            Ok(())
        };
        // This very program, which cargo may write anew while it runs: so it is not started by its path, but by cargo.
        let xtask = || cmd!(shell, "cargo run --quiet --locked --package xtask --");
        let within = |name: &str, command: Cmd| run(name, &command.timeout(LIMIT));
        step(Step::Format, "format", &mut || within("format", cmd!(shell, "cargo fmt --all --check")))?;
        step(Step::Lints, "lints", &mut || {
            within("lints", cmd!(shell, "cargo clippy --workspace --all-targets --locked -- -D warnings"))
        })?;
        step(Step::Pages, "pages", &mut || within("pages", xtask().args(["docs", "--check"])))?;
        // To the end, also after a red one: whoever waited for this wants to know all of it.
        step(Step::Tests, "tests", &mut || {
            let test = |redirected: Cmd| {
                let words = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast"];
                redirected.args(words).timeout(LIMIT)
            };
            counted::check(context, &shell, "tests", &test, Wanted::All).map(drop)
        })?;
        let mut peers = None;
        step(Step::Peers, "peers", &mut || {
            peers = Some(peers::check(context, &shell, interrupt)?);
            Ok(())
        })?;
        interrupt.bail("ci")?;
        let cold = if self.is_meant(Step::ColdBuild) { Some(cold_build(context, &shell)?) } else { None };
        step(Step::Smoke, "smoke", &mut || within("smoke", xtask().args(["smoke"])))?;
        let left_out = self.left_out();
        let json =
            json!({"schema": 1, "steps": done, "peers": peers, "cold_build": cold, "left_out": left_out});
        context.printer.data(&json, || {
            let line =
                |done: &Done| format!("ci: {:<10} ok {:>8.1} s", done.step, done.elapsed_ms as f64 / 1000.0);
            let mut lines: Lines = done.iter().map(line).collect();
            lines.append(&peers.as_ref().map(peers::Peers::lines).unwrap_or_default());
            lines.extend(cold.map(ColdBuild::text));
            if !left_out.is_empty() {
                lines.push(format!("ci: NOT RUN: {}", left_out.join(", ")));
            }
            lines
        });
        match &peers {
            Some(peers) if self.require_peers => peers.require_all(),
            _ => Ok(()),
        }
    }

    /// A green of nothing at all would be none.
    fn check(&self) -> Result<(), Failure> {
        if self.require_peers && !self.is_meant(Step::Peers) {
            let what = "the programs of others are required, and their tests left out";
            return Err(Failure::new(ExitCode::Usage, "contradictory", what)
                .because("--require-peers is about a step that --only does not name")
                .hint("cargo xtask ci --only peers --require-peers"));
        }
        if Step::value_variants().iter().any(|&step| self.is_meant(step)) {
            return Ok(());
        }
        Err(Failure::new(ExitCode::Usage, "no-steps", "no step is left to be run")
            .because("--no-cold-build leaves out the only one that --only names")
            .hint("cargo xtask ci --only cold-build"))
    }

    fn is_meant(&self, step: Step) -> bool {
        if step == Step::ColdBuild && self.no_cold_build {
            return false;
        }
        self.only.is_empty() || self.only.contains(&step)
    }

    /// The steps that nobody wanted, by the names that they are wanted by.
    fn left_out(&self) -> Vec<String> {
        let steps = Step::value_variants().iter().filter(|&&step| !self.is_meant(step));
        steps.filter_map(|step| Some(step.to_possible_value()?.get_name().to_owned())).collect()
    }
}

/// Does the work while somebody waits for signals: xshell does not, and sits in a `wait` until its child has ended. After
/// one, everything below us is stopped, again and again until the work has noticed: a command may just be starting.
fn guarded(interrupt: &Interrupt, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let (over, is_over) = mpsc::channel::<()>();
    let ended = thread::scope(|scope| {
        scope.spawn(move || {
            // The work drops its end also when it panics.
            while is_over.try_recv() == Err(TryRecvError::Empty) {
                if interrupt.check().is_some() {
                    Family::enter().map(|family| stop(family, interrupt)).ok();
                    // The signal has been seen: from here on it wakes nobody.
                    thread::sleep(LOOK_EVERY);
                } else {
                    interrupt.wait(LOOK_EVERY);
                }
            }
        });
        let _over = over;
        work()
    });
    // A command that was ended is not what failed.
    interrupt.bail("ci")?;
    ended
}

/// Stops everything below us, and shows that it is gone.
fn stop(family: Family, interrupt: &Interrupt) -> TeardownProof {
    family.stop(StopLimits { grace: GRACE, ..StopLimits::default() }, interrupt, &mut |_| ())
}

/// Builds of clones, by tests and by `smoke`, and installed tools share one folder under `target`: what `ci` leaves is all
/// in there.
///
/// In a checkout that lies where other users can write above (a clone below `/tmp`), it is a folder of the user's cache home.
fn cache_home(context: &Context) -> Result<Utf8PathBuf, Failure> {
    let in_root = context.root().join("target/xtask/cache");
    match find_shared(&in_root) {
        Ok(None) => Ok(in_root),
        // Whatever is wrong with it is told of by the verb that is given the other.
        Ok(Some(_)) | Err(_) => Ok(context.environment()?.get::<STELAE_CACHE_HOME>()?.join("ci")),
    }
}

/// A shell in the root.
#[expect(clippy::disallowed_methods, reason = "this module is the one that uses xshell, under its guard")]
fn shell(context: &Context) -> Result<Shell, Failure> {
    let mut shell = Shell::new().map_err(|error| Failure::unexpected(error.to_string()))?;
    shell.set_current_dir(context.root());
    shell.set_var("STELAE_CACHE_HOME", cache_home(context)?);
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
        format!("ci: a cold build of xtask takes {:.1} s, and has {} crates", self.seconds, self.crates)
    }
}

fn cold_build(context: &Context, shell: &Shell) -> Result<ColdBuild, Failure> {
    let target = context.root().join("target/xtask/cold");
    let remove = || {
        remove_tree(&target, Deadline::after(LIMIT)).map_err(|remains| {
            let failure = Failure::unexpected("the folder of the cold build cannot be removed");
            remains.tell(failure, "cargo xtask ci --only cold-build")
        })
    };
    over_in(LIMIT);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_is_said() {
        let ci =
            |no_cold_build, only: &[Step]| Ci { no_cold_build, require_peers: false, only: only.to_vec() };
        assert!(ci(false, &[]).left_out().is_empty());
        assert_eq!(ci(true, &[]).left_out(), ["cold-build"]);
        let left_out = ci(false, &[Step::Peers, Step::Pages]).left_out();
        assert_eq!(left_out, ["format", "lints", "tests", "cold-build", "smoke"]);
        assert!(ci(true, &[Step::ColdBuild, Step::Pages]).check().is_ok());
        let refused = ci(true, &[Step::ColdBuild]).check().unwrap_err();
        assert_eq!((refused.exit_code, refused.kind.as_str()), (ExitCode::Usage, "no-steps"));
        let required = |only: &[Step]| Ci { require_peers: true, ..ci(true, only) };
        assert!(required(&[]).check().is_ok() && required(&[Step::Peers]).check().is_ok());
        assert_eq!(required(&[Step::Format]).check().unwrap_err().kind, "contradictory");
    }
}
