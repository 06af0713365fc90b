//! What is said at the end of a run: one exit code, one sentence, one hint.

use serde::{Deserialize, Serialize};

use crate::event::StepOutcome;
use crate::{ExitCode, Failure};

/// Version of the schema of `verdict.json`.
pub const SCHEMA: u32 = 1;

/// One step in a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// How it ended; absent when it was not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StepOutcome>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

/// `verdict.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Id of the run.
    pub run: String,
    /// The code that the process exits with.
    pub exit_code: ExitCode,
    /// One sentence for a person.
    pub sentence: String,
    /// The step that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<String>,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// All steps of the plan, in order.
    pub steps: Vec<StepReport>,
    /// What was not as it should be, without changing the verdict.
    pub warnings: Vec<String>,
    /// Whether everything that should be in the run's folder is there.
    pub evidence_complete: bool,
    /// Milliseconds of the whole run.
    pub elapsed_ms: u64,
}

/// What a verdict is made from.
#[derive(Debug)]
pub struct Facts {
    /// Id of the run.
    pub run: String,
    /// The plan's steps, with what became of them.
    pub steps: Vec<StepReport>,
    /// The first failure, with its step.
    pub failed: Option<(String, Failure)>,
    /// Where the flow stopped on purpose: `--until` or a manual stage.
    pub stopped_after: Option<String>,
    /// What survived the teardown.
    pub survivors: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Whether the evidence is complete.
    pub evidence_complete: bool,
    /// Milliseconds of the whole run.
    pub elapsed_ms: u64,
}

/// Decides. The first failure names the verdict; survivors turn a pass into exit 34, and are a warning beside a
/// failure. A run of which a step did not run is no pass, unless it was to stop before.
pub fn decide(facts: Facts) -> Verdict {
    let Facts {
        run,
        steps,
        mut failed,
        stopped_after,
        survivors,
        mut warnings,
        evidence_complete,
        elapsed_ms,
    } = facts;
    let passed =
        |step: &&StepReport| matches!(step.outcome, Some(StepOutcome::Passed | StepOutcome::Resumed));
    let done = steps.iter().filter(passed).count();
    if !survivors.is_empty() {
        if failed.is_some() {
            warnings.push(format!("survived the teardown: {}", survivors.join("; ")));
        } else {
            failed = Some(("teardown".to_owned(), survived(&survivors)));
        }
    }
    if failed.is_none() && stopped_after.is_none() && done < steps.len() {
        let missing: Vec<_> =
            steps.iter().filter(|step| !passed(step)).map(|step| step.step.as_str()).collect();
        let what = format!("the run ended without these steps: {}", missing.join(", "));
        failed = Some((missing[0].to_owned(), Failure::unexpected(what)));
    }
    let seconds = format!("{}.{:01} s", elapsed_ms / 1000, elapsed_ms % 1000 / 100);
    let (exit_code, sentence) = match (&failed, &stopped_after) {
        (Some((step, failure)), _) => (failure.exit_code, format!("{step} failed: {}", failure.what)),
        (None, Some(step)) => {
            (ExitCode::Pass, format!("stopped after {step}, as asked; {done} steps passed in {seconds}"))
        }
        (None, None) => (ExitCode::Pass, format!("all {done} steps passed in {seconds}")),
    };
    let (failed_step, failure) = failed.unzip();
    Verdict {
        schema: SCHEMA,
        run,
        exit_code,
        sentence,
        failed_step,
        failure,
        steps,
        warnings,
        evidence_complete,
        elapsed_ms,
    }
}

fn survived(survivors: &[String]) -> Failure {
    let failure = Failure::new(ExitCode::Survivor, "survivor", "something survived the teardown");
    survivors
        .iter()
        .fold(failure, |failure, survivor| failure.on(survivor.clone()))
        .hint("end it by its pid, and report it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let step = |name: &str, outcome| StepReport { step: name.into(), outcome, elapsed_ms: 1 };
        Facts {
            run: "r".into(),
            steps: vec![step("clone", Some(StepOutcome::Passed)), step("build", Some(StepOutcome::Passed))],
            failed: None,
            stopped_after: None,
            survivors: vec![],
            warnings: vec![],
            evidence_complete: true,
            elapsed_ms: 4321,
        }
    }

    #[test]
    fn all_steps_passed() {
        let verdict = decide(facts());
        assert_eq!(
            (verdict.exit_code, verdict.sentence.as_str()),
            (ExitCode::Pass, "all 2 steps passed in 4.3 s")
        );
    }

    #[test]
    fn a_step_that_did_not_run_is_no_pass() {
        let mut facts = facts();
        facts.steps[1].outcome = None;
        assert_eq!(decide(facts).exit_code, ExitCode::Unexpected);
    }

    #[test]
    fn survivors_turn_a_pass_red_and_never_hide_a_failure() {
        let mut green = facts();
        green.survivors = vec!["pid 7: sleep".into()];
        assert_eq!(decide(green).exit_code, ExitCode::Survivor);
        let mut red = facts();
        red.survivors = vec!["pid 7: sleep".into()];
        red.failed = Some(("build".into(), Failure::new(ExitCode::StepFailed, "x", "it broke")));
        let verdict = decide(red);
        assert_eq!(
            (verdict.exit_code, verdict.sentence.as_str()),
            (ExitCode::StepFailed, "build failed: it broke")
        );
        assert_eq!(verdict.warnings, ["survived the teardown: pid 7: sleep"]);
    }

    #[test]
    fn stopping_on_purpose_is_a_pass_that_says_so() {
        let mut facts = facts();
        facts.steps[1].outcome = None;
        facts.stopped_after = Some("clone".into());
        let verdict = decide(facts);
        assert_eq!(verdict.exit_code, ExitCode::Pass);
        assert!(verdict.sentence.starts_with("stopped after clone"));
    }
}
