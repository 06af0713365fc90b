//! The prober: asks the service, rung by rung, in a thread of its own.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use stelae_model::lifecycle::{Lacking, Rung, Standing};
use stelae_model::proxy::{Readiness, ServerHealth, ServerState};

use super::tools::{Asking, Missing, Offer};
use super::wanted::Wanted;
use crate::deadline::Deadline;
use crate::http::Http;
use crate::ports;
use crate::watch::servers::ask_servers;

/// Between two questions. Noticing that a service became ready costs at most this and the answer.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// One answer: a server that accepted a question and forgot it is asked again after this.
const ONE_ANSWER: Duration = Duration::from_secs(10);

/// A server that died and was started again so often is not going to stay.
const CRASH_LOOP: u32 = 2;

/// What the prober tells the watcher.
#[derive(Debug)]
pub(super) enum Found {
    /// How the service stands on a rung; sent when it changes.
    Standing(Rung, Standing),
    /// Somebody listens. The watcher finds out who, and lets the prober go on, or not.
    Listener(SocketAddr),
    /// The tools and who has them, as soon as they are complete.
    Tools(Offer),
}

/// The running prober. It is told to stop by dropping this, and is not waited for: it may be in the middle of an
/// exchange, which ends at the latest with its own limit, and it holds nothing but a socket.
pub(super) struct Prober {
    pub(super) found: Receiver<Found>,
    go_on: Sender<()>,
}

impl Prober {
    pub(super) fn start(wanted: &Wanted, deadline: Deadline) -> Self {
        let (tell, found) = channel();
        let (go_on, may_go_on) = channel();
        if let Some(address) = wanted.address {
            let climb = Climb { wanted: wanted.clone(), address, deadline, tell, may_go_on };
            thread::spawn(move || climb.all());
        }
        Self { found, go_on }
    }

    /// The listener is the service: it may be asked.
    pub(super) fn listener_is_ours(&self) {
        // A prober that has already ended has nothing more to be told.
        let _ended = self.go_on.send(());
    }
}

struct Climb {
    wanted: Wanted,
    address: SocketAddr,
    deadline: Deadline,
    tell: Sender<Found>,
    may_go_on: Receiver<()>,
}

/// The watcher is gone.
struct Stopped;

impl Climb {
    /// Climbs rung by rung; returns early when nobody listens to it any more.
    fn all(self) -> Option<()> {
        self.find_listener().ok()?;
        let http = Http::new();
        if let Some(path) = &self.wanted.health_path {
            let url = self.url(path);
            self.until_ready(Rung::Http, || health(&http, &url, self.answer_by())).ok()?;
        }
        let mcp = self.wanted.mcp.as_ref()?;
        let mut asking = Asking::new(mcp, self.url(""));
        self.until_ready(Rung::Initialize, || asking.initialize(self.answer_by())).ok()?;
        self.until_ready(Rung::Tools, || self.tools(&http, &mut asking)).ok()?;
        if let Some(canary) = &mcp.canary {
            self.until_ready(Rung::Canary, || asking.call(canary, self.answer_by())).ok()?;
        }
        asking.close(self.answer_by().within(ASK_EVERY * 20))
    }

    fn find_listener(&self) -> Result<(), Stopped> {
        loop {
            if is_listened_on(self.address) {
                self.tell.send(Found::Listener(self.address)).map_err(|_| Stopped)?;
                return self.may_go_on.recv().map_err(|_| Stopped);
            }
            let status = format!("nothing listens on {}", self.address);
            self.tell
                .send(Found::Standing(Rung::Listening, Standing::not_yet(status)))
                .map_err(|_| Stopped)?;
            self.pause()?;
        }
    }

    fn until_ready(&self, rung: Rung, mut ask: impl FnMut() -> Standing) -> Result<(), Stopped> {
        let mut last = None;
        let waiting = Standing::not_yet(format!("{} was asked for, no answer yet", subject(rung)));
        self.tell.send(Found::Standing(rung, waiting)).map_err(|_| Stopped)?;
        loop {
            let standing = ask();
            if last.as_ref() != Some(&standing) {
                self.tell.send(Found::Standing(rung, standing.clone())).map_err(|_| Stopped)?;
            }
            if standing == Standing::Ready {
                return Ok(());
            }
            last = Some(standing);
            self.pause()?;
        }
    }

    fn tools(&self, http: &Http, asking: &mut Asking<'_>) -> Standing {
        let missing = match asking.list(self.answer_by()) {
            Ok(missing) => missing,
            Err(status) => return Standing::not_yet(status),
        };
        let asked = self.wanted.readiness_path.as_ref();
        let readiness = match asked.map(|path| ask_servers(http, &self.url(path), self.answer_by())) {
            Some(Ok(readiness)) => readiness,
            Some(Err(why)) if missing.names.is_empty() => return Standing::not_yet(why),
            // The missing tools say enough.
            Some(Err(_)) | None => None,
        };
        // Tools that are required say nothing about a server that is, and has none of them.
        if missing.names.is_empty() && readiness.as_ref().is_none_or(|readiness| readiness.ready) {
            // Whether the watcher is still there is found out at the next rung.
            let _stopped = self.tell.send(Found::Tools(asking.offer()));
            return Standing::Ready;
        }
        lacking(missing, asking.names(), readiness.as_ref())
    }

    fn pause(&self) -> Result<(), Stopped> {
        match self.may_go_on.recv_timeout(ASK_EVERY) {
            Err(RecvTimeoutError::Disconnected) => Err(Stopped),
            Ok(()) | Err(RecvTimeoutError::Timeout) => Ok(()),
        }
    }

    fn answer_by(&self) -> Deadline {
        self.deadline.within(ONE_ANSWER)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn subject(rung: Rung) -> &'static str {
    match rung {
        Rung::Http => "the health path",
        Rung::Initialize => "initialize",
        Rung::Tools => "tools/list",
        Rung::Canary => "the canary call",
        Rung::Spawned | Rung::Announced | Rung::Listening => "it",
    }
}

/// Read from the kernel's table where there is one: connecting would be the first thing that the service, or a
/// stranger, hears from us.
fn is_listened_on(address: SocketAddr) -> bool {
    if cfg!(target_os = "linux") {
        !ports::listeners_on(address).is_empty()
    } else {
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok()
    }
}

fn health(http: &Http, url: &str, deadline: Deadline) -> Standing {
    match http.get(url, deadline) {
        Ok(answer) if answer.is_success() => Standing::Ready,
        Ok(answer) => Standing::not_yet(format!("{url} answered {}", answer.status)),
        Err(error) => Standing::not_yet(format!("{url}: {error}")),
    }
}

fn lacking(missing: Missing, present: Vec<String>, readiness: Option<&Readiness>) -> Standing {
    let Missing { names: missing, ambiguous } = missing;
    let servers = readiness.map(|readiness| &readiness.servers).into_iter().flatten();
    let not_ready: Vec<_> = servers.filter(|(_, health)| health.state != ServerState::Ready).collect();
    let reasons = not_ready.iter().map(|(name, health)| {
        let reason = health.reason.as_deref().unwrap_or("no reason given");
        format!("server {name} is {}: {reason}", state(health.state))
    });
    let is_ambiguous = !ambiguous.is_empty();
    let reasons: Vec<String> = ambiguous.into_iter().chain(reasons).collect();
    let status = match missing.is_empty() {
        true => format!("not every required server is ready: {}", reasons.join("; ")),
        false => format!("{} of the required tools missing: {}", missing.len(), missing.join(", ")),
    };
    let lacking = Lacking { missing, present, reasons };
    if is_ambiguous || not_ready.iter().any(|(_, health)| health.required && is_hopeless(health)) {
        return Standing::Failed { why: status, lacking: Some(lacking) };
    }
    Standing::NotYet { status, lacking: Some(lacking) }
}

/// It failed, or it dies again and again.
fn is_hopeless(health: &ServerHealth) -> bool {
    health.state == ServerState::Failed
        || health.state == ServerState::Backoff && health.restarts >= CRASH_LOOP
}

fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Starting => "starting",
        ServerState::Ready => "ready",
        ServerState::Backoff => "backing off",
        ServerState::Failed => "failed",
    }
}
