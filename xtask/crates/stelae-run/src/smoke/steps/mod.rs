//! The steps of a run, one file each. What a step needs and gives is its type; that they come in this order is checked
//! by the compiler.

mod build;
mod bundle;
mod clone;
mod host;
mod render;
mod restart;
mod setup;
mod stage;
mod structural;
mod verify;

pub(crate) use build::Build;
pub(crate) use bundle::Bundle;
pub(crate) use clone::Clone;
pub(crate) use render::Render;
pub(crate) use restart::Restart;
pub(crate) use setup::Setup;
pub(crate) use stage::{Stage, manual_instructions};
pub(crate) use structural::{Structural, check_stack, readiness, stack, stack_died};
pub(crate) use verify::Verify;
