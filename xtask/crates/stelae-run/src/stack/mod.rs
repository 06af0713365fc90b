//! The stack: what `config/stack.toml` describes, started, watched until it is ready, held, and torn down.

mod attached;
mod child;
mod config;
mod crew;
mod first_crash;
mod foreign;
mod log_reader;
mod member;
mod record;

pub use attached::{Attached, HoldUntil, KeptPorts, Up, service_log};
pub use child::{Attendance, StackChild};
pub use config::{StackConfig, read_proxy};
pub use foreign::check_installed;
pub use record::{StackLock, StackRecord};
