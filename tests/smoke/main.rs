//! `cargo xtask smoke`, run for real: real git, real cargo, real MCP over real sockets.
//!
//! Every test clones a source of its own and has a home and temporary files of its own; they share one folder of
//! builds, as runs of one user do.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests: helpers of tests included")]

mod agents;
mod concurrent;
mod evidence;
mod faults;
mod green;
mod input;
mod interrupts;
mod ports;
mod resume;
