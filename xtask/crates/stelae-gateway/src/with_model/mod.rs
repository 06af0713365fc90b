//! `with-model`: an agent CLI with a model around it that plays a script, and without a way to anywhere else.
//!
//! ```text
//! with-model                                   inside, in a network namespace that has only loopback
//!   model  ◄──────────── relay ◄─────────────── 127.0.0.1:PORT ◄──┐
//!   gateway, somebody else's ◄── relay ◄─────── 127.0.0.1:PORT ◄──┤ the program
//!   record, report                              counters          └──► anybody else: no route, counted
//! ```
//! The half inside makes the sockets, and hands them out ([`line`]): a socket stays in the namespace in which it was made,
//! whoever holds it. So no file is needed, and none can be left. Either half ends everything when the other one dies, as
//! in `serve::watched`; there is no limit on how long the program runs but that of whoever started this.
//!
//! Where no such namespace can be made, what is left are the program's own settings, and the report says so.

mod counters;
mod inside;
mod line;
mod loopback;
mod relay;
mod room;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::room::{Attempts, RoomReport};
use stelae_model::{ExitCode, Failure};
use stelae_run::files::{Readable, remove_stale, replace};
use stelae_run::process::Family;
use stelae_run::signals::{Each, Interrupt};
use tokio::runtime::{Builder, Runtime};

use crate::listener;
use crate::model::Played;
use crate::model::record::Record;
use crate::model::script::Script;
use crate::model::server;
use crate::watch::{Hangup, Watch, ended_by};
pub(crate) use inside::Inside;
use line::Course;
use room::Room;

/// Run an agent CLI with a model that plays a script, and without a way to anywhere else
///
/// The program gets this environment, no standard input, and these outputs. Its exit code is ours, 128 and the number
/// of a signal if it died of one. SIGTERM, SIGINT and SIGHUP end it, whatever it started, and this.
#[derive(Debug, Args)]
pub(crate) struct WithModel {
    #[command(flatten)]
    played: Played,
    /// How it went, and what the program tried to reach: one JSON object
    #[arg(long, value_name = "FILE")]
    report: Utf8PathBuf,
    /// The program runs in a network namespace of its own, where that is possible: it reaches the model, and nobody else
    #[arg(long)]
    no_route: bool,
    /// An address on loopback that the program reaches nevertheless; may be repeated
    #[arg(long, value_name = "ADDRESS", requires = "no_route")]
    reach: Vec<SocketAddr>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl WithModel {
    /// Runs the program, and gives its exit code.
    ///
    /// # Errors
    /// 2 for an unusable script or address, 33 for a taken port, 20 for an unusable passed socket, 40 for a program that is not
    /// there, a record or a report that cannot be written. 129, 130 or 143 for a signal. 10, `room-killed` or `room-hangs`,
    /// `record-incomplete`. 34 when something is left.
    pub(crate) fn run(self) -> Result<u8, Failure> {
        self.check()?;
        let script = Script::read(&self.played.script)?;
        // Signals first: one that comes before there is anybody to pass it on to waits.
        let (signals, family) = (Each::install()?, Family::enter()?);
        remove_stale(&self.report)?;
        let record = Arc::new(Record::create(&self.played.record)?);
        // Before the runtime starts its threads: see `listener::open`.
        let model = listener::open(self.played.listen)?;
        // One that is dead holds its port until the end, so that no other process answers there.
        let (model, dead) = if script.is_dead() {
            deafen(&model);
            (None, Some(model))
        } else {
            let rules = server::rules(&model)?;
            (Some((model, rules)), None)
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| unexpected(&error))?;
        // By this thread: what dies with its parent dies with the thread that started it, and this one is the last.
        let mut room = self.room(&script)?;
        open(&runtime, std::mem::take(&mut room.ways)).map_err(|error| unexpected(&error))?;
        if let Some(model) = model {
            runtime.spawn(server::serve(model, script, Arc::clone(&record), pending()));
        }
        let (isolation, why) = (room.walls, room.why.take());
        let (half, last_word) = room.let_go().map_err(|error| unexpected(&error))?;
        let mut watch = Watch::new(half, signals, Hangup::Ends);
        let ended = watch.until_the_end(inside::ENDS_WITHIN);
        let course = last_word.hear();
        // What the half inside leaves, when it was killed, has had its chance.
        let proof = family.stop(StopLimits::at_once(), &Interrupt::never(), &mut |_| ());
        runtime.shutdown_background();
        drop(dead);
        let asked = record.so_far();
        let Course { exit_code, elapsed_ms, no_route, lookups } = course.unwrap_or_default();
        let attempts = Attempts { no_route, lookups, named: asked.outside };
        self.write(&RoomReport { isolation, why, attempts, exit_code, elapsed_ms })?;
        proof.check()?;
        if let Some(signal) = watch.told() {
            return Err(ended_by(signal, "the program"));
        }
        asked.incomplete.map_or(Ok(()), |why| Err(incomplete(&self.played.record, why)))?;
        verdict(ended.map_err(|error| unexpected(&error))?, exit_code)
    }

    fn room(&self, script: &Script) -> Result<Room, Failure> {
        if !self.no_route {
            let why = "nobody asked for more than settings (--no-route)";
            return Room::with_settings(why.to_owned(), &self.program);
        }
        let model = (!script.is_dead()).then_some(self.played.listen);
        let reach: Vec<_> = model.into_iter().chain(self.reach.iter().copied()).collect();
        Room::without_a_route(&reach, &self.program)
    }

    /// What can be known to be wrong before anything is started.
    fn check(&self) -> Result<(), Failure> {
        let usage = |why: String| {
            Err(Failure::new(ExitCode::Usage, "address", "an address cannot be used").because(why))
        };
        let addresses: Vec<_> = std::iter::once(&self.played.listen).chain(&self.reach).collect();
        if let Some(strange) =
            addresses.iter().find(|address| !address.ip().is_loopback() || address.port() == 0)
        {
            return usage(format!("{strange} is not a port on loopback"));
        }
        if addresses.iter().collect::<BTreeSet<_>>().len() < addresses.len() {
            return usage("one is given twice".to_owned());
        }
        if addresses.len() > line::MOST_DESCRIPTORS {
            return usage(format!("there are more than {}", line::MOST_DESCRIPTORS));
        }
        let program = self.program.first().map_or("", String::as_str);
        if is_program(program) {
            return Ok(());
        }
        Err(Failure::new(ExitCode::PrerequisiteMissing, "program-missing", "there is no such program")
            .on(program)
            .because("it is no file that can be executed, nor the name of one in a folder of PATH"))
    }

    fn write(&self, report: &RoomReport) -> Result<(), Failure> {
        let text = serde_json::to_string(report).map_err(io::Error::other);
        text.and_then(|text| replace(&self.report, (text + "\n").as_bytes(), Readable::ByOwner)).map_err(
            |error| {
                Failure::new(
                    ExitCode::PrerequisiteMissing,
                    "report-unwritable",
                    "the report cannot be written",
                )
                .on(self.report.as_str())
                .because(error.to_string())
            },
        )
    }
}

/// Has a socket refuse connections from now on, whoever else holds it.
fn deafen(listener: &TcpListener) {
    // It cannot fail on Linux; where it can, closing it has to do.
    rustix::net::shutdown(listener, rustix::net::Shutdown::Both).ok();
}

/// Passes on what comes from where the program is.
fn open(runtime: &Runtime, ways: Vec<(TcpListener, SocketAddr)>) -> io::Result<()> {
    let _context = runtime.enter();
    for (listener, to) in ways {
        listener.set_nonblocking(true)?;
        runtime.spawn(relay::relay(tokio::net::TcpListener::from_std(listener)?, to));
    }
    Ok(())
}

fn incomplete(record: &Utf8Path, why: String) -> Failure {
    let what = "the record of the model's requests is not complete";
    Failure::new(ExitCode::StepFailed, "record-incomplete", what).on(record.as_str()).because(why)
}

/// What this ends with, when the half inside has ended, or hangs (`None`).
fn verdict(ended: Option<Ended>, exit_code: Option<u8>) -> Result<u8, Failure> {
    let failed = |kind, what: &str| Failure::new(ExitCode::StepFailed, kind, what);
    match (ended, exit_code) {
        (Some(Ended::Status(0)), Some(code)) => Ok(code),
        // It has said why itself.
        (Some(Ended::Status(status @ 1..)), _) => {
            Ok(u8::try_from(status).unwrap_or(ExitCode::Unexpected.number()))
        }
        (Some(how), _) => {
            Err(failed("room-killed", "the half that ran the program was killed by somebody else")
                .because(format!("it ended with {how}; everything that the program had started is gone")))
        }
        (None, _) => {
            Err(failed("room-hangs", "the half that ran the program did not end in time, and was killed")
                .because("everything that the program had started is gone"))
        }
    }
}

/// Whether this can be started: a path, or a name that is looked for as a shell does.
fn is_program(program: &str) -> bool {
    let executable = |path: &Path| {
        fs::metadata(path).is_ok_and(|entry| entry.is_file() && entry.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return executable(Utf8Path::new(program).as_std_path());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && env::split_paths(&folders).any(|folder| executable(&folder.join(program)))
}

fn unexpected(error: &io::Error) -> Failure {
    Failure::unexpected("the program cannot be run").because(error.to_string())
}
