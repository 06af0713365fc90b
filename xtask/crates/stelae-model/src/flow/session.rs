//! Sessions of a run: where one begins when an earlier one left something, and what it leaves when it ends.

use serde::{Deserialize, Serialize};

use crate::{ExitCode, Failure};

/// What an earlier session of a run left.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// All steps of a run, in order.
    pub steps: &'a [String],
    /// So many of them, from the first on, left what they gave.
    pub recorded: usize,
    /// The step that starts the stack, by its place in `steps`.
    pub starts_stack: usize,
    /// The stack is still up.
    pub stack_up: bool,
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// So many steps are read back; the next one is carried out.
    pub read_back: usize,
    /// What becomes of a stack that is up.
    pub stack: OldStack,
    /// The session goes back to the start of the stack, because what comes after needs one.
    pub stack_gone: bool,
}

/// What becomes of a stack that an earlier session left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldStack {
    /// There is none.
    None,
    /// The steps to come need it.
    Keep,
    /// The steps to come start another.
    End,
}

impl Past<'_> {
    /// Where a session begins that was asked to begin at the step `from`, or where the one before it stopped.
    ///
    /// # Errors
    /// Exit 2, `not-resumable`: a step before `from` has not passed.
    pub fn begin(&self, from: Option<&str>) -> Result<Beginning, Failure> {
        let asked = from.and_then(|from| self.steps.iter().position(|step| step == from));
        if let Some(asked) = asked.filter(|&asked| asked > self.recorded) {
            let missing = &self.steps[self.recorded];
            let what = format!("{} cannot be the first step", self.steps[asked]);
            return Err(Failure::new(ExitCode::Usage, "not-resumable", what)
                .because(format!("{missing} has not passed in this run"))
                .hint(format!("--from {missing}")));
        }
        let first = asked.unwrap_or(self.recorded);
        let needs_stack = first > self.starts_stack;
        let stack = match (self.stack_up, needs_stack) {
            (false, _) => OldStack::None,
            (true, true) => OldStack::Keep,
            (true, false) => OldStack::End,
        };
        let stack_gone = needs_stack && !self.stack_up;
        Ok(Beginning { read_back: if stack_gone { self.starts_stack } else { first }, stack, stack_gone })
    }
}

/// Why a flow stopped on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `--until` names the step.
    Until,
    /// A person plays what comes next.
    Manual,
}

/// Whether a flow stops after the step at `index`. The wish for a manual stage is the stronger one: both may name the
/// same place, and only one of them is good for something there.
pub fn stop_after(
    steps: &[&str],
    index: usize,
    until: Option<&str>,
    manual_stage: Option<&str>,
) -> Option<Stop> {
    let next = steps.get(index + 1).and_then(|step| step.strip_prefix("stage:"));
    if next.is_some() && next == manual_stage {
        return Some(Stop::Manual);
    }
    (until.is_some() && until == steps.get(index).copied()).then_some(Stop::Until)
}

/// Whether the workspace stays after a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// It goes.
    Never,
    /// It stays when the run failed, or stopped on purpose before its end.
    #[default]
    OnFailure,
    /// It stays.
    Always,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps passed.
    Passed,
    /// It stopped on purpose.
    Stopped(Stop),
    /// A step failed.
    Failed,
    /// A signal ended it.
    Signalled,
}

impl Ended {
    /// The stack stays up for a person, and nothing else ever leaves it up.
    pub fn leaves_stack_up(self) -> bool {
        self == Self::Stopped(Stop::Manual)
    }

    /// Whether the workspace stays. A stack that is up lives in it; and whoever ends a run with a signal is not going
    /// to look at its workspace.
    pub fn keeps_workspace(self, keep: Keep) -> bool {
        match keep {
            _ if self.leaves_stack_up() => true,
            Keep::Always => true,
            Keep::Never => false,
            Keep::OnFailure => matches!(self, Self::Failed | Self::Stopped(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(recorded: usize, stack_up: bool, from: Option<&str>) -> Result<Beginning, Failure> {
        let steps = ["clone", "render", "restart", "stage:a", "stage:b"].map(str::to_owned);
        Past { steps: &steps, recorded, starts_stack: 2, stack_up }.begin(from)
    }

    fn at(read_back: usize, stack: OldStack, stack_gone: bool) -> Beginning {
        Beginning { read_back, stack, stack_gone }
    }

    #[test]
    fn a_session_begins_where_the_last_one_stopped() {
        assert_eq!(begin(1, false, None).unwrap(), at(1, OldStack::None, false));
        assert_eq!(begin(4, true, None).unwrap(), at(4, OldStack::Keep, false));
    }

    #[test]
    fn without_its_stack_it_goes_back_to_where_one_is_started() {
        assert_eq!(begin(4, false, None).unwrap(), at(2, OldStack::None, true));
        assert_eq!(begin(3, false, None).unwrap(), at(2, OldStack::None, true));
        assert_eq!(begin(2, false, None).unwrap(), at(2, OldStack::None, false));
    }

    #[test]
    fn a_stack_that_is_in_the_way_is_ended() {
        assert_eq!(begin(4, true, Some("restart")).unwrap(), at(2, OldStack::End, false));
        assert_eq!(begin(4, true, Some("clone")).unwrap(), at(0, OldStack::End, false));
        assert_eq!(begin(4, true, Some("stage:a")).unwrap(), at(3, OldStack::Keep, false));
    }

    #[test]
    fn what_has_not_passed_cannot_be_skipped() {
        let failure = begin(1, false, Some("stage:b")).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("--from render"));
    }

    #[test]
    fn a_flow_stops_where_it_was_told_to() {
        let steps = ["render", "restart", "stage:a", "stage:b"];
        assert_eq!(stop_after(&steps, 0, Some("render"), None), Some(Stop::Until));
        assert_eq!(stop_after(&steps, 0, Some("render"), Some("b")), Some(Stop::Until));
        assert_eq!(stop_after(&steps, 1, None, Some("a")), Some(Stop::Manual));
        assert_eq!(stop_after(&steps, 2, Some("stage:a"), Some("b")), Some(Stop::Manual));
        assert_eq!(stop_after(&steps, 2, Some("restart"), Some("a")), None);
        assert_eq!(stop_after(&steps, 3, None, None), None);
    }

    #[test]
    fn only_a_manual_stage_leaves_the_stack_up_and_then_its_workspace_stays() {
        let all = [
            Ended::Passed,
            Ended::Stopped(Stop::Until),
            Ended::Stopped(Stop::Manual),
            Ended::Failed,
            Ended::Signalled,
        ];
        let kept = |keep| all.map(|ended| ended.keeps_workspace(keep));
        assert_eq!(all.map(Ended::leaves_stack_up), [false, false, true, false, false]);
        assert_eq!(kept(Keep::Never), [false, false, true, false, false]);
        assert_eq!(kept(Keep::OnFailure), [false, true, true, true, false]);
        assert_eq!(kept(Keep::Always), [true; 5]);
    }
}
