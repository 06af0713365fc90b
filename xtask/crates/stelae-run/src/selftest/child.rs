//! One child of a witness: started, watched to its end, and compared with what the witness says.

use std::time::Duration;

use camino::Utf8Path;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::{ExitCode, Failure};

use super::stage::Stage;
use super::witness::{Scene, Witness};
use crate::deadline::Deadline;
use crate::files::read_log;
use crate::process::{Service, Session, Stdin};
use crate::tail::tail;

const LOOK_EVERY: Duration = Duration::from_millis(2);
/// No witness takes as long that builds nothing, whatever else the machine does.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// The same for one that builds: a cold build is on the way.
pub const BUILDS_WITHIN: Duration = Duration::from_secs(25 * 60);

/// What is seen of a child that has ended.
#[derive(Debug)]
pub(super) struct Seen {
    ended: Ended,
    stdout: String,
    said: Vec<String>,
}

/// Plays a scene to its end.
pub(super) fn play(scene: &Scene, stage: &Stage<'_>) -> Result<Seen, Failure> {
    let invocation = stage.invocation(scene)?;
    let deadline = Deadline::after(if scene.builds { BUILDS_WITHIN } else { HANGS_AFTER });
    let mut child = Service::start(&invocation, &stage.stdout(), Stdin::Null, Session::Ours)?;
    let ended = await_end(scene, stage, &mut child, deadline);
    if ended.is_err() {
        child.stop(StopLimits::default(), stage.host.interrupt);
    }
    let stdout = read_log(&stage.stdout()).unwrap_or_default();
    Ok(Seen { ended: ended?, stdout, said: tail(&stage.stderr()) })
}

fn await_end(
    scene: &Scene,
    stage: &Stage<'_>,
    child: &mut Service,
    deadline: Deadline,
) -> Result<Ended, Failure> {
    let interrupt = stage.host.interrupt;
    let mut signal = scene.once_up.as_ref();
    loop {
        if let Some(ended) = child.try_exit() {
            return Ok(ended);
        }
        if let Some(once_up) = signal.filter(|once_up| is_up(&once_up.log)) {
            (once_up.before)(stage)?;
            // Not taken yet, so its pid is its own.
            Pid::from_raw(child.pid()).map(|pid| kill_process(pid, once_up.signal));
            signal = None;
        }
        interrupt.bail("a witness")?;
        if deadline.passed() {
            let failure = Failure::new(ExitCode::StepFailed, "witness-hangs", "the witness does not end");
            return Err(failure.on(child.command()).log_tail(tail(&stage.stderr())));
        }
        interrupt.wait(LOOK_EVERY);
    }
}

fn is_up(log: &Utf8Path) -> bool {
    read_log(log).is_ok_and(|text| text.lines().any(|line| line == "up"))
}

impl Seen {
    /// What is not as the witness says.
    pub(super) fn differs_from(&self, witness: &Witness) -> Vec<String> {
        let mut differs = Vec::new();
        if self.ended != Ended::Status(i32::from(witness.code.number())) {
            differs.push(format!("it ended with {}", self.ended));
        }
        match (failure_in(&self.stdout), witness.kind) {
            (Ok(None), None) => {}
            (Ok(Some(failure)), Some(kind)) if failure == (witness.code.number().into(), kind.to_owned()) => {
            }
            (Ok(None), Some(kind)) => {
                differs.push(format!("stdout has no failure, where {kind} is expected"));
            }
            (Ok(Some((code, kind))), _) => differs.push(format!("stdout says {code} {kind}")),
            (Err(why), _) => differs.push(format!("stdout is not JSON: {why}")),
        }
        if !differs.is_empty() {
            differs.extend(self.said.iter().map(|line| format!("| {line}")));
        }
        differs
    }
}

/// Exit code and kind of the failure on stdout: in one document, or in the last of many lines that has one.
fn failure_in(stdout: &str) -> Result<Option<(u64, String)>, serde_json::Error> {
    let mut found = None;
    for document in serde_json::Deserializer::from_str(stdout).into_iter::<Value>() {
        let document = document?;
        for failure in [&document["failure"], &document["event"]["failure"]] {
            if let (Some(code), Some(kind)) = (failure["exit_code"].as_u64(), failure["kind"].as_str()) {
                found = Some((code, kind.to_owned()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::WITNESSES;

    fn seen(status: i32, stdout: &str) -> Seen {
        Seen {
            ended: Ended::Status(status),
            stdout: stdout.to_owned(),
            said: vec!["error: drift".to_owned()],
        }
    }

    fn drift() -> &'static Witness {
        WITNESSES.iter().find(|witness| witness.code == ExitCode::Drift).unwrap()
    }

    #[test]
    fn status_code_and_kind_have_to_be_the_ones_that_are_expected() {
        let document = |code: u8, kind: &str| {
            format!(r#"{{"schema":1,"failure":{{"exit_code":{code},"kind":"{kind}"}}}}"#)
        };
        let kind = drift().kind.unwrap();
        assert_eq!(seen(50, &document(50, kind)).differs_from(drift()), Vec::<String>::new());
        for wrong in [
            seen(1, &document(50, kind)),
            seen(50, &document(51, kind)),
            seen(50, &document(50, "other")),
            seen(50, "{\"schema\": 1}"),
            seen(50, ""),
            seen(50, "error: no JSON"),
        ] {
            let differs = wrong.differs_from(drift());
            assert!(differs.len() == 2 && differs[1] == "| error: drift", "{differs:?}");
        }
    }

    #[test]
    fn a_pass_has_no_failure() {
        let pass = WITNESSES.iter().find(|witness| witness.code == ExitCode::Pass).unwrap();
        assert!(seen(0, "{\"schema\": 1}").differs_from(pass).is_empty());
        assert!(!seen(0, r#"{"failure":{"exit_code":0,"kind":"x"}}"#).differs_from(pass).is_empty());
    }

    #[test]
    fn a_failure_is_found_among_events() {
        let lines = "{\"event\":{\"kind\":\"line\"}}\n{\"event\":{\"kind\":\"failed\",\"failure\":{\"exit_code\":31,\"kind\":\"idle\"}}}\n";
        assert_eq!(failure_in(lines).unwrap(), Some((31, "idle".to_owned())));
    }
}
