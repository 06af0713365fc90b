//! Effects, synchronous: everything that touches the machine, on behalf of decisions made in `stelae-model`.

pub mod files;

pub mod environment;

pub mod bundle;
pub mod render;

pub mod record;
pub mod report;
