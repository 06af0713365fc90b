//! Every call of a tool, in a file (`--calls`, or STELAE_CALLS): our own account, beside whatever a client tells of itself.
//!
//! A line is written before its client gets the answer, so that whoever saw the answer finds the line. One thread has the
//! file: a disk that hangs holds up this one thread and not those that serve. A call waits for its line, but not for ever: it
//! gets its answer also when the line cannot be written. Its number is taken then all the same: without it the account has a
//! gap, and nobody takes it for complete.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rmcp::model::ErrorData;
use serde_json::{Map, Value};
use stelae_model::calls::{CallOutcome, GatewayCall};
use stelae_model::env::Variable as _;
use stelae_model::env::declared::STELAE_CALLS;
use stelae_model::{ExitCode, Failure};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::account::Account;
use super::drain::{Guard, InFlight};
use super::log::event;

/// A disk that takes longer for a line is as good as none.
const LINE_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of the gateway waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// So many lines may wait for the disk; a call that comes then waits for room.
const MOST_WAITING: usize = 64;

/// The file that STELAE_CALLS names, if it does.
pub(super) fn of_the_environment() -> Option<Utf8PathBuf> {
    let path = std::env::var(STELAE_CALLS::DECLARED.name).ok()?;
    (!path.is_empty()).then(|| path.into())
}

/// The account.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    entries: mpsc::Sender<Entry>,
    /// The number of the next call that ends.
    next: Arc<Mutex<u64>>,
    open: InFlight,
    /// How long an answer waits for its line.
    line_limit: Duration,
    trouble: Arc<Trouble>,
}

#[derive(Debug)]
enum Entry {
    /// A call that has ended; the other end is told when its line is there, or cannot be.
    Ended(Box<GatewayCall>, oneshot::Sender<()>),
    /// Everything before this is dealt with when the other end is told.
    Dealt(oneshot::Sender<()>),
}

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct Open {
    calls: Calls,
    begun: Instant,
    /// Taken when it has ended.
    call: Option<Box<GatewayCall>>,
    _counted: Guard,
}

impl Calls {
    /// Opens the file, or makes it: its owner's only. What is there stays, but for a last line without an end, over which
    /// the gateway that wrote it was killed: its client has had no answer.
    ///
    /// # Errors
    /// Exit 40, `calls-unwritable`.
    pub(super) fn open(path: &Utf8Path) -> Result<Self, Failure> {
        let (mut file, next) = Account::open(path).map_err(|error| {
            let what = "the file for the calls cannot be written";
            Failure::new(ExitCode::PrerequisiteMissing, "calls-unwritable", what)
                .on(path.as_str())
                .because(error.to_string())
        })?;
        let (calls, ended) = Self::of(path, next, LINE_LIMIT);
        let trouble = Arc::clone(&calls.trouble);
        thread::spawn(move || write_all(|call| file.append(call), ended, &trouble));
        Ok(calls)
    }

    fn of(path: &Utf8Path, next: u64, line_limit: Duration) -> (Self, mpsc::Receiver<Entry>) {
        let (entries, ended) = mpsc::channel(MOST_WAITING);
        let (next, trouble) = (Arc::new(Mutex::new(next)), Arc::new(Trouble::new(path)));
        (Self { entries, next, open: InFlight::new(), line_limit, trouble }, ended)
    }

    /// A call begins; `params` are its own.
    pub(super) fn begin(&self, client: Option<String>, params: &Map<String, Value>) -> Open {
        let tool = params.get("name").and_then(Value::as_str).unwrap_or_default();
        let call = GatewayCall::begun(client, tool, params.get("arguments"));
        Open {
            calls: self.clone(),
            begun: Instant::now(),
            call: Some(Box::new(call)),
            _counted: self.open.enter(),
        }
    }

    /// Gives a call that has ended its number, and hands it on before another one gets the next: lines are in their order.
    fn number<T>(&self, mut call: Box<GatewayCall>, hand_on: impl FnOnce(Box<GatewayCall>) -> T) -> T {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        call.number = *next;
        *next += 1;
        hand_on(call)
    }

    /// Waits for the lines of the calls that end with the gateway.
    pub(super) async fn finish(&self) {
        let left = self.open.drained(LAST_LINES).await;
        if left > 0 {
            event!("{left} calls have no line: they have not ended");
        }
        let (told, dealt) = oneshot::channel();
        let last = async {
            self.entries.send(Entry::Dealt(told)).await.ok()?;
            dealt.await.ok()
        };
        if timeout(LAST_LINES, last).await.is_err() {
            self.trouble.is(&too_late(LAST_LINES));
        }
    }
}

impl Open {
    /// It is given to this server.
    pub(super) fn given_to(&mut self, server: &str) {
        if let Some(call) = &mut self.call {
            call.server = Some(server.to_owned());
        }
    }

    /// It has ended with this answer. Returns when its line is there, or cannot be.
    pub(super) async fn end(mut self, answer: &Result<Value, ErrorData>) {
        let (outcome, why) = match answer {
            Ok(result) if result["isError"] == true => (CallOutcome::ToolError, Some(text(result))),
            Ok(_) => (CallOutcome::Answered, None),
            Err(error) => (CallOutcome::Failed, Some(error.message.to_string())),
        };
        let calls = self.calls.clone();
        let written = async {
            // Room first: whoever drops us before there is any still leaves the call to be told of.
            let room = calls.entries.reserve().await.ok()?;
            let (told, dealt) = oneshot::channel();
            calls.number(self.take(outcome, why.as_deref())?, |call| room.send(Entry::Ended(call, told)));
            dealt.await.ok()
        };
        if timeout(calls.line_limit, written).await.is_err() {
            calls.trouble.is(&too_late(calls.line_limit));
        }
        self.leave(outcome, why.as_deref());
    }

    /// Nobody waits for its line any more: unless it is under way, it has one if there is room right now.
    fn leave(&mut self, outcome: CallOutcome, why: Option<&str>) {
        let Some(call) = self.take(outcome, why) else { return };
        let (told, _) = oneshot::channel();
        let calls = &self.calls;
        if calls.number(call, |call| calls.entries.try_send(Entry::Ended(call, told))).is_err() {
            calls.trouble.is("too many lines wait to be written");
        }
    }

    fn take(&mut self, outcome: CallOutcome, why: Option<&str>) -> Option<Box<GatewayCall>> {
        let mut call = self.call.take()?;
        call.end(outcome, why, self.begun.elapsed());
        Some(call)
    }
}

/// Whoever waited for it is gone, as it is when the gateway ends. Nobody can wait here.
impl Drop for Open {
    fn drop(&mut self) {
        self.leave(CallOutcome::Failed, Some("the call was broken off"));
    }
}

/// What a tool says, as far as it is text.
fn text(result: &Value) -> String {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn too_late(limit: Duration) -> String {
    format!("a line was not written within {} ms", limit.as_millis())
}

/// Until nobody calls any more.
fn write_all(
    mut append: impl FnMut(&GatewayCall) -> io::Result<()>,
    mut entries: mpsc::Receiver<Entry>,
    trouble: &Trouble,
) {
    while let Some(entry) = entries.blocking_recv() {
        let told = match entry {
            Entry::Ended(call, told) => {
                match append(&call) {
                    Ok(()) => trouble.is_over(),
                    Err(why) => trouble.is(&why.to_string()),
                }
                told
            }
            Entry::Dealt(told) => told,
        };
        // Nobody may be waiting any more.
        told.send(()).ok();
    }
}

/// That lines are missing is said once, until one can be written again.
#[derive(Debug)]
struct Trouble {
    path: Utf8PathBuf,
    said: AtomicBool,
}

impl Trouble {
    fn new(path: &Utf8Path) -> Self {
        Self { path: path.to_owned(), said: AtomicBool::new(false) }
    }

    fn is(&self, why: &str) {
        if !self.said.swap(true, Ordering::Relaxed) {
            event!("calls have no line in {}: {why}", self.path);
        }
    }

    fn is_over(&self) {
        if self.said.swap(false, Ordering::Relaxed) {
            event!("calls have their lines in {} again", self.path);
        }
    }
}

#[cfg(test)]
mod tests;
