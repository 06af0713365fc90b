//! Servers on stdio that do what no server should do.

use std::fs;

use serde_json::json;

use crate::support::{FIXTURE, Gateway, gone};

/// Once the file is there: stops the server, and pings us from beside it, with ids that make our answers long.
/// It ends with the folder of the file, and with us, whatever becomes of the test.
const STOPPED_AND_PINGING: &str = r#"
exec 3>&1
(
    until [ -e "$0" ]; do [ -d "${0%/*}" ] || exit; sleep 0.05; done
    rm "$0"
    kill -STOP $$
    yes "$(printf '{"jsonrpc":"2.0","id":"%0100000d","method":"ping"}' 0)" >&3
    while [ -d "${0%/*}" ]; do sleep 0.05; done
    kill -KILL $$
) &
exec "$1" a pid
"#;

#[tokio::test]
async fn a_server_that_asks_and_reads_nothing_is_lost_with_the_reason_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("now");
    let args = json!(["-c", STOPPED_AND_PINGING, file, FIXTURE]);
    let gateway = Gateway::start(json!({"a": {"command": "sh", "args": args}})).await.ready().await;
    let first = gateway.client().await.pid("pid").await;
    fs::write(&file, "").unwrap();
    let back = gateway.until("it is back", |all| all.ready && all.servers["a"].restarts == 1).await;
    assert_eq!(back.servers["a"].tools, 1);
    gone(first).await;
    let why = "server \"a\": died: does not read its stdin: more than 67108864 bytes wait for it";
    // On a machine so slow that its silence is noticed first, that is a reason as good.
    let silent = "server \"a\": given up: no answer to ping";
    assert!([why, silent].iter().any(|why| gateway.log().contains(why)), "{}", gateway.log());
}
