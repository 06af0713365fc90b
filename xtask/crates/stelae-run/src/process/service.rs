//! Processes that are meant to stay.

use std::io::{self, PipeReader, PipeWriter, Write as _, pipe};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::env::Invocation;
use stelae_model::lifecycle::{Ended, StopLimits, TeardownProof};

use super::starts::{self, Executes};
use super::{family, launch, reaper, tree};
use crate::ports;
use crate::signals::Interrupt;

/// What a service finds on its standard input.
#[derive(Debug)]
pub enum Stdin {
    /// Nothing.
    Null,
    /// A pipe that comes to its end when we die, however we die: a service that reads it can follow us.
    LifeLine,
    /// A bound, listening socket, announced as `LISTEN_FDS=1` and `LISTEN_FDS_FIRST_FD=0`. Standard input is the one
    /// descriptor that std hands over without a moment in which other children would inherit it too. It is blocking:
    /// an asynchronous runtime has to change that.
    Listener(TcpListener),
    /// One end of a pipe to read, and one of another to write to: for a server that speaks on its standard streams, with
    /// whoever holds the other ends, and reads them with a deadline. Only standard error goes to the log.
    Dialogue {
        /// What it reads.
        stdin: PipeReader,
        /// What it writes to, in place of the log.
        stdout: PipeWriter,
    },
}

/// What a life line carries when whoever holds it lets the service go on alone.
pub const RELEASED: u8 = b'R';

/// Whose session a service runs in. It leads a process group of its own in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Ours: a service that is not meant to outlive us.
    Ours,
    /// Its own, without a terminal: one that is going to be [released](Service::release). Needs util-linux's
    /// `setsid`, as std cannot start one; without it this is the same as `Ours`.
    Own,
}

/// A running service.
///
/// Dropping it does not stop it: what stops everything, on every way out, is [`Family`](super::Family).
#[derive(Debug)]
pub struct Service {
    process: String,
    command: String,
    pid: i32,
    log: Utf8PathBuf,
    log_start: u64,
    socket: Option<u64>,
    life_line: Option<PipeWriter>,
    ended: Option<Ended>,
}

impl Service {
    /// Starts it, with standard output and standard error appended to `log`.
    ///
    /// A listener is closed on our side as soon as the service has it: with our copy open, connecting would go on
    /// working after the service is dead.
    ///
    /// # Errors
    /// `program-missing`, `program-not-executable`, `folder-missing`, `log-unwritable`: exit code 40.
    pub fn start(
        invocation: &Invocation,
        log: &Utf8Path,
        stdin: Stdin,
        session: Session,
    ) -> Result<Self, Failure> {
        let file = launch::open_log(log)?;
        let log_start = file.metadata().map_or(0, |metadata| metadata.len());
        let not_started = |error: io::Error| launch::not_started(invocation, &error);
        if !invocation.program.exists() {
            // `setsid` would be found, and say this in the log only.
            return Err(not_started(io::ErrorKind::NotFound.into()));
        }
        let mut command = command(invocation, session);
        command.stdout(file.try_clone().map_err(not_started)?).stderr(file);
        let (socket, life_line) = attach(&mut command, stdin).map_err(not_started)?;
        let started = reaper::spawn(|| command.spawn().map(|child| (child.id(), ())));
        let (pid, ()) = started.map_err(not_started)?;
        let executes = match session {
            Session::Ours if invocation.launcher.is_empty() => Executes::AtOnce,
            Session::Ours | Session::Own => Executes::AfterAnother,
        };
        let program = invocation.program.as_str();
        starts::record_start(&invocation.process, program, executes, pid, environment_of(&command));
        Ok(Self {
            process: invocation.process.clone(),
            command: launch::described(invocation),
            pid,
            log: log.to_owned(),
            log_start,
            socket,
            life_line,
            ended: None,
        })
    }

    /// Its label.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Program and arguments, for messages.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The pid of its first process, which leads the group.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its log.
    pub fn log(&self) -> &Utf8Path {
        &self.log
    }

    /// Where in the log this start begins; what is before it is from an earlier one.
    pub fn log_start(&self) -> u64 {
        self.log_start
    }

    /// Whether `pid` is one of this service's processes. What we adopted belongs to it unless it carries another label.
    pub(crate) fn owns(&self, pid: i32) -> bool {
        let chain = tree::ancestry(pid);
        if chain.contains(&self.pid) {
            return true;
        }
        let below_us = chain.iter().position(|&pid| pid == family::us()).and_then(|at| at.checked_sub(1));
        below_us.is_some_and(|at| {
            let adopted = !reaper::roots().contains(&chain[at]);
            adopted && launch::mark_of(chain[at]).is_none_or(|mark| launch::marks(&mark, &self.process))
        })
    }

    /// The inode of the socket that was passed to it.
    pub fn passed_socket(&self) -> Option<u64> {
        self.socket
    }

    /// How its first process ended; `None` while it runs. Keeps the answer.
    pub fn try_exit(&mut self) -> Option<Ended> {
        if self.ended.is_none() {
            self.ended = reaper::status(self.pid);
        }
        self.ended
    }

    /// Stops this service's whole tree, and nothing else.
    ///
    /// Orphans are recognised by their group, their session, or `STELAE_PROCESS` in their environment. One that left all
    /// three, in the instant between two looks, is left to the family's teardown, which needs no recognising. So no two
    /// services that run at once may have the same label.
    pub fn stop(&mut self, limits: StopLimits, interrupt: &Interrupt) -> TeardownProof {
        self.life_line = None;
        let proof = family::stop_tree(self.pid, &self.process, limits, interrupt);
        self.try_exit();
        proof
    }

    /// Leaves it running on purpose: no teardown of ours touches it from now on. Returns its pid.
    ///
    /// A service that follows a life line is told first, by [`RELEASED`]: only the end of the line without it means
    /// that we died. So there is no moment in which the service follows nobody and nobody knows of it.
    pub fn release(mut self) -> i32 {
        if let Some(mut life_line) = self.life_line.take() {
            // A service that has closed its end has ended, or does not care.
            life_line.write_all(&[RELEASED]).ok();
        }
        reaper::release(self.pid);
        self.pid
    }
}

/// The whole environment of a command that inherits nothing.
fn environment_of(command: &Command) -> impl Iterator<Item = (&str, &str)> {
    command.get_envs().filter_map(|(name, text)| Some((name.to_str()?, text?.to_str()?)))
}

/// Says what the service finds on its standard input; returns the socket's identity, or our end of the life line.
fn attach(command: &mut Command, stdin: Stdin) -> io::Result<(Option<u64>, Option<PipeWriter>)> {
    match stdin {
        Stdin::Null => {
            command.stdin(Stdio::null());
            Ok((None, None))
        }
        Stdin::LifeLine => {
            let (theirs, ours) = pipe()?;
            command.stdin(theirs);
            Ok((None, Some(ours)))
        }
        Stdin::Listener(listener) => {
            let socket = ports::socket_inode(&listener);
            command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0").stdin(OwnedFd::from(listener));
            Ok((socket, None))
        }
        Stdin::Dialogue { stdin, stdout } => {
            command.stdin(stdin).stdout(stdout);
            Ok((None, None))
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this module is the one that starts processes")]
fn command(invocation: &Invocation, session: Session) -> Command {
    const SETSID: &str = "/usr/bin/setsid";
    let (program, arguments) = invocation.words();
    let mut command = match session {
        // As it leads no group yet, `setsid` does not fork: the pid that we get is that of the program.
        Session::Own if Utf8Path::new(SETSID).exists() => {
            let mut command = Command::new(SETSID);
            command.arg(program);
            command
        }
        Session::Own | Session::Ours => {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    };
    command.args(arguments).current_dir(&invocation.cwd).env_clear().envs(launch::environment(invocation));
    command
}
