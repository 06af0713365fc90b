//! The record of a run: its folder of evidence, and the events in it.

mod folder;
mod id;
mod recorder;

pub use folder::{RunFolder, RunSummary, list_runs, runs_folder};
pub use id::run_id;
pub use recorder::{Listener, Recorder};
