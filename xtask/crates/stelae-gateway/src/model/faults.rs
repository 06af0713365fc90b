//! What a model does wrong, when it is told to: everything that a real one, or the way to it, has been seen to do.

use std::time::Duration;

use serde::Deserialize;

/// One thing that goes wrong, at one turn or at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Misbehaviour {
    /// The turn, counted from 0; without it, every turn.
    #[serde(default)]
    turn: Option<usize>,
    how: Wrong,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wrong {
    /// The request is refused with this status: 401, 429, 500.
    Status(u16),
    /// The connection breaks off after the first event.
    CutStream,
    /// The stream ends well, without the event that says that the answer is complete.
    NotCompleted,
    /// A tool is called that nobody has.
    UnknownTool,
    /// Nothing comes for so many milliseconds, then everything.
    SlowFirstByteMs(u64),
}

impl Misbehaviour {
    /// What goes wrong at this turn.
    pub(super) fn at(self, turn: usize) -> Option<Wrong> {
        self.turn.is_none_or(|mine| mine == turn).then_some(self.how)
    }
}

impl Wrong {
    /// How long nothing comes.
    pub(super) fn delay(self) -> Duration {
        match self {
            Self::SlowFirstByteMs(millis) => Duration::from_millis(millis),
            _ => Duration::ZERO,
        }
    }
}
