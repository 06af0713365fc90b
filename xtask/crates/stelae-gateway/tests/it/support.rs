//! A gateway in a temporary folder, a client for it, and waiting for states.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, JsonObject,
};
use rmcp::service::{NotificationContext, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_model::proxy::Readiness;
use stelae_run::ports::Placeholder;
use tempfile::TempDir;
use tokio::sync::watch;

/// Only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test.
pub(crate) const GATEWAY: &str = env!("CARGO_BIN_EXE_stelae-gateway");
/// The server that misbehaves.
pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_mcp-fixture");
/// The server that has everything.
pub(crate) const EVERYTHING: &str = env!("CARGO_BIN_EXE_mcp-everything");

/// The token that every gateway here is started with.
pub(crate) const TOKEN: &str = "a token for tests";

/// A port of loopback at which nobody answers, for as long as it is held.
pub(crate) fn held_port() -> Placeholder {
    Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap()
}

/// An entry of proxy.json: a fixture server of this label, with these tools and flags.
pub(crate) fn fixture(label: &str, tools: &[&str]) -> Value {
    let args: Vec<&str> = [label].into_iter().chain(tools.iter().copied()).collect();
    json!({"command": FIXTURE, "args": args})
}

/// `entry` with more keys.
pub(crate) fn with(mut entry: Value, more: Value) -> Value {
    let (Value::Object(entry_map), Value::Object(more)) = (&mut entry, more) else { panic!("objects") };
    entry_map.extend(more);
    entry
}

/// A running gateway. It is killed with the test, and its servers end with its pipes.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
    addr_in_config: String,
}

impl Gateway {
    /// Starts one on a port that is free.
    pub(crate) async fn start(servers: Value) -> Self {
        Self::start_with(servers, &[]).await
    }

    /// Starts one with more variables in its environment.
    pub(crate) async fn start_with(servers: Value, variables: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::adopt_in(tempfile::tempdir().unwrap(), listener, servers, variables).await
    }

    /// Starts one that gets its socket from us.
    pub(crate) async fn adopt(listener: TcpListener, servers: Value) -> Self {
        Self::adopt_in(tempfile::tempdir().unwrap(), listener, servers, &[]).await
    }

    /// The same in a folder that has been furnished, and with more variables.
    pub(crate) async fn adopt_in(
        folder: TempDir,
        listener: TcpListener,
        servers: Value,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::adopt_arguing(folder, listener, servers, variables, &[]).await
    }

    /// Starts one on a port that is free, with more arguments.
    pub(crate) async fn start_arguing(servers: Value, args: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::adopt_arguing(tempfile::tempdir().unwrap(), listener, servers, &[], args).await
    }

    async fn adopt_arguing(
        folder: TempDir,
        listener: TcpListener,
        servers: Value,
        variables: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        Self::adopt_by(adopting, folder, listener, servers, variables, args).await
    }

    /// Starts one that gets its socket from us in this way.
    pub(crate) async fn adopt_with(
        adopt: impl FnOnce(TcpListener) -> Command,
        listener: TcpListener,
        servers: Value,
    ) -> Self {
        Self::adopt_by(adopt, tempfile::tempdir().unwrap(), listener, servers, &[], &[]).await
    }

    /// The same with all of it told.
    pub(crate) async fn adopt_by(
        adopt: impl FnOnce(TcpListener) -> Command,
        folder: TempDir,
        listener: TcpListener,
        servers: Value,
        variables: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let addr = listener.local_addr().unwrap().to_string();
        write_config(folder.path(), &addr, &servers);
        let mut command = adopt(listener);
        command.arg("serve").arg("--config").arg(folder.path().join("proxy.json")).env("LISTEN_FDS", "1");
        command.args(args);
        Self::run(command, folder, addr, variables).await
    }

    async fn run(mut command: Command, folder: TempDir, addr: String, variables: &[(&str, &str)]) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("STELAE_CONTROL_TOKEN", TOKEN);
        command.envs(variables.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let mut gateway = Self { child, address, folder, addr_in_config: addr };
        let line = eventually("the gateway listens", async || {
            let log = gateway.log();
            log.lines().find_map(|line| line.strip_prefix("[gateway] listening on ")).map(str::to_owned)
        });
        gateway.address = line.await.parse().unwrap();
        gateway
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has said this line.
    pub(crate) async fn said(&self, line: &str) {
        eventually(&format!("it says {line:?}"), async || {
            self.log().lines().any(|said| said == line).then_some(())
        })
        .await;
    }

    /// Writes another configuration, without telling it.
    pub(crate) fn configure(&self, servers: &Value) {
        write_config(self.folder.path(), &self.addr_in_config, servers);
    }

    /// `http://address` and `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `/readyz`, with its status.
    pub(crate) async fn readiness(&self) -> (u16, Readiness) {
        let answer = http().get(self.url("/readyz")).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    /// Waits until `/readyz` is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
        eventually(what, async || Some(self.readiness().await.1).filter(|readiness| wanted(readiness))).await
    }

    /// Waits until every required server is ready.
    pub(crate) async fn ready(self) -> Self {
        self.until("all required servers are ready", |readiness| readiness.ready).await;
        self
    }

    /// Asks it to reload.
    pub(crate) async fn reload(&self) -> (u16, String) {
        let answer = http().post(self.url("/-/reload")).bearer_auth(TOKEN).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A new client.
    pub(crate) async fn client(&self) -> Client {
        let changes = Arc::new(watch::Sender::new(0));
        let ear = Ear { changes: Arc::clone(&changes) };
        let transport = StreamableHttpClientTransport::with_client(
            http(),
            rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig::with_uri(
                self.url("/mcp"),
            ),
        );
        Client { session: ear.serve(transport).await.unwrap(), changes: changes.subscribe() }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has exited.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the gateway exits", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A command whose descriptor 3 is the socket: passed as stdin, which the shell moves, so that no other child inherits it.
pub(crate) fn adopting(listener: TcpListener) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 3<&0 </dev/null"#, GATEWAY]).stdin(OwnedFd::from(listener));
    command.env_clear();
    command
}

pub(crate) fn write_config(folder: &Path, addr: &str, servers: &Value) {
    let proxy = json!({"name": "tests", "addr": addr, "baseURL": format!("http://{addr}")});
    let config = json!({"mcpProxy": proxy, "mcpServers": servers});
    fs::write(folder.join("proxy.json"), config.to_string()).unwrap();
}

/// A client of a gateway.
pub(crate) struct Client {
    pub(crate) session: RunningService<RoleClient, Ear>,
    changes: watch::Receiver<u64>,
}

/// Counts `list_changed`.
pub(crate) struct Ear {
    changes: Arc<watch::Sender<u64>>,
}

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("tests", "0"))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Client {
    /// The names of the tools, in order.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let tools = self.session.list_all_tools().await.unwrap();
        tools.into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    /// Waits for the tool list to be this.
    pub(crate) async fn until_tools(&self, wanted: &[&str]) {
        eventually(&format!("the tools are {wanted:?}"), async || {
            (self.tools().await == wanted).then_some(())
        })
        .await;
    }

    /// Calls a tool.
    pub(crate) async fn try_call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> Result<CallToolResult, ServiceError> {
        let arguments: JsonObject = serde_json::from_value(arguments).unwrap();
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        tokio::time::timeout(PATIENCE, self.session.call_tool(params)).await.expect("an answer")
    }

    /// Calls a tool that must answer, and gives the text.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> String {
        let result = self.try_call(tool, arguments).await.unwrap();
        result
            .content
            .iter()
            .filter_map(|block| Some(block.as_text()?.text.clone()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The message of the JSON-RPC error that a call must end with.
    pub(crate) async fn refused(&self, tool: &str) -> String {
        match self.try_call(tool, json!({})).await {
            Err(ServiceError::McpError(error)) => error.message.into_owned(),
            other => panic!("not a JSON-RPC error: {other:?}"),
        }
    }

    /// The process behind a server's `pid` tool.
    pub(crate) async fn pid(&self, tool: &str) -> i32 {
        self.call(tool, json!({})).await.parse().unwrap()
    }

    /// How many `list_changed` came so far.
    pub(crate) fn changes(&mut self) -> u64 {
        *self.changes.borrow_and_update()
    }

    /// Waits for more `list_changed` than `seen`.
    pub(crate) async fn changed_since(&mut self, seen: u64) {
        let more = self.changes.wait_for(|count| *count > seen);
        tokio::time::timeout(PATIENCE, more).await.expect("list_changed").unwrap();
    }
}

/// An HTTP client that no proxy variable captures.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process is there, and not a zombie that its new parent has not reaped.
pub(crate) fn alive(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state stands after the command, which may hold anything but ends with the last parenthesis.
        Ok(stat) => !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']),
        Err(_) => false,
    }
}

/// Waits until a process is gone.
pub(crate) async fn gone(pid: i32) {
    eventually(&format!("process {pid} is gone"), async || (!alive(pid)).then_some(())).await;
}

/// Kills a process that a test knows to be its own.
pub(crate) fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// A workspace with these files.
pub(crate) fn workspace(files: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    (folder, root)
}

/// What a command wrote, and how it ended; killed when it does not.
pub(crate) async fn output(command: &mut tokio::process::Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("an end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Variables as a fixture's `env` tool tells them.
pub(crate) fn variables(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str::<Vec<(String, String)>>(text).unwrap().into_iter().collect()
}
