//! Support for the end-to-end tests: the built programs, sources to clone, and eyes of its own for what is left.

mod folder;
mod home;
mod port;
mod programs;
mod source;
mod watch;
mod xtask;

pub use folder::{private_folder, private_home};
pub use home::Home;
pub use port::held_port;
pub use programs::{Programs, programs, root};
pub use source::Source;
pub use watch::{alive, alive_of, assert_nowhere_in, await_line, children, runs, until, zombies};
pub use xtask::{Ended, Run, Xtask, cache};
