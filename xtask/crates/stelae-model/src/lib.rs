//! The pure core: what the stack is, and what is to be decided about it. No input, no output, no clock, no threads;
//! `clippy.toml` beside this crate fences that. Effects live in `stelae-run`, sockets in `stelae-gateway`.
//!
//! The modules stand in the order in which data flows: values and the environment that types them, then what is
//! rendered and installed from it, then what is planned, seen and expected, and at last what is said about it.

pub mod exit_code;
pub mod failure;
pub mod hidden;
pub mod terminal;
pub mod value;

pub mod env;

pub mod bundle;
pub mod dialect;
pub mod overrides;
pub mod protection;
pub mod proxy;
pub mod render;
pub mod server_name;

pub mod isolation;
pub mod lifecycle;
pub mod manifest;

pub mod catalog;
pub mod endpoints;
pub mod flow;
pub mod stack;
pub mod stages;

pub mod tools;

pub mod agent;
pub mod bench;
pub mod calls;
pub mod event;
pub mod evidence;
pub mod expect;
pub mod floors;
pub mod golden;
pub mod judge;
pub mod misbehaviour;
pub mod model_record;
pub mod room;
pub mod server_account;
pub mod starts;
pub mod throttle;
pub mod transcript;
pub mod verdict;

pub use exit_code::ExitCode;
pub use failure::Failure;
pub use isolation::Isolation;
