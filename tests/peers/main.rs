//! Peers: programs of others that speak with our gateway, or stand in its place. None of them is ours to be right about.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests: helpers of tests included")]

mod foreign;
mod handed;
