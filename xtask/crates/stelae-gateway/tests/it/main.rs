//! The real binary over real sockets and pipes.
//!
//! Nothing here asserts how long something took; every wait is for a state, with a deadline that only a hang reaches.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests, too"
)]

mod agent;
mod away;
mod calls;
mod deaths;
mod endpoint;
mod everything_alone;
mod everything_typed;
mod guard;
mod lifecycle;
mod limits;
mod manage;
mod model;
mod over_http;
mod over_stdio;
mod raw;
mod relay;
mod reload;
mod reload_meanwhile;
mod requests;
mod serve;
mod sessions;
mod shutdown;
mod stack_server;
mod support;
mod unresponsive;
mod users;
mod watched;
mod wire;
mod with_model;
