//! The agent CLIs that play stages: which program, of which version, in which home, started how.
//!
//! ```text
//! find          the pinned installation, or PATH; asked for its version before anything else is started
//! credentials   with a live model: whether its user has any
//! home          a folder of the stage's own, 0700: settings, and a link to the credentials for as long as it takes
//! lent          what becomes of those, in this session or in another
//! process       its whole environment
//! gate          where it is held until that was looked at
//! start         its whole command line, as config/agents.toml has it, with our model around it
//! ```
//! Why it is started like this and not otherwise, and what its exit code is worth, is in `docs/AGENTS.md`.

mod credentials;
mod find;
mod gate;
mod home;
mod lent;
mod process;
mod start;

pub use find::{AgentProgram, find};
pub(crate) use gate::{Gate, Passed};
pub use home::AgentHome;
pub(crate) use lent::notes_of;
pub use start::{CliStart, Held, ScriptedModel, described, held};
