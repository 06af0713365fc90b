//! The stack: what `config/stack.toml` describes, started, watched until it is ready, held, and torn down.

mod attached;
mod child;
mod config;
mod record;

pub use attached::{Attached, HoldUntil, Up};
pub use child::{Attendance, StackChild};
pub use config::{StackConfig, read_proxy};
pub use record::StackRecord;
