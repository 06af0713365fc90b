//! Effects, synchronous: everything that touches the machine, on behalf of decisions made in `stelae-model`.

pub mod environment;
pub mod record;
pub mod report;
