//! Every call of a tool, in a file (`--calls`, or STELAE_CALLS): our own account, beside whatever a client tells of itself.
//!
//! A line is written before its client gets the answer, so that whoever saw the answer finds the line. One thread has the
//! file: it counts the calls in the order in which they ended, and a disk that hangs holds up this one thread and not those
//! that serve. A call waits for its line, but not for ever: it gets its answer also when the line cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        let file = Account::open(path).map_err(|error| {
            let what = "the file for the calls cannot be written";
            Failure::new(ExitCode::PrerequisiteMissing, "calls-unwritable", what)
                .on(path.as_str())
                .because(error.to_string())
        })?;
        let (calls, ended) = Self::of(path, LINE_LIMIT);
        let trouble = Arc::clone(&calls.trouble);
        thread::spawn(move || write_all(file, ended, &trouble));
        Ok(calls)
    }

    fn of(path: &Utf8Path, line_limit: Duration) -> (Self, mpsc::Receiver<Entry>) {
        let (entries, ended) = mpsc::channel(MOST_WAITING);
        let trouble = Arc::new(Trouble::new(path));
        (Self { entries, open: InFlight::new(), line_limit, trouble }, ended)
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
        let (entries, limit) = (self.calls.entries.clone(), self.calls.line_limit);
        let written = async {
            // Room first: whoever drops us before there is any still leaves the call to be told of.
            let room = entries.reserve().await.ok()?;
            let (told, dealt) = oneshot::channel();
            room.send(Entry::Ended(self.take(outcome, why.as_deref())?, told));
            dealt.await.ok()
        };
        if timeout(limit, written).await.is_err() {
            self.calls.trouble.is(&too_late(limit));
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
        if let Some(call) = self.take(CallOutcome::Failed, Some("the call was broken off")) {
            let (told, _) = oneshot::channel();
            if self.calls.entries.try_send(Entry::Ended(call, told)).is_err() {
                self.calls.trouble.is("too many lines wait to be written");
            }
        }
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
fn write_all(mut account: Account, mut entries: mpsc::Receiver<Entry>, trouble: &Trouble) {
    while let Some(entry) = entries.blocking_recv() {
        let told = match entry {
            Entry::Ended(call, told) => {
                match account.append(*call) {
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
mod tests {
    use serde_json::json;
    use stelae_model::calls::read_calls;

    use super::*;

    /// Only a hang takes this long.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("calls.jsonl")).unwrap();
        (guard, path)
    }

    fn params() -> Map<String, Value> {
        Map::from_iter([("name".to_owned(), json!("t"))])
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_any_more_has_a_line() {
        let (_guard, path) = folder();
        let calls = Calls::open(&path).unwrap();
        drop(calls.begin(None, &params()));
        calls.begin(None, &params()).end(&Ok(json!({}))).await;
        drop(calls.begin(None, &params()));
        calls.finish().await;
        let read = read_calls("p", &std::fs::read_to_string(&path).unwrap()).unwrap();
        let outcomes: Vec<_> = read.iter().map(|call| (call.outcome, call.why.as_deref())).collect();
        let broken = (CallOutcome::Failed, Some("the call was broken off"));
        assert_eq!(outcomes, [broken, (CallOutcome::Answered, None), broken]);
    }

    #[tokio::test]
    async fn a_call_has_not_ended_before_its_line_is_there() {
        let (_guard, path) = folder();
        let (calls, mut lines) = Calls::of(&path, PATIENCE);
        let answer = Ok(json!({}));
        let mut ended = Box::pin(calls.begin(None, &params()).end(&answer));
        assert!(timeout(Duration::ZERO, &mut ended).await.is_err());
        let Ok(Entry::Ended(_, told)) = lines.try_recv() else { panic!("no line") };
        assert!(timeout(Duration::ZERO, &mut ended).await.is_err());
        told.send(()).unwrap();
        ended.await;
        assert!(!calls.trouble.said.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_end_of_the_gateway_waits_for_the_calls_that_end_with_it() {
        let (_guard, path) = folder();
        let (calls, mut lines) = Calls::of(&path, PATIENCE);
        let open = calls.begin(None, &params());
        let mut finish = Box::pin(calls.finish());
        assert!(timeout(Duration::ZERO, &mut finish).await.is_err());
        assert!(lines.try_recv().is_err(), "nothing has ended");
        drop(open);
        assert!(timeout(Duration::ZERO, &mut finish).await.is_err());
        let (Ok(Entry::Ended(..)), Ok(Entry::Dealt(told))) = (lines.try_recv(), lines.try_recv()) else {
            panic!("no line, or no end of lines")
        };
        told.send(()).unwrap();
        finish.await;
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_no_answer_for_ever() {
        let (_guard, path) = folder();
        // Nobody takes a line.
        let (calls, lines) = Calls::of(&path, Duration::from_millis(1));
        for _ in 0..=MOST_WAITING {
            let answer = Ok(json!({}));
            let ended = timeout(PATIENCE, calls.begin(None, &params()).end(&answer)).await;
            assert!(ended.is_ok(), "it waits for ever");
        }
        assert_eq!(lines.len(), MOST_WAITING);
        assert!(calls.trouble.said.load(Ordering::Relaxed));
    }
}
