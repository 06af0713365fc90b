//! How a run goes: steps whose order is checked by the compiler, budgets that nest, and the plan of both.

pub mod budget;
mod session;
mod step;

pub use budget::{Budgets, StepBudget};
pub use session::{Beginning, Ended, Keep, OldStack, Past, Stop, stop_after};
pub use step::{Engine, Flow, Halt, Step, Then};
