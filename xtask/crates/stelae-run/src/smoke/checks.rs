//! What is asked for, looked at for what contradicts itself or cannot be: before anything is built or started.

use stelae_model::agent::Model;
use stelae_model::env::nearest;
use stelae_model::golden::Golden;
use stelae_model::stack::Chosen;
use stelae_model::stages::STAGES;
use stelae_model::{ExitCode, Failure};

use super::options::Plan;
use super::planning::Request;
use super::{TEARDOWN, step_names};

/// That the steps and the stage that are asked for are there, and come in this order.
///
/// # Errors
/// Exit 2, `unknown-step`, `contradictory`.
pub(super) fn check_steps(request: &Request) -> Result<(), Failure> {
    let names = step_names();
    for step in request.until.iter().chain(&request.from) {
        known(step, "step", names.iter().map(String::as_str))?;
    }
    if let Some(stage) = &request.manual_stage {
        known(stage, "stage", STAGES)?;
        let place = |step: &str| names.iter().position(|name| name == step);
        let manual = place(&format!("stage:{stage}"));
        if let Some(until) = request.until.as_deref().filter(|until| place(until) < manual) {
            return Err(Failure::new(
                ExitCode::Usage,
                "contradictory",
                "the run would stop before the stage to play",
            )
            .because(format!("--until {until} comes before --manual-stage {stage}"))
            .hint("leave one of the two out"));
        }
    }
    Ok(())
}

/// That a session which reads back so many steps does not have the one behind it after which it is to stop.
///
/// # Errors
/// Exit 2, `contradictory`.
pub(super) fn check_until(steps: &[String], read_back: usize, until: Option<&str>) -> Result<(), Failure> {
    let Some(until) = until.filter(|until| steps.iter().take(read_back).any(|step| step == until)) else {
        return Ok(());
    };
    let next = steps.get(read_back).map_or(TEARDOWN, String::as_str);
    let what = "the run has passed the step after which it is to stop";
    Err(Failure::new(ExitCode::Usage, "contradictory", what)
        .because(format!("--until {until} comes before {next}, with which the run goes on"))
        .hint(format!("carry it out anew: --from {until} --until {until}; or leave --until out")))
}

fn known<'a>(
    name: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    if known.clone().into_iter().any(|other| other == name) {
        return Ok(());
    }
    let all: Vec<_> = known.clone().into_iter().collect();
    let failure = Failure::new(ExitCode::Usage, "unknown-step", format!("there is no {what} {name:?}"));
    Err(match nearest(name, known) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure.hint(format!("there are: {}", all.join(", "))),
    })
}

/// The last stage that a gateway can do which serves what it was started with, and nothing that comes later.
const LAST_WITHOUT_RELOAD: &str = "stage:bundle-tools";

/// That no stage is asked for that the gateway cannot do. Found out now, and not after the build.
pub(super) fn check_reload(chosen: &Chosen, request: &Request) -> Result<(), Failure> {
    let names = step_names();
    let place = |step: &str| names.iter().position(|name| name == step);
    let last = request.until.as_deref().and_then(place);
    if chosen.reloads() || last.is_some_and(|last| Some(last) <= place(LAST_WITHOUT_RELOAD)) {
        return Ok(());
    }
    let name = &chosen.name;
    Err(Failure::new(
        ExitCode::Usage,
        "gateway-cannot-reload",
        "the stages install and remove cannot be played over this gateway",
    )
    .on(format!("--gateway {name}"))
    .because("it serves what it was started with: what is installed comes with its next restart")
    .hint(format!("cargo xtask smoke --gateway {name} --until {LAST_WITHOUT_RELOAD}")))
}

/// That there is a golden run to compare with, of this very agent.
pub(super) fn check_golden(request: &Request, golden: Option<&Golden>) -> Result<(), Failure> {
    if request.manual_stage.is_some() && (request.record.is_some() || request.compare.is_some()) {
        let what = "what a person plays is no golden run";
        return Err(Failure::new(ExitCode::Usage, "contradictory", what)
            .because("the run is recorded, or compared, and a stage of it is to be played by hand"));
    }
    let (Some(path), Some(golden)) = (&request.compare, golden) else { return Ok(()) };
    if (golden.agent, golden.model) == (request.agent, request.model) {
        return Ok(());
    }
    let what = "the golden run is one of another agent";
    let who = |agent, model| match model {
        Model::Scripted => format!("{agent}"),
        Model::Live => format!("{agent} with a live model"),
    };
    let (was, is) = (who(golden.agent, golden.model), who(request.agent, request.model));
    Err(Failure::new(ExitCode::Usage, "contradictory", what)
        .on(path.to_string())
        .because(format!("it is of {was}, and {is} is to play"))
        .hint(format!("--agent {}", golden.agent)))
}

/// That the stages of one run are all played by the same program, unless all of them are played anew.
pub(super) fn check_same_agent(old: &Plan, plan: &Plan, from: Option<&str>) -> Result<(), Failure> {
    let version = |plan: &Plan| plan.agent_program.as_ref().map(|program| program.version.said.clone());
    let (was, is) = (version(old), version(plan));
    let first = format!("stage:{}", STAGES[0]);
    let names = step_names();
    let place = |step: &str| names.iter().position(|name| name == step);
    let anew = from.and_then(place).is_some_and(|from| Some(from) <= place(&first));
    if was == is || anew {
        return Ok(());
    }
    let what = format!("{} is not the version that the run began with", plan.agent);
    Err(Failure::new(ExitCode::Drift, "agent-changed", what)
        .because(format!("it was {}, and is {}", was.unwrap_or_default(), is.unwrap_or_default()))
        .hint(format!("cargo xtask smoke --resume {} --from {first}", plan.run)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_does_not_stop_after_a_step_that_is_behind_it() {
        let steps = ["clone", "build", "setup"].map(str::to_owned);
        let checked =
            |read_back, until| check_until(&steps, read_back, until).map_err(|failure| failure.kind);
        assert_eq!(checked(2, Some("build")), Err("contradictory".to_owned()));
        assert_eq!(checked(2, Some("clone")), Err("contradictory".to_owned()));
        assert_eq!(checked(2, Some("setup")), Ok(()));
        assert_eq!(checked(1, Some("build")), Ok(()));
        assert_eq!((checked(0, Some("clone")), checked(3, None)), (Ok(()), Ok(())));
    }
}
