//! The environment, typed: variables, layers, programs and what they read.

mod invocation;

pub use invocation::Invocation;
