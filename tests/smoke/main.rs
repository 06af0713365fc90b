//! `cargo xtask smoke`, run for real: real git, real cargo, real MCP over real sockets.
//!
//! Every test clones a source of its own and has a home and temporary files of its own; they share one folder of
//! builds, as runs of one user do.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests: helpers of tests included")]

mod agents;
mod attested;
mod concurrent;
mod deaths;
mod evidence;
mod faults;
mod green;
mod harm;
mod input;
mod interrupts;
mod ports;
mod programs;
mod proof;
mod resume;
mod untouched;
mod user_home;
