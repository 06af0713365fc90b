//! The process kernel against real processes, real sockets and the fixture that misbehaves.
//!
//! Every test runs in a process of its own (`support::isolated`), and none passes that leaves a process behind. Order
//! and outcome are asserted, never that something took less than a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod commands;
mod leases;
mod protection;
mod startup;
mod strangers;
mod support;
mod teardown;
