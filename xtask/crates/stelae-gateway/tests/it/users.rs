//! Whose connections are let in. Only root can make connections of another user: elsewhere those tests say that they were
//! skipped.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::getuid;
use serde_json::json;

use crate::support::{GATEWAY, Gateway, adopting, eventually, fixture, http, output, write_config};

/// A user that owns nothing here.
const OTHER: u32 = 65_534;
const TOKEN_VARIABLE: &str = "STELAE_MCP_TOKEN";
const CLIENT_TOKEN: &str = "a-token-of-clients";

fn is_root(test: &str) -> bool {
    let root = getuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: only root can connect as another user");
    }
    root
}

fn as_user(uid: u32) -> [String; 4] {
    ["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]
}

/// Status and text of what `curl`, as this user, is answered.
async fn curl(uid: u32, args: &[&str]) -> (String, String) {
    let [program, rest @ ..] = as_user(uid);
    let mut command = tokio::process::Command::new(program);
    command.args(rest).args(["curl", "-sS", "-w", "\n%{http_code}", "--noproxy", "*", "--max-time", "60"]);
    let (code, stdout, stderr) = output(command.args(args)).await;
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    let (text, status) = stdout.rsplit_once('\n').unwrap();
    (status.to_owned(), text.trim_end().to_owned())
}

#[tokio::test]
async fn another_user_is_refused_on_every_route_and_both_sides_say_so() {
    if !is_root("another_user_is_refused_on_every_route_and_both_sides_say_so") {
        return;
    }
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    for path in ["/healthz", "/readyz", "/mcp", "/-/reload", "/nowhere"] {
        let bearer = format!("Authorization: Bearer {}", crate::support::TOKEN);
        for more in [&[][..], &["-X", "POST", "-d", "{}"], &["-X", "POST", "-H", &bearer]] {
            let url = gateway.url(path);
            let (status, text) = curl(OTHER, &[more, &[&url]].concat()).await;
            assert_eq!(status, "403", "{path} {more:?}: {text}");
            assert!(
                text.starts_with("this connection is of uid 65534: ") && text.lines().count() == 1,
                "{text}"
            );
            assert!(text.contains("uid 0 and root") && text.contains(TOKEN_VARIABLE), "{text}");
        }
    }
    let refused = |log: &str| log.contains("[gateway] refused a connection of uid 65534, pid ");
    eventually("it says whose it was", async || refused(&gateway.log()).then_some(())).await;
    assert!(gateway.log().contains("curl"), "and which process has it");
    eventually("the others are counted", async || {
        let log = gateway.log();
        let counted = |line: &str| {
            let count =
                line.strip_prefix("[gateway] ")?.strip_suffix(" more: refused connections of other users")?;
            count.parse::<usize>().ok()
        };
        let told = log.lines().filter(|line| line.contains("refused a connection of")).count();
        (told + log.lines().filter_map(counted).sum::<usize>() == 15).then_some(())
    })
    .await;
    assert_eq!(gateway.readiness().await.0, 200, "its own user gets in");
}

/// The kernel says of a closed socket that it is root's, and root may connect.
#[tokio::test]
async fn another_user_that_closes_at_once_has_nothing_done() {
    if !is_root("another_user_that_closes_at_once_has_nothing_done") {
        return;
    }
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let script = r#"
trap '' PIPE
for number in {1..200}; do
    exec 3<>"/dev/tcp/127.0.0.1/$0"
    printf 'POST /-/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n' "$1" >&3 2>/dev/null || true
    exec 3>&-
done
"#;
    gateway.configure(&json!({"b": fixture("b", &["two"])}));
    let [program, rest @ ..] = as_user(OTHER);
    let mut command = tokio::process::Command::new(program);
    let port = gateway.address.port().to_string();
    let (code, _, stderr) =
        output(command.args(rest).args(["bash", "-ec", script, &port, crate::support::TOKEN])).await;
    assert_eq!(code, Some(0), "{stderr}");
    // What is accepted in order has been looked at, once a later connection is answered.
    let readiness = gateway.readiness().await.1;
    assert!(!format!("{readiness:?}").contains("\"b\""), "nothing was reloaded: {readiness:?}");
    assert!(!gateway.log().contains("server \"b\""), "nothing was reloaded");
    assert_eq!(gateway.reload().await.0, 200, "by its own user it is");
}

#[tokio::test]
async fn with_a_token_another_user_gets_in_who_shows_it_on_every_route() {
    if !is_root("with_a_token_another_user_gets_in_who_shows_it_on_every_route") {
        return;
    }
    let variables = [(TOKEN_VARIABLE, CLIENT_TOKEN)];
    let gateway = Gateway::start_with(json!({"a": fixture("a", &["one"])}), &variables).await.ready().await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let (right, control) = (bearer(CLIENT_TOKEN), bearer(crate::support::TOKEN));
    for path in ["/healthz", "/readyz", "/mcp", "/-/reload"] {
        let url = gateway.url(path);
        for args in [&[url.as_str()][..], &["-X", "POST", &url], &["-X", "POST", "-H", &control, &url]] {
            let (status, text) = curl(OTHER, args).await;
            assert_eq!(status, "401", "{args:?}: {text}");
            assert!(
                text.starts_with("this connection is of uid 65534: ") && text.lines().count() == 1,
                "{text}"
            );
        }
    }
    for (path, status) in [("/healthz", "200"), ("/readyz", "200")] {
        assert_eq!(curl(OTHER, &["-H", &right, &gateway.url(path)]).await.0, status, "{path}");
    }
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#;
    let types = ["-H", "content-type: application/json", "-H", "accept: application/json, text/event-stream"];
    let url = gateway.url("/mcp");
    let (status, text) = curl(OTHER, &[&types[..], &["-H", &right, "-d", initialize, &url]].concat()).await;
    assert!(status == "200" && text.contains("serverInfo"), "{status} {text}");
    // A reload is not for clients, and the one header has room for one token.
    assert_eq!(curl(OTHER, &["-X", "POST", "-H", &right, &gateway.url("/-/reload")]).await.0, "401");
    assert_eq!(
        http().get(gateway.url("/readyz")).send().await.unwrap().status().as_u16(),
        200,
        "its own user"
    );
}

#[tokio::test]
async fn a_gateway_of_another_user_lets_in_that_user_and_root() {
    if !is_root("a_gateway_of_another_user_lets_in_that_user_and_root") {
        return;
    }
    let (own, third) = (64_001, 64_002);
    let script =
        format!(r#"exec setpriv --reuid={own} --regid={own} --clear-groups "$0" "$@" 3<&0 </dev/null"#);
    for script in [script.clone(), script.replace("\"$0\"", "unshare --user --map-current-user \"$0\"")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let adopt = |listener: TcpListener| {
            let mut command = Command::new("sh");
            command.args(["-c", &script, GATEWAY]).stdin(OwnedFd::from(listener)).env_clear();
            command
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let gateway = Gateway::adopt_by(adopt, folder, listener, json!({}), &[], &[]).await;
        let url = gateway.url("/healthz");
        assert_eq!(curl(own, &[&url]).await.0, "200", "{script}");
        assert_eq!(curl(third, &[&url]).await.0, "403", "{script}");
        // In a user namespace root is not told from others who are not mapped.
        let expected = if script.contains("unshare") { "403" } else { "200" };
        assert_eq!(curl(0, &[&url]).await.0, expected, "{script}");
    }
}

#[tokio::test]
async fn where_the_kernel_cannot_tell_a_token_is_needed() {
    if !is_root("where_the_kernel_cannot_tell_a_token_is_needed") {
        return;
    }
    // The socket is of another network namespace, as one that a container is given is.
    let script = r#"exec unshare --net "$0" "$@" 3<&0 </dev/null"#;
    let adopt = |listener: TcpListener| {
        let mut command = Command::new("sh");
        command.args(["-c", script, GATEWAY]).stdin(OwnedFd::from(listener)).env_clear();
        command
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &address.to_string(), &json!({}));
    let mut command = adopt(listener);
    command.arg("serve").arg("--config").arg(folder.path().join("proxy.json"));
    command.env("LISTEN_FDS", "1").env("PATH", std::env::var_os("PATH").unwrap());
    let mut command = tokio::process::Command::from(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = command.spawn().unwrap().wait_with_output();
    let ended = tokio::time::timeout(crate::support::PATIENCE, ended).await.expect("an end").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(20), "{said}");
    assert!(said.contains("whose connections come in") && said.contains(TOKEN_VARIABLE), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let variables = [(TOKEN_VARIABLE, CLIENT_TOKEN)];
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::adopt_by(adopt, folder, listener, json!({}), &variables, &[]).await;
    let url = gateway.url("/healthz");
    let with = http().get(&url).bearer_auth(CLIENT_TOKEN).send().await.unwrap();
    let without = http().get(&url).send().await.unwrap();
    assert_eq!((with.status().as_u16(), without.status().as_u16()), (200, 401));
    assert!(without.text().await.unwrap().starts_with("this connection is of an unknown user"));
}

#[tokio::test]
async fn the_scripted_model_serves_its_own_user_only() {
    if !is_root("the_scripted_model_serves_its_own_user_only") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.json");
    std::fs::write(&script, r#"{"server":"s","calls":[],"message":"done"}"#).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = adopting(listener);
    command.args(["model", "--listen", &address.to_string()]).arg("--script").arg(&script);
    command.arg("--record").arg(folder.path().join("record")).env("LISTEN_FDS", "1");
    command.stderr(Stdio::null());
    let mut model = command.spawn().unwrap();
    let url = format!("http://{address}/__stub/state");
    let own = eventually("the model answers", async || http().get(&url).send().await.ok()).await;
    let (status, text) = curl(OTHER, &[&url]).await;
    model.kill().unwrap();
    model.wait().unwrap();
    assert_eq!((own.status().as_u16(), status.as_str()), (200, "403"), "{text}");
    assert!(text.starts_with("this connection is of uid 65534: "), "{text}");
}
