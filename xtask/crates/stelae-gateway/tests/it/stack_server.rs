//! The stack's own server: what it reads, what it finds, and what it refuses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{GATEWAY, PATIENCE, output, workspace};

struct Server {
    session: RunningService<RoleClient, ()>,
    _child: tokio::process::Child,
}

impl Server {
    async fn start(root: &Path) -> Self {
        let mut command = Command::new(GATEWAY);
        command.arg("server").env_clear().env("STELAE_WORKSPACE_ROOT", root).kill_on_drop(true);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        Self { session: ().serve(pipes).await.unwrap(), _child: child }
    }

    async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let arguments = serde_json::from_value(arguments).unwrap();
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        tokio::time::timeout(PATIENCE, self.session.call_tool(params)).await.expect("an answer").unwrap()
    }

    /// The text of a call that works.
    async fn ok(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{result:?}");
        text(&result)
    }

    /// The sentence of a call that does not.
    async fn fault(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{result:?}");
        text(&result)
    }

    async fn read(&self, path: &str) -> String {
        self.ok("workspace_fs_read", json!({"operation": "read_file", "path": path})).await
    }

    async fn unreadable(&self, path: &str) -> String {
        self.fault("workspace_fs_read", json!({"operation": "read_file", "path": path})).await
    }
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect()
}

#[tokio::test]
async fn tools_are_described_with_hints_and_closed_schemas() {
    let (_folder, root) = workspace(&[]);
    let server = Server::start(&root).await;
    let tools = server.session.list_all_tools().await.unwrap();
    let hints: Vec<_> = tools
        .iter()
        .map(|tool| {
            let hints = tool.annotations.clone().unwrap();
            (
                tool.name.as_ref(),
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            )
        })
        .collect();
    let (yes, no) = (Some(true), Some(false));
    let expected = [
        ("workspace_fs_read", yes, no, yes, no),
        ("grep", yes, no, yes, no),
        ("manage_stelae", no, yes, yes, no),
    ];
    assert_eq!(hints, expected);
    assert!(tools.iter().all(|tool| tool.input_schema["additionalProperties"] == false));
}

#[tokio::test]
async fn files_and_folders_are_read() {
    let (_folder, root) = workspace(&[("a/b.txt", b"one\ntwo\nthree\n"), ("z", b""), ("a/c/d", b"")]);
    symlink("a/b.txt", root.join("link")).unwrap();
    let server = Server::start(&root).await;
    assert_eq!(server.read("a/b.txt").await, "one\ntwo\nthree\n");
    assert_eq!(server.read("a/../a/./b.txt").await, "one\ntwo\nthree\n");
    assert_eq!(server.read("link").await, "one\ntwo\nthree\n", "a link that stays inside");
    let part = json!({"operation": "read_file", "path": "a/b.txt", "offset": 1, "limit": 1});
    assert_eq!(server.ok("workspace_fs_read", part).await, "two\n");
    let list = json!({"operation": "list_directory", "path": "."});
    assert_eq!(server.ok("workspace_fs_read", list).await, "a/\nlink@\nz");
    let list = json!({"operation": "list_directory", "path": "a"});
    assert_eq!(server.ok("workspace_fs_read", list).await, "b.txt\nc/");
}

#[tokio::test]
async fn no_path_leads_out() {
    let (folder, root) = workspace(&[("in/side", b"")]);
    fs::write(folder.path().join("secret"), "secret needle").unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink(folder.path().join("secret"), root.join("absolute")).unwrap();
    symlink(folder.path(), root.join("in/folder")).unwrap();
    let server = Server::start(&root).await;
    let absolute = folder.path().join("secret").display().to_string();
    let proc = "/proc/self/environ";
    for path in
        ["../secret", "in/../../secret", &absolute, proc, "relative", "absolute", "in/folder/secret", ".."]
    {
        let why = server.unreadable(path).await;
        assert!(why.contains("leads out of the workspace"), "{path}: {why}");
        let list = json!({"operation": "list_directory", "path": path});
        let why = server.fault("workspace_fs_read", list).await;
        assert!(why.contains("leads out of the workspace"), "{path}: {why}");
        let why = server.fault("grep", json!({"pattern": "needle", "path": path})).await;
        assert!(why.contains("leads out of the workspace"), "{path}: {why}");
    }
    assert_eq!(server.ok("grep", json!({"pattern": "needle"})).await, "no matches");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_sentence() {
    let big = "x".repeat(300 * 1024);
    let (_folder, root) =
        workspace(&[("binary", b"a\0b"), ("latin", b"caf\xe9"), ("big", big.as_bytes()), ("f/g", b"")]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let server = Server::start(&root).await;
    assert_eq!(server.unreadable("binary").await, "\"binary\" is not a text file (3 bytes)");
    assert_eq!(server.unreadable("latin").await, "\"latin\" is not a text file (4 bytes)");
    assert!(server.unreadable("big").await.contains("ask for a part with `offset` and `limit`"));
    assert!(server.unreadable("f").await.contains("is a folder"));
    assert_eq!(server.unreadable("fifo").await, "\"fifo\" is neither a file nor a folder");
    assert_eq!(server.unreadable("none").await, "\"none\" is not in the workspace");
    let list = json!({"operation": "list_directory", "path": "big"});
    assert!(server.fault("workspace_fs_read", list).await.contains("is not a folder"));
}

#[tokio::test]
async fn grep_finds_in_order_and_respects_gitignore() {
    let files: &[(&str, &[u8])] = &[
        (".gitignore", b"ignored\n"),
        (".hidden", b"needle"),
        ("b.rs", b"x\nneedle two\nNeedle\n"),
        ("a/c.rs", b"needle one\n"),
        ("a/d.txt", b"needle text\n"),
        ("ignored/e.rs", b"needle\n"),
        ("a/.gitignore", b"f.rs\n"),
        ("a/f.rs", b"needle\n"),
        ("bin", b"needle\0"),
    ];
    let (_folder, root) = workspace(files);
    let server = Server::start(&root).await;
    let grep = async |more: Value| {
        let mut arguments = json!({"pattern": "^needle"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.ok("grep", arguments).await
    };
    assert_eq!(grep(json!({})).await, "a/c.rs:1: needle one\na/d.txt:1: needle text\nb.rs:2: needle two");
    assert_eq!(grep(json!({"glob": "*.rs"})).await, "a/c.rs:1: needle one\nb.rs:2: needle two");
    assert_eq!(grep(json!({"path": "a", "glob": "*.rs"})).await, "a/c.rs:1: needle one");
    assert_eq!(
        grep(json!({"path": "b.rs", "case_insensitive": true})).await,
        "b.rs:2: needle two\nb.rs:3: Needle"
    );
    let some = grep(json!({"max_results": 1})).await;
    assert_eq!(
        some,
        "a/c.rs:1: needle one\n… and more: narrow the search, or ask for more with `max_results`"
    );
    assert!(server.fault("grep", json!({"pattern": "("})).await.starts_with("the pattern is wrong"));
    assert_eq!(
        server.fault("grep", json!({"patern": "x"})).await,
        "unknown argument \"patern\": did you mean \"pattern\"?"
    );
}

#[tokio::test]
async fn unknown_operations_and_parameters_are_faults_with_a_suggestion() {
    let (_folder, root) = workspace(&[]);
    let server = Server::start(&root).await;
    let wrong = json!({"operation": "read_fil", "path": "x"});
    assert_eq!(
        server.fault("workspace_fs_read", wrong).await,
        "unknown operation \"read_fil\": did you mean \"read_file\"?"
    );
    let manage = async |arguments: Value| server.fault("manage_stelae", arguments).await;
    assert_eq!(
        manage(json!({"operation": "instal_server"})).await,
        "unknown operation \"instal_server\": did you mean \"install_server\"?"
    );
    assert_eq!(
        manage(json!({"operation": "install_server", "params": {"nme": "x"}})).await,
        "install_server: unknown argument \"nme\": did you mean \"name\"?"
    );
    assert_eq!(manage(json!({"operation": "install_server"})).await, "install_server: `name` is missing");
    assert_eq!(
        manage(json!({"operation": "install_server", "params": {"name": "../x"}})).await,
        "install_server: server name \"../x\" is not [A-Za-z0-9_-]{1,64}: '.' is none of these; \"x\" could be one"
    );
}

#[tokio::test]
async fn without_a_workspace_it_does_not_start() {
    let (code, _, stderr) = output(Command::new(GATEWAY).arg("server").env_clear()).await;
    assert_eq!(code, Some(20), "{stderr}");
    let nowhere =
        Command::new(GATEWAY).arg("server").env("STELAE_WORKSPACE_ROOT", "/nonexistent").output().await;
    assert_eq!(nowhere.unwrap().status.code(), Some(40));
}
