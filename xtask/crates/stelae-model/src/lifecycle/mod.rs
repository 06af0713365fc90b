//! The life of a process, as decisions: is it up, whose is it, how is it stopped, and what proves that it is gone.
//!
//! Nothing here looks at a clock, a process or a socket. `stelae-run::{process,watch}` see, these types decide; so
//! every verdict is tested by feeding it what was seen, without one signal or sleep.

mod crashes;
mod ended;
mod kin;
mod proof;
mod rung;
mod startup;
mod stop;

pub use crashes::{AfterCrash, Crash, Crashes};
pub use ended::Ended;
pub use kin::{Kin, ProcessRow, descendants};
pub use proof::{Proof, StoppedProcess, Survivor, TeardownProof};
pub use rung::{Lacking, Rung, Standing};
pub use startup::{Event, Patience, Startup, Verdict, WhichLimit};
pub use stop::{Move, Seen, Stop, StopLimits};
