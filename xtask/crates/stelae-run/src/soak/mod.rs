//! Many lifecycles of a guarded verb, with services that get away in every way there is, killed at any moment; and a count
//! of what is left.
//!
//! What is counted is looked for from outside, by what the kernel says (command lines, locks, sockets) and never by what a
//! lifecycle says of itself. A lifecycle that was killed whole is followed by what follows it in life: the next start.

mod cycle;
mod lifecycle;
mod shape;
mod tally;
mod victim;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::programs::XTASK;
use stelae_model::env::{Base, Environment, Invocation, ProgramEnv as _, XtaskEnv};
use stelae_model::lifecycle::Ended;
use stelae_model::value::EnvValue as _;
use stelae_model::{ExitCode, Failure, Isolation};

pub use cycle::Cycle;
pub use lifecycle::Kill;
pub use shape::Shape;
pub use tally::{Latency, Tally};
pub use victim::Victim;

use crate::deadline::Deadline;
use crate::environment::OF_RUN;
use crate::files::{open_untrusted, read_log};
use crate::ports;
use crate::process::{self, Limits, Service, Session, Stdin};
use crate::signals::Interrupt;
use crate::tail::tail;
use lifecycle::{GRACE, Lifecycle, unexplained};
use tally::Samples;
use victim::{Seen, marked};

/// No lifecycle takes as long, whatever else the machine does.
const HANGS_AFTER: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// So many starts one after the other end everything that can be ended.
const NEXT_STARTS: u32 = 10;

/// From the beginning, or from one lifecycle that is done to the next, or to the end: each wait of a lifecycle, and each start
/// after it, has a limit.
pub const NEXT_WITHIN: Duration = HANGS_AFTER.saturating_mul(NEXT_STARTS + 3);

/// What is to be done.
#[derive(Debug)]
pub struct Soak {
    /// How many lifecycles.
    pub runs: usize,
    /// How many at once.
    pub jobs: usize,
    /// Which kills.
    pub kill: Kill,
    /// What the random choices begin with.
    pub seed: u64,
    /// What keeps the lifecycles together; in turn.
    pub isolations: Vec<Isolation>,
    /// So many threads do nothing but keep the processors busy.
    pub load: usize,
    /// The port of all lifecycles; another soak on this machine, with leases of its own, has another.
    pub port: u16,
    /// A folder of its own, which is removed by whoever made it.
    pub folder: Utf8PathBuf,
    /// The program: this one.
    pub program: Utf8PathBuf,
}

/// What became of it.
#[derive(Debug, Default)]
struct Outcome {
    survivors: Vec<String>,
    failed: Option<String>,
    /// From the kill to the end of everyone, above the grace; absent if there was nobody to kill any more.
    latency: Option<Duration>,
}

impl Soak {
    /// Carries all of it out. `progress` is told how many are done.
    ///
    /// # Errors
    /// 129, 130, 143 when a signal comes. What is found is no error here: see [`Tally::is_clean`].
    pub fn carry_out(
        &self,
        environment: &Environment,
        interrupt: &Interrupt,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Tally, Failure> {
        let mut tally = Tally { schema: 1, seed: self.seed, ..Tally::default() };
        let mut samples = Samples::new();
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        for folder in [self.work(), self.logs()] {
            fs::create_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
        }
        std::thread::scope(|scope| {
            (0..self.load).for_each(|_| drop(scope.spawn(|| burn(&over))));
            let (done, results) = channel();
            for _ in 0..self.jobs {
                let (done, next) = (done.clone(), &next);
                scope.spawn(move || self.work_off(next, environment, interrupt, &done));
            }
            drop(done);
            for (lifecycle, outcome) in results {
                tally.add(&mut samples, &lifecycle, outcome);
                progress(tally.runs);
            }
            over.store(true, Ordering::Relaxed);
        });
        interrupt.bail("the soak")?;
        // What has just died may hold its locks for a moment still; what leaks stays.
        for _start in 0..NEXT_STARTS {
            self.next_start(environment, interrupt)?;
            if self.folders_left().is_empty() {
                break;
            }
        }
        self.look_for_leaks(&mut tally);

        tally.conclude(samples);
        Ok(tally)
    }

    fn work_off(
        &self,
        next: &AtomicUsize,
        environment: &Environment,
        interrupt: &Interrupt,
        done: &Sender<(Lifecycle, Outcome)>,
    ) {
        while interrupt.check().is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.runs {
                break;
            }
            let lifecycle = Lifecycle::choose(self.kill, self.seed, &self.isolations, index);
            let outcome = self.live(&lifecycle, environment, interrupt).unwrap_or_else(|failure| Outcome {
                failed: Some(failure.to_string().replace('\n', "; ")),
                ..Outcome::default()
            });
            // Every look at the table of processes would read them, too.
            process::reap_orphans();
            if done.send((lifecycle, outcome)).is_err() {
                break;
            }
        }
    }

    /// Starts one, kills whom it is to kill, and looks until nothing of it is left.
    fn live(
        &self,
        lifecycle: &Lifecycle,
        environment: &Environment,
        interrupt: &Interrupt,
    ) -> Result<Outcome, Failure> {
        let log = self.logs().join(format!("{}.log", lifecycle.run));
        let invocation = self.invocation(lifecycle, environment)?;
        let mut outer = Service::start(&invocation, &log, Stdin::Null, Session::Ours)?;
        self.await_moment(lifecycle, &mut outer, interrupt);
        let seen = Seen::below(outer.pid(), lifecycle.isolation);
        let mut outcome = Outcome::default();
        let deadline = Deadline::after(HANGS_AFTER);
        // Until its status is taken, its pid is its own.
        if lifecycle.victim != Victim::Nobody && outer.try_exit().is_none() {
            let killed = Instant::now();
            seen.kill(lifecycle.victim);
            if lifecycle.needs_next_start() {
                await_exit(&mut outer, deadline, interrupt);
                seen.await_inner(deadline, interrupt);
                // One that comes while another sweeps passes by; and that one may be killed on the way.
                for _start in 0..NEXT_STARTS {
                    self.next_start(environment, interrupt)?;
                    if marked(&lifecycle.mark).is_empty() {
                        break;
                    }
                }
            }
            if lifecycle.victim != Victim::Service {
                let took = seen.await_end(killed, deadline, interrupt);
                outcome.latency = Some(took.saturating_sub(lifecycle.grace()));
            }
        }
        let ended = await_exit(&mut outer, deadline, interrupt);

        outcome.survivors = await_nobody(&lifecycle.mark, interrupt);
        outcome.failed = unexplained(lifecycle.victim, ended)
            .map(|why| format!("{why}; its log: {}", tail(&log).join(" | ")));
        Ok(outcome)
    }

    fn invocation(&self, lifecycle: &Lifecycle, environment: &Environment) -> Result<Invocation, Failure> {
        let parse = |text: &str| stelae_model::value::Text::parse(text).map_err(Failure::unexpected);
        let cache = stelae_model::value::AbsolutePath::parse(self.cache().as_str());
        let env = XtaskEnv {
            run_id: Some(parse(&lifecycle.run)?),
            cache_home: cache.map_err(Failure::unexpected)?,
            ..XtaskEnv::from_environment(environment)?
        };
        let root = environment.get::<stelae_model::env::declared::STELAE_ROOT>()?.as_path().to_owned();
        let hold = lifecycle.hold();

        let invocation =
            XTASK.invoke(self.program.clone(), root.clone(), &Base::from_environment(environment)?, &env);
        Ok(invocation
            .args(["--root", root.as_str(), OF_RUN, &lifecycle.run])
            .args(["--isolation", lifecycle.isolation.name(), "soak-cycle"])
            .args(["--run", &lifecycle.run, "--shape", lifecycle.shape.name(), "--mark", &lifecycle.mark])
            .args([
                "--workspace",
                self.work().join(&lifecycle.run).as_str(),
                "--port",
                &self.port.to_string(),
            ])
            .args(["--grace-ms", &GRACE.as_millis().to_string(), "--hold-ms", &hold.as_millis().to_string()]))
    }

    fn await_moment(&self, lifecycle: &Lifecycle, outer: &mut Service, interrupt: &Interrupt) {
        if let Some(moment) = lifecycle.moment_ms {
            let moment = Deadline::after(Duration::from_millis(moment));
            while !moment.passed() && interrupt.check().is_none() {
                interrupt.wait(moment.remaining());
            }
            return;
        }
        let log = self.work().join(&lifecycle.run).join("service.log");
        let is_up = || read_log(&log).is_ok_and(|text| text.contains("up"));
        let deadline = Deadline::after(HANGS_AFTER);
        while !is_up() && outer.try_exit().is_none() && !deadline.passed() && interrupt.check().is_none() {
            interrupt.wait(LOOK_EVERY);
        }
    }

    /// The next start, whatever it is of: it begins by ending what dead runs have left. A process of its own, as it is in
    /// life; what is below us is not swept by us.
    fn next_start(&self, environment: &Environment, interrupt: &Interrupt) -> Result<(), Failure> {
        let next = Lifecycle::new(Shape::Plain, Isolation::Guard, Victim::Nobody, None);
        let log = self.logs().join(format!("{}.log", next.run));
        let deadline = Deadline::after(HANGS_AFTER);
        let limits = Limits { deadline, interrupt, stdout: &log, stderr: &log };
        process::run(&self.invocation(&next, environment)?, &limits, &mut |_, _| ())?.success_or_failure()?;
        Ok(())
    }

    /// Everything that a lifecycle takes and could fail to give back.
    fn look_for_leaks(&self, tally: &mut Tally) {
        for entry in entries(&self.leases()) {
            let free = open_untrusted(&entry).is_ok_and(|file| file.try_lock().is_ok());
            if !free {
                tally.leaked_leases.push(entry.to_string());
            }
            let address = entry.file_name().and_then(|name| name.parse().ok());
            let listeners =
                address.map(|ip| ports::listeners_on(SocketAddr::new(ip, self.port))).unwrap_or_default();
            tally.leaked_ports.extend(listeners.iter().map(|socket| socket.address.to_string()));
        }
        tally.leaked_folders = self.folders_left();

        tally.miss_kills(self.kill);
        if !self.isolations.contains(&Isolation::Pidns) {
            tally
                .left_out
                .push("pidns: PID namespaces are not allowed here, or were not asked for".to_owned());
        }
        if self.kill != Kill::Never && self.isolations.contains(&Isolation::Guard) {
            tally.left_out.push(
                "both halves killed in one instant, without a namespace, over processes that cleared their \
                 environment: nothing finds those"
                    .to_owned(),
            );
        }
    }

    fn folders_left(&self) -> Vec<String> {
        let left = [self.work(), self.live_folder()].into_iter().flat_map(|folder| entries(&folder));
        left.map(Utf8PathBuf::into_string).collect()
    }

    fn work(&self) -> Utf8PathBuf {
        self.folder.join("work")
    }

    fn logs(&self) -> Utf8PathBuf {
        self.folder.join("logs")
    }

    fn cache(&self) -> Utf8PathBuf {
        self.folder.join("cache")
    }

    fn live_folder(&self) -> Utf8PathBuf {
        self.cache().join("live")
    }

    fn leases(&self) -> Utf8PathBuf {
        self.cache().join("leases")
    }
}

fn await_exit(outer: &mut Service, deadline: Deadline, interrupt: &Interrupt) -> Option<Ended> {
    loop {
        if let Some(ended) = outer.try_exit() {
            return Some(ended);
        }
        if deadline.passed() || interrupt.check().is_some() {
            return None;
        }
        interrupt.wait(LOOK_EVERY);
    }
}

/// Who is still there when everyone has had time to go.
fn await_nobody(mark: &str, interrupt: &Interrupt) -> Vec<String> {
    const GO_WITHIN: Duration = Duration::from_secs(15);
    let deadline = Deadline::after(GO_WITHIN);
    loop {
        let left = marked(mark);
        if left.is_empty() || deadline.passed() || interrupt.check().is_some() {
            return left;
        }
        interrupt.wait(LOOK_EVERY * 5);
    }
}

fn burn(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

fn entries(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = folder.read_dir_utf8().into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path().to_owned()).collect();
    paths.sort();
    paths
}

fn unusable(folder: &Utf8Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "soak-folder", "the soak has no folder to work in")
        .on(folder.to_string())
        .because(error.to_string())
        .hint("make room, or name another folder: cargo xtask --set STELAE_CACHE_HOME=PATH soak")
}
