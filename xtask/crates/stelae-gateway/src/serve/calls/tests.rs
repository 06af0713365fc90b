//! Lines that are waited for, lines that are late, and lines that are lost.

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
    let (calls, mut lines) = Calls::of(&path, 0, PATIENCE);
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
    let (calls, mut lines) = Calls::of(&path, 0, PATIENCE);
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
    let (calls, mut lines) = Calls::of(&path, 0, Duration::from_millis(1));
    let ended = async || {
        let answer = Ok(json!({}));
        let ended = timeout(PATIENCE, calls.begin(None, &params()).end(&answer)).await;
        assert!(ended.is_ok(), "it waits for ever");
    };
    for _ in 0..=MOST_WAITING {
        ended().await;
    }
    assert_eq!(lines.len(), MOST_WAITING);
    assert!(calls.trouble.said.load(Ordering::Relaxed));
    // One had no room while it waited, one when nobody waited for it. Then there is some, and the disk is back.
    drop(calls.begin(None, &params()));
    let mut file = Account::open(&path).unwrap().0;
    let Ok(Entry::Ended(first, _)) = lines.try_recv() else { panic!("no line") };
    file.append(&first).unwrap();
    ended().await;
    let trouble = Arc::clone(&calls.trouble);
    drop(calls);
    thread::spawn(move || write_all(|call| file.append(call), lines, &trouble)).join().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), MOST_WAITING + 1);
    assert!(text.lines().all(|line| line.contains("\"answered\"")), "{text}");
    assert_eq!(missing(&path), "the line of call 64 is missing: this one is that of call 66");
}

/// Why the account cannot be read.
fn missing(path: &Utf8Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    read_calls("p", &text).unwrap_err().why.remove(0)
}

#[tokio::test]
async fn a_line_that_could_not_be_written_is_missed_by_whoever_reads_the_account() {
    let (_guard, path) = folder();
    let (calls, lines) = Calls::of(&path, 0, PATIENCE);
    let mut file = Account::open(&path).unwrap().0;
    let append = move |call: &GatewayCall| match call.number {
        1 => Err(io::Error::other("the disk is full")),
        _ => file.append(call),
    };
    let trouble = Arc::clone(&calls.trouble);
    thread::spawn(move || write_all(append, lines, &trouble));
    for said in [false, true, false] {
        calls.begin(None, &params()).end(&Ok(json!({}))).await;
        assert_eq!(calls.trouble.said.load(Ordering::Relaxed), said);
    }
    let why = "the line of call 1 is missing: this one is that of call 2";
    assert_eq!(missing(&path), why);
    // Neither does the gateway after it hide that.
    let calls = Calls::open(&path).unwrap();
    calls.begin(None, &params()).end(&Ok(json!({}))).await;
    assert_eq!(missing(&path), why);
    assert!(std::fs::read_to_string(&path).unwrap().lines().last().unwrap().starts_with("{\"number\":3,"));
}
