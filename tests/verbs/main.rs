//! The verbs, run as a user runs them: exit code, stdout and stderr.

mod bundle;
mod docs;
mod env;
mod fences;
mod render;
mod restart;
