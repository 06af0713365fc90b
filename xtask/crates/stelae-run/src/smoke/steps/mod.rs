//! The steps of a run, one file each. What a step needs and gives is its type; that they come in this order is checked
//! by the compiler.

mod build;
mod bundle;
mod clone;
mod render;
mod restart;
mod setup;
mod stage;
mod structural;
mod verify;

pub use build::Build;
pub use bundle::Bundle;
pub use clone::Clone;
pub use render::Render;
pub use restart::Restart;
pub use setup::Setup;
pub use stage::{AfterStage, Stage, manual_instructions};
pub use structural::Structural;
pub use verify::Verify;
