//! Peers: programs of others that speak with our gateway, or are spoken to by it. None of them is ours to be right about.
//!
//! `cargo xtask ci` installs what `config/tools.toml` pins of them, and hands it over; without that, each test here says
//! what it skipped, and passes. Whether it ran stands in a report, which `ci` reads: what is skipped is not green.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests: helpers of tests included")]

mod agents;
mod client;
mod collision;
mod conformance;
mod expected;
mod foreign;
mod gateway;
mod handed;
mod run;
