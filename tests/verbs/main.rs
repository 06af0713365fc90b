//! The verbs, run as a user runs them: exit code, stdout and stderr.

#![allow(clippy::unwrap_used, reason = "tests: helpers of tests included")]

mod bundle;
mod ci;
mod docs;
mod env;
mod fences;
mod gateways;
mod hostile;
mod render;
mod restart;
mod selftest;
mod services;
mod tidy;
mod tools;
