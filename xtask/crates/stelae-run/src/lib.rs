//! Effects, synchronous: everything that touches the machine, on behalf of decisions made in `stelae-model`.

pub mod deadline;
pub mod signals;

pub mod process;

pub mod ports;

pub mod http;
pub mod mcp;
pub mod watch;

pub mod environment;
pub mod record;
pub mod report;
