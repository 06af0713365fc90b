//! What the scripted model does wrong, when it is told to: everything that a real one, or the way to it, has been seen to do.
//! Scripts and stages say it, the record repeats it, so that a verdict can tell an agent's fault from one that was asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing that goes wrong, at one turn or at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaviour {
    /// The turn, counted from 0; without it, every turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
    /// What goes wrong at it.
    pub how: Wrong,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// The request is refused with this status: 401, 429, 500.
    Status(u16),
    /// The connection breaks off after the first event.
    CutStream,
    /// The stream ends well, without the event that says that the answer is complete.
    NotCompleted,
    /// A tool is called that nobody has.
    UnknownTool,
    /// The model says that it is done, whatever there is still to be called.
    EndsEarly,
    /// Nothing comes for so many milliseconds, then everything.
    SlowFirstByteMs(u64),
    /// There is no model at all: connections to it are refused. It has no turns, so it goes wrong at none in particular.
    Dead,
}

impl Misbehaviour {
    /// What goes wrong at this turn.
    pub fn at(self, turn: usize) -> Option<Wrong> {
        self.turn.is_none_or(|mine| mine == turn).then_some(self.how)
    }

    /// Why nobody can do that.
    ///
    /// # Errors
    /// It is about one turn of a model that has none, or a status that is no refusal.
    pub fn check(self) -> Result<(), String> {
        match (self.how, self.turn) {
            (Wrong::Dead, Some(turn)) => {
                Err(format!("a model that is dead has no turn {turn}: leave `turn` out"))
            }
            (Wrong::Status(status), _) if !(400..600).contains(&status) => {
                Err(format!("status {status} refuses nothing: it has to be between 400 and 599"))
            }
            _ => Ok(()),
        }
    }
}

impl Wrong {
    /// How long nothing comes.
    pub fn delay(self) -> Duration {
        match self {
            Self::SlowFirstByteMs(millis) => Duration::from_millis(millis),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in [
            r#"{"turn":1,"how":{"status":401}}"#,
            r#"{"how":"cut-stream"}"#,
            r#"{"how":{"slow-first-byte-ms":50}}"#,
            r#"{"how":"ends-early"}"#,
            r#"{"how":"dead"}"#,
        ] {
            let misbehaviour: Misbehaviour = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&misbehaviour).unwrap(), text);
        }
        assert!(serde_json::from_str::<Misbehaviour>(r#"{"how":"dead","when":1}"#).is_err());
    }

    #[test]
    fn without_a_turn_it_is_every_turn() {
        let (one, every) = (Misbehaviour { turn: Some(1), how: Wrong::CutStream }, Wrong::CutStream);
        assert_eq!((one.at(0), one.at(1)), (None, Some(every)));
        assert_eq!(Misbehaviour { turn: None, ..one }.at(7), Some(every));
    }

    #[test]
    fn what_nobody_can_do_is_refused() {
        let check = |turn, how| Misbehaviour { turn, how }.check();
        assert!(check(Some(0), Wrong::Dead).is_err() && check(None, Wrong::Dead).is_ok());
        for (status, refuses) in [(200, false), (399, false), (400, true), (599, true), (600, false)] {
            assert_eq!(check(Some(1), Wrong::Status(status)).is_ok(), refuses, "{status}");
        }
    }
}
