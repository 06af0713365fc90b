//! One target in one round: started, asked, stopped.

use std::io::pipe;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use stelae_model::bench::{Crowd, Measured};
use stelae_model::env::programs::{BENCH, GATEWAY};
use stelae_model::env::{Base, BenchEnv, Environment, GatewayEnv, Invocation, ProgramEnv as _};
use stelae_model::lifecycle::{StopLimits, TeardownProof};
use stelae_model::{ExitCode, Failure};

use super::client::Client;
use super::memory::resident_kib;
use super::speech::Pipes;
use super::target::{Gateway, Sessions, Socket};
use super::{Bench, SERVERS, STDIO, right_answer, tool};
use crate::deadline::Deadline;
use crate::files::{Readable, replace};
use crate::ports::{self, Placeholder};
use crate::process::{Service, Session, Stdin};
use crate::signals::Interrupt;
use crate::tail::tail;

/// Between two looks at a list that is not complete.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Calls before those that count: connections are open then, and code is in memory.
const WARM_UP: usize = 20;
/// What any of them may take to say goodbye.
const STOP: StopLimits = StopLimits { grace: Duration::from_secs(3), ceiling: Duration::from_secs(5) };

/// What a round is carried out with.
pub(super) struct Host<'a> {
    pub(super) bench: &'a Bench,
    pub(super) environment: &'a Environment,
    pub(super) interrupt: &'a Interrupt,
    pub(super) round: usize,
}

impl Host<'_> {
    /// Each server by itself, on pipes.
    pub(super) fn stdio(&self, deadline: Deadline) -> Result<Measured, Failure> {
        let mut services = Vec::new();
        let asked = self.ask_servers(&mut services, deadline);
        let stopped: Vec<_> = services.iter_mut().map(|service| service.stop(STOP, self.interrupt)).collect();
        self.interrupt.bail("the bench")?;
        let measured = asked?;
        stopped.iter().try_for_each(TeardownProof::check)?;
        Ok(measured)
    }

    fn ask_servers(&self, services: &mut Vec<Service>, deadline: Deadline) -> Result<Measured, Failure> {
        let (mut clients, mut slowest) = (Vec::new(), 0);
        let log = self.log("stdio");
        let unusable = |why: String| self.failed(STDIO, &log, why);
        for server in SERVERS {
            let invocation = self.named(&format!("server-{server}"), &self.bench.server)?;
            let invocation = invocation.args([server.to_owned(), tool(server)]);
            let (stdin, to) = pipe().map_err(|error| unusable(error.to_string()))?;
            let (from, stdout) = pipe().map_err(|error| unusable(error.to_string()))?;
            let begun = Instant::now();
            let stdin = Stdin::Dialogue { stdin, stdout };
            services.push(Service::start(&invocation, &log, stdin, Session::Ours)?);
            let mut client = Client::begin(Pipes::new(to, from), deadline).map_err(unusable)?;
            client.tools(deadline).map_err(unusable)?;
            slowest = slowest.max(nanos(begun));
            clients.push(client);
        }
        let mut sessions = Sessions::of(clients);
        if !sessions.list(deadline).map_err(unusable)? {
            return Err(unusable("not every tool is listed".to_owned()));
        }
        let calls_ns = self.calls(&mut sessions, deadline).map_err(unusable)?;
        Ok(Measured { calls_ns, listed_ns: slowest, rss_kib: None, crowd: None })
    }

    /// A gateway with all servers behind it.
    pub(super) fn gateway(
        &self,
        gateway: &Gateway,
        program: &Utf8Path,
        deadline: Deadline,
    ) -> Result<Measured, Failure> {
        let log = self.log(gateway.name);
        let held = Held::take(gateway.socket)?;
        let config = self.config(gateway, held.address)?;
        let invocation = match gateway.socket {
            Socket::Passed => GATEWAY.invoke(
                program.to_owned(),
                self.bench.folder.clone(),
                &self.base()?,
                &GatewayEnv::from_environment(self.environment)?,
            ),
            Socket::Own => self.named(gateway.name, program)?,
        };
        let invocation = invocation.args(gateway.args(config.as_str(), held.address));
        let begun = Instant::now();
        let (address, stdin, _placeholder) = held.hand_over();
        let mut service = Service::start(&invocation, &log, stdin, Session::Ours)?;
        let asked = self.ask(gateway, address, &mut service, begun, deadline);
        // Before it is stopped: what it says then is no reason for anything.
        let asked = asked.map_err(|why| self.failed(gateway.name, &log, why));
        let stopped = service.stop(STOP, self.interrupt);
        // A signal, not a failure of whoever is measured.
        self.interrupt.bail("the bench")?;
        let measured = asked?;
        stopped.check()?;
        Ok(measured)
    }

    fn ask(
        &self,
        gateway: &Gateway,
        address: SocketAddr,
        service: &mut Service,
        begun: Instant,
        deadline: Deadline,
    ) -> Result<Measured, String> {
        let mut sessions = self.listed(gateway, address, service, deadline)?;
        let listed_ns = nanos(begun);
        let calls_ns = self.calls(&mut sessions, deadline)?;
        let crowd = self.crowd(gateway, address, deadline);
        let rss_kib = resident_kib(service.pid(), &self.bench.server);
        Ok(Measured { calls_ns, listed_ns, rss_kib, crowd: Some(crowd) })
    }

    /// Sessions in which every tool is listed, as soon as there are any.
    fn listed(
        &self,
        gateway: &Gateway,
        address: SocketAddr,
        service: &mut Service,
        deadline: Deadline,
    ) -> Result<Sessions, String> {
        let mut open: Option<Sessions> = None;
        let mut last;
        loop {
            let listed = match open.take() {
                Some(sessions) => Ok(sessions),
                None => gateway.sessions(address, deadline),
            };
            match listed.and_then(|mut sessions| Ok((sessions.list(deadline)?, sessions))) {
                Ok((true, sessions)) => return Ok(sessions),
                Ok((false, sessions)) => {
                    last = format!("it lists only {:?}", sessions.listed());
                    open = Some(sessions);
                }
                Err(why) => last = why,
            }
            if let Some(ended) = service.try_exit() {
                return Err(format!("it ended with {ended}"));
            }
            if deadline.passed() || self.interrupt.check().is_some() {
                return Err(format!("its list was not complete in time: {last}"));
            }
            self.interrupt.wait(LOOK_EVERY);
        }
    }

    /// Calls one after the other, each server in turn; a wrong answer ends it, as it makes the figures worthless.
    fn calls(&self, sessions: &mut Sessions, deadline: Deadline) -> Result<Vec<u64>, String> {
        let mut taken = Vec::with_capacity(self.bench.calls);
        for call in 0..WARM_UP + self.bench.calls {
            if self.interrupt.check().is_some() {
                return Err("interrupted".to_owned());
            }
            let (server, text) = (call % SERVERS.len(), call.to_string());
            let begun = Instant::now();
            let answer = sessions.call(server, &text, deadline)?;
            let nanos = nanos(begun);
            let right = right_answer(SERVERS[server], &text);
            if answer != right {
                return Err(format!("answered {answer:?} in place of {right:?}"));
            }
            if call >= WARM_UP {
                taken.push(nanos);
            }
        }
        Ok(taken)
    }

    /// Many clients at once, each with sessions of its own, that ask different servers at any moment.
    fn crowd(&self, gateway: &Gateway, address: SocketAddr, deadline: Deadline) -> Crowd {
        let (clients, each) = (self.bench.clients, self.bench.calls_each);
        let together = Barrier::new(clients + 1);
        let (counts, elapsed_ns) = thread::scope(|scope| {
            let client = |number: usize| {
                let together = &together;
                scope.spawn(move || {
                    // One that panicked would leave all the others waiting for it.
                    let sessions = catch_unwind(AssertUnwindSafe(|| {
                        let sessions = gateway.sessions(address, deadline);
                        sessions.and_then(|mut sessions| sessions.list(deadline).map(|_| sessions))
                    }));
                    let sessions = sessions.unwrap_or_else(|_| Err("panicked".to_owned()));
                    together.wait();
                    sessions.map_or((0, 0), |sessions| self.one_of_many(number, sessions, deadline))
                })
            };
            let threads: Vec<_> = (0..clients).map(client).collect();
            together.wait();
            let begun = Instant::now();
            // A thread that panicked has no answers to show.
            let counts: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or((0, 0))).collect();
            (counts, nanos(begun))
        });
        let (right, wrong) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let asked = clients * each;
        Crowd { asked, right, wrong, missing: asked - right - wrong, elapsed_ns }
    }

    /// How many answers were right, and how many wrong. What is not answered ends it: the connection is of no use any more.
    fn one_of_many(&self, number: usize, mut sessions: Sessions, deadline: Deadline) -> (usize, usize) {
        let (mut right, mut wrong) = (0, 0);
        for call in 0..self.bench.calls_each {
            if self.interrupt.check().is_some() {
                break;
            }
            let (server, text) = ((number + call) % SERVERS.len(), format!("{number}-{call}"));
            match sessions.call(server, &text, deadline) {
                Ok(answer) if answer == right_answer(SERVERS[server], &text) => right += 1,
                Ok(_) => wrong += 1,
                Err(_) => break,
            }
        }
        (right, wrong)
    }

    /// The configuration: `mcpServers`, which all of them read, and what only ours does.
    fn config(&self, gateway: &Gateway, address: SocketAddr) -> Result<Utf8PathBuf, Failure> {
        let server = |server: &&str| {
            ((*server).to_owned(), json!({"command": self.bench.server, "args": [server, tool(server)]}))
        };
        let servers = Value::Object(SERVERS.iter().map(server).collect());
        let mut config = json!({"mcpServers": servers});
        if gateway.socket == Socket::Passed {
            let url = format!("http://{address}");
            config["mcpProxy"] = json!({"name": "bench", "addr": address, "baseURL": url});
        }
        let path = self.bench.folder.join(format!("{}.json", gateway.name));
        replace(&path, config.to_string().as_bytes(), Readable::ByOwner).map_err(|error| {
            Failure::new(ExitCode::StepFailed, "bench-target", "a configuration cannot be written")
                .on(path.to_string())
                .because(error.to_string())
        })?;
        Ok(path)
    }

    fn base(&self) -> Result<Base, Failure> {
        // A home of their own: what others keep there is none of the user's business, nor is what the user keeps theirs.
        let home = stelae_model::value::EnvValue::parse(self.bench.folder.as_str());
        Ok(Base { home: home.map_err(Failure::unexpected)?, ..Base::from_environment(self.environment)? })
    }

    fn named(&self, name: &str, program: &Utf8Path) -> Result<Invocation, Failure> {
        let env = BenchEnv::from_environment(self.environment)?;
        Ok(BENCH.invoke_named(name, program.to_owned(), self.bench.folder.clone(), &self.base()?, &env))
    }

    fn log(&self, name: &str) -> Utf8PathBuf {
        self.bench.folder.join(format!("{}-{name}.log", self.round))
    }

    fn failed(&self, target: &str, log: &Utf8Path, why: String) -> Failure {
        Failure::new(ExitCode::StepFailed, "bench-target", format!("{target} could not be measured"))
            .on(format!("round {}", self.round))
            .because(why)
            .log_tail(tail(log))
            .hint("the figures of what is left over are worth nothing: mend it, or leave it out")
    }
}

/// The address of a gateway, which nobody else gets.
struct Held {
    address: SocketAddr,
    by: By,
}

enum By {
    Listener(std::net::TcpListener),
    Placeholder(Placeholder),
}

impl Held {
    fn take(socket: Socket) -> Result<Self, Failure> {
        let taken = |taken: ports::PortTaken| taken.failure("the port of the bench");
        match socket {
            Socket::Passed => {
                let listener = ports::listen((Ipv4Addr::LOCALHOST, 0).into()).map_err(taken)?;
                let address =
                    listener.local_addr().map_err(|error| Failure::unexpected(error.to_string()))?;
                Ok(Self { address, by: By::Listener(listener) })
            }
            Socket::Own => {
                let held = Placeholder::hold(Ipv4Addr::LOCALHOST.into(), 0).map_err(taken)?;
                Ok(Self { address: held.address(), by: By::Placeholder(held) })
            }
        }
    }

    /// The address, what the gateway finds on its standard input, and what keeps the port until it is dropped.
    fn hand_over(self) -> (SocketAddr, Stdin, Option<Placeholder>) {
        match self.by {
            By::Listener(listener) => (self.address, Stdin::Listener(listener), None),
            By::Placeholder(held) => (self.address, Stdin::Null, Some(held)),
        }
    }
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
