//! How a run goes: steps whose order is checked by the compiler, budgets that nest, and the plan of both.

pub mod budget;
mod step;

pub use budget::{Budgets, StepBudget};
pub use step::{Engine, Flow, Halt, Step, Then};
