//! Effects, synchronous: everything that touches the machine, on behalf of decisions made in `stelae-model`.
//!
//! Every wait in here takes a [`Deadline`](deadline::Deadline) that was made at the top and only shrinks; every
//! process is started by [`process`], and by nothing else.

mod calendar;
mod causes;
pub mod deadline;
pub mod signals;

pub mod environment;
pub mod files;
pub mod programs;
pub mod sealed;

pub mod bundle;
pub mod render;

pub mod process;

pub mod ports;

pub mod guardian;

pub mod http;
pub mod mcp;
pub mod sessions;
pub mod watch;

pub mod record;

pub mod evidence;
pub mod report;
mod tail;

pub mod git;

pub mod agents;
pub mod attestation;
pub mod stack;

pub mod bench;
pub mod selftest;
pub mod smoke;
pub mod soak;
pub mod tools;
