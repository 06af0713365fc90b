//! `manage_stelae`, from a client through the gateway to the files and back.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Client, GATEWAY, Gateway};

const OWN_TOOLS: [&str; 3] = ["workspace_fs_read", "grep", "manage_stelae"];

/// A stack whose only server is its own, and which knows two more: one that works, and one whose program is missing.
async fn stack() -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let (root, state, workspace) = (home("root"), home("state"), home("workspace"));
    let config = folder.path().display().to_string();
    let bin = Path::new(GATEWAY).parent().unwrap().display().to_string();
    let own = json!({"command": "<<STELAE_BIN_DIR>>/stelae-gateway", "args": ["server"], "control": true});
    let template = json!({
        "mcpProxy": {"name": "tests", "addr": "<<PROXY_HOST>>:<<PROXY_PORT>>", "baseURL": "<<PUBLIC_BASE_URL>>"},
        "mcpServers": {"stelae": own},
    });
    let server = |name: &str, command: &str| {
        let description = "for tests";
        json!({"name": name, "description": description, "transport": "stdio", "command": command, "args": ["demo-server"]})
    };
    let servers =
        [server("wordcount", "<<STELAE_BIN_DIR>>/stelae-gateway"), server("broken", "/nonexistent")];
    home("root/config");
    let write = |name: &str, value: &Value| {
        fs::write(folder.path().join("root/config").join(name), value.to_string()).unwrap();
    };
    write("proxy.template.json", &template);
    write("discovery.json", &json!({"schema": 1, "servers": servers}));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let variables = [
        ("HOME", config.as_str()),
        ("STELAE_ROOT", &root),
        ("STELAE_CONFIG_HOME", &config),
        ("STELAE_STATE_HOME", &state),
        ("STELAE_BIN_DIR", &bin),
        ("STELAE_WORKSPACE_ROOT", &workspace),
        ("PROXY_HOST", "127.0.0.1"),
        ("PROXY_PORT", &port),
        ("PUBLIC_BASE_URL", &url),
    ];
    let rendered = json!({"stelae": {"command": GATEWAY, "args": ["server"], "control": true}});
    Gateway::adopt_in(folder, listener, rendered, &variables).await.ready().await
}

async fn manage(client: &Client, operation: &str, params: Value) -> Result<String, String> {
    let result =
        client.try_call("manage_stelae", json!({"operation": operation, "params": params})).await.unwrap();
    let text: String =
        result.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect();
    if result.is_error == Some(true) { Err(text) } else { Ok(text) }
}

#[tokio::test]
async fn a_discovered_server_is_installed_called_and_removed() {
    let gateway = stack().await;
    let mut client = gateway.client().await;
    assert_eq!(client.tools().await, OWN_TOOLS);
    let list = manage(&client, "list_discovered_servers", json!({})).await.unwrap();
    assert_eq!(list, "wordcount: for tests\nbroken: for tests");

    let install = json!({"name": "wordcount", "target_name": "wordcount_smoke"});
    let mut tried = install.clone();
    tried["dry_run"] = true.into();
    assert_eq!(manage(&client, "install_server", tried).await.unwrap(), "would add wordcount_smoke");
    assert_eq!(client.tools().await, OWN_TOOLS);

    let seen = client.changes();
    let installed = manage(&client, "install_server", install.clone()).await.unwrap();
    assert_eq!(installed, "wordcount_smoke: installed\nwordcount_smoke is ready, 1 tools");
    client.changed_since(seen).await;
    let mut tools = OWN_TOOLS.to_vec();
    tools.push("count_words");
    assert_eq!(client.tools().await, tools);
    assert!(client.call("count_words", json!({"text": "one two three"})).await.contains("\"words\":3"));

    let again = manage(&client, "install_server", install).await.unwrap();
    assert_eq!(again, "wordcount_smoke: up to date\nwordcount_smoke is ready, 1 tools");
    let removed = manage(&client, "remove_server", json!({"name": "wordcount_smoke"})).await.unwrap();
    assert_eq!(removed, "wordcount_smoke: removed");
    assert_eq!(client.tools().await, OWN_TOOLS);
    let servers = gateway.readiness().await.1.servers;
    assert_eq!(servers["stelae"].restarts, 0, "it was never restarted by what it did itself");
    assert_eq!(gateway.log().matches("server \"stelae\": ready").count(), 1);
}

#[tokio::test]
async fn an_installation_that_does_not_come_up_is_a_fault() {
    let gateway = stack().await;
    let client = gateway.client().await;
    let fault = manage(&client, "install_server", json!({"name": "broken"})).await.unwrap_err();
    assert!(
        fault.starts_with("broken was installed, but is not ready: cannot execute \"/nonexistent\""),
        "{fault}"
    );
    let removed = manage(&client, "remove_server", json!({"target_name": "broken"})).await.unwrap();
    assert_eq!(removed, "broken: removed");
}

#[tokio::test]
async fn what_the_library_refuses_is_a_fault_with_its_words() {
    let gateway = stack().await;
    let client = gateway.client().await;
    let unknown = manage(&client, "install_server", json!({"name": "wordcont"})).await.unwrap_err();
    assert!(unknown.contains("wordcont") && unknown.contains("wordcount"), "{unknown}");
    let absent = manage(&client, "remove_server", json!({"name": "wordcount"})).await.unwrap_err();
    assert!(absent.contains("server \"wordcount\" is not installed"), "{absent}");
    assert_eq!(client.tools().await, OWN_TOOLS);
}

#[tokio::test]
async fn a_server_that_a_person_edited_is_removed_only_by_force() {
    let gateway = stack().await;
    let client = gateway.client().await;
    manage(&client, "install_server", json!({"name": "wordcount"})).await.unwrap();
    let file = gateway.folder.path().join("bundles/discovered/servers/wordcount.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + "# mine\n").unwrap();
    let refused = manage(&client, "remove_server", json!({"name": "wordcount"})).await.unwrap_err();
    assert!(refused.contains("edited") && file.exists(), "{refused}");
    let forced = json!({"name": "wordcount", "force": true});
    assert_eq!(manage(&client, "remove_server", forced).await.unwrap(), "wordcount: removed");
    assert_eq!(client.tools().await, OWN_TOOLS);
    assert!(!file.exists());
}
