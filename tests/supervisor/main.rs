//! The real `xtask restart --attached` with one service that misbehaves by script.
//!
//! Whatever the service does: the verdict, the exit code and the text are right, the evidence is there, and nothing
//! is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod evidence;
mod flood;
mod matrix;
mod orphans;
mod stage;
