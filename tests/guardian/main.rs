//! The two halves of the guardian, each killed, stopped, or held up, while the real program has something to lose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bench;
mod ends;
mod halves;
mod restart;
mod soak;
mod uninterruptible;
