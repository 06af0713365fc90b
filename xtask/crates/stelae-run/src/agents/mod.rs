//! The agent CLIs that play stages: which program, of which version, in which home, started how.
//!
//! ```text
//! find          the pinned installation, or PATH; asked for its version before anything else is started
//! home          a folder of the stage's own, 0700: settings, and with a live model the credentials, for as long as it takes
//! start         the invocation: whole environment, whole command line, as config/agents.toml has it
//! ```
//! Why it is started like this and not otherwise, and what its exit code is worth, stands in the shared facts, agent-clis.

mod credentials;
mod find;
mod home;
mod start;

pub use find::{AgentProgram, find};
pub use home::AgentHome;
pub use start::{CliStart, ScriptedModel, described};
