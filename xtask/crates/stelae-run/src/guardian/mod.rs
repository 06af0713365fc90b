//! The mutual guardian, under every verb that starts something.
//!
//! The process that a person sees is the *outer half*. It makes itself a child subreaper, starts this very program once
//! more, and then only watches: the *inner half* leads a session of its own, is a subreaper too, and does all the work.
//! Between the two is a life line, the inner half's standard input.
//!
//! * The outer half dies (SIGKILL, its whole group too): the line comes to its end, and that is a signal like Ctrl-C to
//!   the inner half, which tears down and ends. Should it not get round to it, the thread that reads the line does. If
//!   somebody has stopped it (SIGSTOP), the kernel continues it.

//! * The inner half dies: everything that it started falls to the outer half, which runs the same teardown.
//! * A signal to the outer half is passed on, and how long the inner half may take from then on is bounded: one that is
//!   stopped, or that hangs, is killed with everything below it.
//! * Both die in one instant: inside of a PID namespace ([`Isolation::Pidns`](stelae_model::Isolation)) the kernel kills
//!   the rest; without one, the next start ends what carries the dead run's id ([`live`]).
//!
//! What the two taught their prototype: the thread that reads the line is there before the first process is; nothing is
//! started once everything is being stopped; nobody inherits the line.
//!
//! Where there are no subreapers (macOS), each half knows the process groups of what it started itself, the line, and
//! the ids; a process that leaves its group there is ended by nobody.

/// The flag by which a process is an inner half, and known as one.
pub const INNER: &str = "--guarded";

mod document;
mod inner;
mod line;
mod live;
mod outer;
mod outside;

pub use document::Document;
pub use inner::{Guarded, become_inner, guarded, isolation};
pub use line::Dead;
pub use live::{LiveFile, sweep_dead};
pub use outer::{Outer, Prints, Stood, Wanted, decide};
pub use outside::check_private;
pub(crate) use outside::{ask_for_owner, host_pid};
