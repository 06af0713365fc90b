//! `config/smoke.toml`: the stages that an agent plays, and the budgets of the run.

use serde::{Deserialize, Serialize};

use crate::agent::Model;
use crate::expect::{EXAMPLE_NONCE, Stage, StageFault, declared_fault};
use crate::flow::{Budgets, StepBudget};
use crate::manifest::Declared;
use crate::misbehaviour::Misbehaviour;
use crate::stack::{check_times, parse_toml};
use crate::{ExitCode, Failure};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmokeConfig {
    /// Version of this schema: 1.
    pub version: u32,
    /// The bundle that is installed.
    pub bundle: String,
    /// The file of the clone that holds the run's nonce, a line with nothing else; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_file: Option<String>,
    /// What the steps before the stages may change for good.
    #[serde(default)]
    pub may_leave: MayLeave,
    /// Seconds.
    pub budgets: BudgetsConfig,
    /// The stages, in order: `bundle-tools`, `install`, `remove`.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// What a step may change for good: in the clone (`repo:…`), or in the config home (`config:…`), by the step's name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MayLeave {
    /// The build.
    pub build: Vec<String>,
    /// The preparation of the homes.
    pub setup: Vec<String>,
    /// The installation of the bundle.
    pub bundle: Vec<String>,
    /// The rendering of `proxy.json`.
    pub render: Vec<String>,
    /// The start of the stack, and all that it does until the first stage.
    pub restart: Vec<String>,
    /// The end of the stack.
    pub teardown: Vec<String>,
}

impl MayLeave {
    fn each(&self) -> [(&'static str, &[String]); 6] {
        let Self { build, setup, bundle, render, restart, teardown } = self;
        [
            ("build", build),
            ("setup", setup),
            ("bundle", bundle),
            ("render", render),
            ("restart", restart),
            ("teardown", teardown),
        ]
    }

    /// What the step of this name may leave; of good declarations only.
    pub fn of(&self, step: &str) -> Declared {
        let of_step = self.each().into_iter().find(|(name, _)| *name == step);
        of_step.map(|(_, patterns)| Declared::read(patterns).unwrap_or_default()).unwrap_or_default()
    }
}

/// Budgets, in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetsConfig {
    /// The whole run, without a cold build.
    pub run_s: u64,
    /// Kept for the teardown.
    pub teardown_reserve_s: u64,
    /// Each step that has none of its own.
    pub step_s: u64,
    /// The build, which does not count against the run.
    pub build_s: u64,
    /// The restart.
    pub restart_s: u64,
    /// Each stage, where an agent CLI asks the model of its maker; the run gets as much more.
    pub live_stage_s: u64,
}

impl BudgetsConfig {
    fn check(&self, path: &str) -> Result<(), Failure> {
        let times = [
            ("budgets.run_s", self.run_s),
            ("budgets.teardown_reserve_s", self.teardown_reserve_s),
            ("budgets.step_s", self.step_s),
            ("budgets.build_s", self.build_s),
            ("budgets.restart_s", self.restart_s),
            ("budgets.live_stage_s", self.live_stage_s),
        ];
        check_times("smoke-config", path, 1, 1, &times)
    }

    /// The budgets of the steps with these names.
    pub fn of(&self, steps: &[String], model: Model) -> Budgets {
        let live = model == Model::Live;
        let budget = |step: &String| {
            let (seconds, counted) = match step.as_str() {
                "build" => (self.build_s, false),
                "restart" => (self.restart_s, true),
                "teardown" => (self.teardown_reserve_s, true),
                stage if live && stage.starts_with("stage:") => (self.live_stage_s, true),
                _ => (self.step_s, true),
            };
            StepBudget { step: step.clone(), budget_ms: seconds * 1000, counted }
        };
        let more = if live { self.live_stage_s.saturating_sub(self.step_s) * STAGES.len() as u64 } else { 0 };
        Budgets {
            run_ms: (self.run_s + more) * 1000,
            teardown_reserve_ms: self.teardown_reserve_s * 1000,
            steps: steps.iter().map(budget).collect(),
        }
    }
}

/// The stages that a run has, in this order.
pub const STAGES: [&str; 3] = ["bundle-tools", "install", "remove"];

/// Reads a `smoke.toml`.
///
/// # Errors
/// Exit 20, `smoke-config`: with line and column; another version than 1; a budget of no time, or of more than a day;
/// naming the stage that is missing; an expectation that anything meets, or that cannot be met. 21: a name in a text that there
/// is not.
pub fn parse_smoke(path: &str, text: &str) -> Result<SmokeConfig, Failure> {
    let config: SmokeConfig = parse_toml("smoke-config", path, text)?;
    config.budgets.check(path)?;
    let names: Vec<_> = config.stages.iter().map(|stage| stage.name.as_str()).collect();
    if names != STAGES {
        return Err(Failure::new(
            ExitCode::Environment,
            "smoke-config",
            "the stages are not the ones that a run has",
        )
        .on(path.to_owned())
        .because(format!("a run has {}, the file has {}", STAGES.join(", "), names.join(", "))));
    }
    for stage in &config.stages {
        stage.misbehave.map_or(Ok(()), Misbehaviour::check).map_err(|why| {
            let what = "the scripted model cannot do that";
            Failure::new(ExitCode::Environment, "smoke-config", what)
                .on(format!("{path}: stage {}", stage.name))
                .because(why)
        })?;
    }
    if let Some(why) = config.nonce_file.as_deref().and_then(fault_of_file) {
        return Err(refused(path, "the nonce has no place", "nonce_file", why)
            .hint("a file that the commit does not have: nonce_file = \"stelae-nonce.txt\""));
    }
    for (step, patterns) in config.may_leave.each() {
        if let Some(fault) = declared_fault(&format!("may_leave.{step}"), patterns) {
            return Err(cannot_be_meant(path, "", fault));
        }
    }
    for stage in &config.stages {
        if let Some(fault) = stage.filled(path, EXAMPLE_NONCE)?.fault() {
            return Err(cannot_be_meant(path, &format!("stage {}", stage.name), fault));
        }
    }
    Ok(config)
}

fn refused(path: &str, what: &str, place: &str, why: impl Into<String>) -> Failure {
    Failure::new(ExitCode::Environment, "smoke-config", what).on(format!("{path}: {place}")).because(why)
}

fn cannot_be_meant(path: &str, stage: &str, fault: StageFault) -> Failure {
    let place: Vec<_> = [stage, &fault.place].into_iter().filter(|part| !part.is_empty()).collect();
    let failure = refused(path, "an expectation cannot be meant", &place.join(", "), fault.why);
    fault.hint.into_iter().fold(failure, Failure::hint)
}

/// Why no file of a clone can have this name.
fn fault_of_file(name: &str) -> Option<&'static str> {
    if matches!(name, "" | "." | ".." | ".git") || name.contains('/') {
        return Some("it is no name for a file in the root of the clone");
    }
    if name.chars().any(char::is_control) {
        return Some("it has a character that cannot be printed");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../../../../config/smoke.toml");

    fn failure(old: &str, new: &str) -> Failure {
        assert!(REAL.contains(old));
        let failure = parse_smoke("smoke.toml", &REAL.replacen(old, new, 1)).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "smoke-config"));
        failure
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(failure("version = 1", "version = 7").why, ["its version is 7, and this program reads 1"]);
    }

    #[test]
    fn a_live_model_has_more_time_for_each_stage_and_for_the_run() {
        let budgets = parse_smoke("smoke.toml", REAL).unwrap().budgets;
        let steps = ["clone".to_owned(), "stage:install".to_owned()];
        let seconds = |model| {
            let budgets = budgets.of(&steps, model);
            (
                budgets.run_ms / 1000,
                budgets.of("clone").unwrap().budget_ms / 1000,
                budgets.of("stage:install").unwrap().budget_ms / 1000,
            )
        };
        assert_eq!(seconds(Model::Scripted), (120, 20, 20));
        assert_eq!(seconds(Model::Live), (120 + 3 * 100, 20, 120));
    }

    #[test]
    fn budgets_are_a_second_to_a_day() {
        for (key, bad) in
            [("run_s = 120", "9000000000000000000"), ("step_s = 20", "0"), ("build_s = 1200", "86401")]
        {
            let name = key.split(' ').next().unwrap();
            let failure = failure(key, &format!("{name} = {bad}"));
            assert_eq!(failure.on, [format!("smoke.toml: budgets.{name}")]);
            assert_eq!(failure.why, [format!("it is {bad}, and must be 1 to 86400")]);
        }
    }

    /// The file with this in place of that is refused, at this place and for this reason.
    fn is_refused(old: &str, new: &str, place: &str, why: &str) -> Failure {
        let failure = failure(old, new);
        assert!(failure.on[0].contains(place), "{new}: {failure}");
        assert!(failure.why[0].contains(why), "{new}: {failure}");
        failure
    }

    const CALL: &str = "[[stage.call]]\ntool = \"count_words\"\n";

    #[test]
    fn what_anything_meets_is_refused_with_its_place() {
        let call = |line: &str| format!("{CALL}{line}\n");
        for (line, place, why) in [
            ("result_contains = \"\"", "stage remove, call 1: result_contains", "every text contains"),
            ("result_contains = \" \"", "stage remove, call 1: result_contains", "every text contains"),
        ] {
            let failure = is_refused(CALL, &call(line), place, why);
            assert!(failure.hint.is_some(), "{failure}");
        }
        let result = "result = [{ json = \"/longest\", equals = \"{{ NONCE }}\" }";
        for (with, place, why) in [
            ("result = [{ contains = \"\" }", "stage remove, call 1: result 1", "every text contains"),
            ("result = [{ matches = \".*\" }", "stage remove, call 1: result 1", "empty text"),
            ("result = [{ matches = \"(\" }", "stage remove, call 1: result 1", "the pattern is wrong"),
            (
                "result = [{ json = \"longest\", equals = 1 }",
                "stage remove, call 1: result 1",
                "no JSON pointer",
            ),
        ] {
            is_refused(result, with, place, why);
        }
        let twice = format!("{result}, {}", result.trim_start_matches("result = ["));
        is_refused(result, &twice, "stage remove, call 1: result 2", "expected twice");
        is_refused(
            CALL,
            &call("result = []\n[[stage.call]]\ntool = \"count_words\"\narguments = {}"),
            "",
            "",
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let never =
            "[[stage.never]]\ntool = \"manage_stelae\"\narguments = { operation = \"remove_server\" }\n";
        is_refused(never, &format!("{never}\n{never}"), "stage install, never 2", "forbidden twice");
        let empty = never.replace("{ operation = \"remove_server\" }", "{}");
        is_refused(never, &empty, "stage install, never 1", "empty arguments");
        is_refused(never, &never.replace("manage_stelae", ""), "stage install, never 1", "names no tool");
        let gained = "tools_gained = [\"count_words\"]";
        is_refused(
            gained,
            "tools_gained = [\"count_words\", \"count_words\"]",
            "smoke.toml:",
            "listed twice",
        );
        is_refused(gained, &format!("{gained}\ntools_lost = [\"count_words\"]"), "stage install", "at once");
        is_refused("setup = [\"repo:.env\"]", "build = [\"repo:**\"]", "may_leave.build", "names everything");
        let root =
            is_refused("setup = [\"repo:.env\"]", "setup = [\"confg:x\"]", "may_leave.setup", "no root");
        assert_eq!(root.hint.as_deref(), Some("did you mean \"config:x\"?"));
        is_refused(
            "nonce_file = \"stelae-nonce.txt\"",
            "nonce_file = \"../x\"",
            "nonce_file",
            "no name for a file",
        );
        is_refused(
            "nonce_file = \"stelae-nonce.txt\"",
            "nonce_file = \".git\"",
            "nonce_file",
            "no name for a file",
        );
        let unknown =
            parse_smoke("smoke.toml", &REAL.replacen("{{ NONCE }}\" }", "{{ NONSE }}\" }", 1)).unwrap_err();
        assert_eq!((unknown.exit_code, unknown.kind.as_str()), (ExitCode::Render, "unknown-name"));
    }
}
