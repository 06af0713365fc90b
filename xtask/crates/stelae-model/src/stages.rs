//! `config/smoke.toml`: the stages that an agent plays, and the budgets of the run.

use serde::{Deserialize, Serialize};

use crate::expect::Stage;
use crate::flow::{Budgets, StepBudget};
use crate::stack::parse_toml;
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
}

impl BudgetsConfig {
    /// The budgets of the steps with these names.
    pub fn of(&self, steps: &[String]) -> Budgets {
        let budget = |step: &String| {
            let (seconds, counted) = match step.as_str() {
                "build" => (self.build_s, false),
                "restart" => (self.restart_s, true),
                "teardown" => (self.teardown_reserve_s, true),
                _ => (self.step_s, true),
            };
            StepBudget { step: step.clone(), budget_ms: seconds * 1000, counted }
        };
        Budgets {
            run_ms: self.run_s * 1000,
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
/// Exit 20, `smoke-config`: with line and column, or naming the stage that is missing.
pub fn parse_smoke(path: &str, text: &str) -> Result<SmokeConfig, Failure> {
    let config: SmokeConfig = parse_toml("smoke-config", path, text)?;
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
    if let Some(empty) = config.stages.iter().find(|stage| stage.calls.is_empty()) {
        return Err(Failure::new(ExitCode::Environment, "smoke-config", "a stage expects nothing")
            .on(format!("{path}: stage {}", empty.name))
            .because("a stage without calls can only be green")
            .hint("add a [[stage.call]]"));
    }
    Ok(config)
}
