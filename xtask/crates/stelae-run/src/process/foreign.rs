//! Somebody else's program, which does not know about us and is not to outlive us.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use camino::Utf8Path;
use stelae_model::lifecycle::Ended;

use super::child::Child;
use super::family;
use super::half::{BOUND_TO_US, Network, is_root};
use crate::signals::Interrupt;

/// How often its orphans are looked after, while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What made the namespace is not the program's: it could take the counting there for itself.
const WITHOUT_CAPABILITIES: [&str; 2] = ["--ambient-caps=-all", "--inh-caps=-all"];

/// A program that runs in a process group of its own, with the environment, the folder and the outputs of this process.
///
/// It ends with [`Family`](super::Family). Where there is `setpriv`, the kernel kills it as well when the thread dies that
/// started it: to be started from the main thread. `setpriv` asks for that in its first millisecond and does not look whether
/// somebody has died before; that is what [`Family`](super::Family) is for, here and in whoever watches us.
#[derive(Debug)]
pub struct Foreign {
    child: Child,
}

impl Foreign {
    /// Starts it, with nothing to read. `network` is what this process is in.
    ///
    /// # Errors
    /// It cannot be started. Where there is `setpriv` that is an exit status of 126 or 127 instead, and a line from that.
    pub fn start(program: &str, args: &[String], network: Network) -> io::Result<Self> {
        let [setpriv, bound @ .., end_of_options] = BOUND_TO_US;
        let mut command = if Utf8Path::new(setpriv).exists() {
            let mut command = command(setpriv);
            command.args(bound);
            if network == Network::Loopback && !is_root() {
                command.args(WITHOUT_CAPABILITIES);
            }
            command.arg(end_of_options).arg(program);
            command
        } else {
            command(program)
        };
        // Who signals its own group does not mean us.
        command.args(args).stdin(Stdio::null()).process_group(0);
        Ok(Self { child: Child::start(&mut command)? })
    }

    /// Waits until it has ended and says how; `None` if a signal came first.
    pub fn until_the_end(&mut self, interrupt: &Interrupt) -> Option<Ended> {
        let wakers = interrupt.wakers();
        loop {
            if let Some(ended) = self.child.try_exit() {
                return Some(ended);
            }
            if interrupt.check().is_some() {
                return None;
            }
            self.child.wait(&wakers, LOOK_EVERY);
            family::reap_orphans();
        }
    }

    /// How it ended; `None` while it runs.
    pub fn try_exit(&mut self) -> Option<Ended> {
        self.child.try_exit()
    }
}

#[allow(clippy::disallowed_methods, reason = "this module is one of those that start processes")]
fn command(program: &str) -> Command {
    Command::new(program)
}
