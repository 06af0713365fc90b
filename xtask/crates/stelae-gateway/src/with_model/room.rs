//! The half inside, as the half outside has it: started, heard, let go.

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::{FromPathBufError, Utf8PathBuf};
use rustix::process::{Signal, getpid};
use stelae_model::Failure;
use stelae_model::room::Walls;
use stelae_run::deadline::Deadline;
use stelae_run::process::{Network, OtherHalf};

use super::line::{Course, Go, Inside, Line};

/// Making a namespace takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(20);
/// From kill to the end.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Its last word stands in the line when it has ended.
const WORD_LIMIT: Duration = Duration::from_secs(1);

/// The half inside, which is ready: the program runs when it is let go.
pub(super) struct Room {
    half: OtherHalf,
    line: Line,
    /// What is listened on in there, and what each of it stands for out here.
    pub(super) ways: Vec<(TcpListener, SocketAddr)>,
    pub(super) walls: Walls,
    /// Why there are no better walls.
    pub(super) why: Option<String>,
}

impl Room {
    /// Starts the half inside in a namespace of its own, from where these addresses can be reached and nothing else; where
    /// that is not possible, as everybody else.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn without_a_route(reach: &[SocketAddr], program: &[String]) -> Result<Self, Failure> {
        match Self::start(Network::Loopback, reach, program) {
            Ok(room) => Ok(room),
            Err(why) => Self::with_settings(why, program),
        }
    }

    /// Starts the half inside as everybody else, for a reason.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn with_settings(why: String, program: &[String]) -> Result<Self, Failure> {
        let room = Self::start(Network::Same, &[], program);
        let room = room.map_err(|why| {
            Failure::unexpected("the half of with-model that runs the program cannot be started").because(why)
        })?;
        Ok(Self { why: Some(why), ..room })
    }

    fn start(network: Network, reach: &[SocketAddr], program: &[String]) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let (line, theirs) = Line::new().map_err(text)?;
        let (complaints, stderr) = UnixStream::pair().map_err(text)?;
        let mut half = spawn(network, reach, program, theirs, stderr.into()).map_err(text)?;
        let why = match line.hear(START_LIMIT) {
            Ok((Inside::Ready, sockets)) if sockets.len() == reach.len() => {
                let listeners = sockets.into_iter().map(TcpListener::from);
                let ways = listeners.zip(reach.iter().copied()).collect();
                let walls = match network {
                    Network::Loopback => Walls::NetworkNamespace,
                    Network::Same => Walls::Settings,
                };
                return Ok(Self { half, line, ways, walls, why: None });
            }
            Ok((Inside::Cannot { why }, _)) => why,
            Ok(_) => "the half inside says something else".to_owned(),
            // `unshare`, or it, has said why in its own words.
            Err(error) => complaint(complaints).unwrap_or_else(|| error.to_string()),
        };
        end(&mut half);
        Err(why)
    }

    /// Lets the program run. Gives the half, to be watched, and what tells in the end how it went.
    ///
    /// # Errors
    /// It has ended already.
    pub(super) fn let_go(self) -> io::Result<(OtherHalf, LastWord)> {
        self.line.say(&Go, &[rustix::stdio::stderr()])?;
        Ok((self.half, LastWord(self.line)))
    }
}

/// What the half inside says at its end.
pub(super) struct LastWord(Line);

impl LastWord {
    /// How it went; nothing if the half inside could not say so. For when that has ended.
    pub(super) fn hear(self) -> Option<Course> {
        match self.0.hear(WORD_LIMIT) {
            Ok((Inside::Over(course), _)) => Some(course),
            _ => None,
        }
    }
}

fn spawn(
    network: Network,
    reach: &[SocketAddr],
    program: &[String],
    stdin: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<OtherHalf> {
    let us = Utf8PathBuf::try_from(std::env::current_exe()?).map_err(FromPathBufError::into_io_error)?;
    let mut args = vec!["inside".to_owned(), format!("--watched={}", getpid().as_raw_nonzero())];
    args.extend((network == Network::Loopback).then(|| "--no-route".to_owned()));
    args.extend(reach.iter().map(|address| format!("--reach={address}")));
    args.push("--".to_owned());
    args.extend_from_slice(program);
    OtherHalf::start_in(network, &us, &args, stdin, stderr)
}

/// Ends one that was not let go, and so has nothing below it.
fn end(half: &mut OtherHalf) {
    half.send(Signal::KILL);
    let deadline = Deadline::after(END_LIMIT);
    while half.try_exit().is_none() && !deadline.passed() {
        half.wait(&[], deadline.remaining());
    }
}

/// The last line of what it, or `unshare` before it, has said on standard error.
fn complaint(mut from: UnixStream) -> Option<String> {
    let mut text = vec![0; 4096];
    from.set_nonblocking(true).ok()?;
    let length = from.read(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..length]);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
