//! `config/smoke.toml`: the stages that an agent plays, and the budgets of the run.

use serde::{Deserialize, Serialize};

use crate::agent::Model;
use crate::expect::Stage;
use crate::flow::{Budgets, StepBudget};
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
    /// Seconds.
    pub budgets: BudgetsConfig,
    /// The stages, in order: `bundle-tools`, `install`, `remove`.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
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
/// naming the stage that is missing.
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
    if let Some(empty) = config.stages.iter().find(|stage| stage.calls.is_empty()) {
        return Err(Failure::new(ExitCode::Environment, "smoke-config", "a stage expects nothing")
            .on(format!("{path}: stage {}", empty.name))
            .because("a stage without calls can only be green")
            .hint("add a [[stage.call]]"));
    }
    Ok(config)
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
}
