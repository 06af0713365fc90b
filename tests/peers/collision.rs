//! Real servers of three registries at once behind the gateway, seen by a client that is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::client::{Seen, ask};
use crate::gateway::Gateway;
use crate::handed::{Handed, need};

/// The two that are both servers of files, each with a folder of its own, and the two that are alone with their names.
fn servers(handed: &Handed, folder: &Utf8Path) -> Value {
    for name in ["npm", "cargo"] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("whose"), format!("the one from {name}")).unwrap();
    }
    json!({
        "npm": {"command": handed.path("server-filesystem"), "args": [folder.join("npm")]},
        "cargo": {"command": handed.path("rust-mcp-filesystem"), "args": [folder.join("cargo")]},
        // Otherwise it keeps what it is told in its own installation.
        "memory": {"command": handed.path("server-memory"), "env": {"MEMORY_FILE_PATH": folder.join("memory")}},
        "time": {"command": handed.path("mcp-server-time"), "args": ["--local-timezone", "UTC"]},
    })
}

/// The list that the gateway has to have: a name that two servers have is `server__tool` on both sides, every other one is
/// what it was. And how many names two servers have.
fn wanted(alone: &BTreeMap<String, Vec<String>>) -> (BTreeSet<String>, usize) {
    let of = |name: &String| alone.values().filter(|tools| tools.contains(name)).count();
    let mut wanted = BTreeSet::new();
    let mut shared = BTreeSet::new();
    for (server, tools) in alone {
        for tool in tools {
            let is_shared = of(tool) > 1;
            wanted.insert(if is_shared { format!("{server}__{tool}") } else { tool.clone() });
            shared.extend(is_shared.then_some(tool));
        }
    }
    (wanted, shared.len())
}

#[test]
fn servers_of_three_registries_are_one_list_and_each_gets_its_calls() {
    let tools = ["mcp", "server-filesystem", "server-memory", "mcp-server-time", "rust-mcp-filesystem"];
    let Some(handed) = need("three-registries", &tools) else { return };
    let folder = stelae_tests::private_folder();
    let folder = Utf8Path::from_path(folder.path()).unwrap().canonicalize_utf8().unwrap();
    let servers = servers(&handed, &folder);
    let gateway = Gateway::start(&servers);
    let read = |server: &str, whose: &str| json!([format!("{server}__read_text_file"), {"path": folder.join(whose).join("whose")}]);
    let entity = json!({"name": "stelae", "entityType": "stack", "observations": ["it is up"]});
    let calls = json!([
        read("npm", "npm"),
        read("cargo", "cargo"),
        // Each may look into its own folder only, so whoever answers these is not whom they were for.
        read("npm", "cargo"),
        read("cargo", "npm"),
        ["create_entities", {"entities": [entity]}],
        ["read_graph", {}],
        ["get_current_time", {"timezone": "UTC"}],
    ]);
    let Seen { alone, server, tools, answers } =
        ask(&handed, &json!({"alone": servers, "url": gateway.endpoint(), "calls": calls}));

    assert_eq!(server, "peers");
    let (wanted, shared) = wanted(&alone);
    assert_eq!(alone.len(), 4);
    assert_eq!(shared, 12, "{alone:?}");
    assert_eq!(tools.len(), wanted.len(), "a name is listed twice: {tools:?}");
    assert_eq!(tools.into_iter().collect::<BTreeSet<_>>(), wanted);

    let right = |at: usize, text: &str| {
        assert!(!answers[at].is_error && answers[at].text.contains(text), "{at}: {:?}", answers[at]);
    };
    right(0, "the one from npm");
    right(1, "the one from cargo");
    for refused in &answers[2..4] {
        assert!(refused.is_error && !refused.text.contains("the one from"), "{refused:?}");
    }
    assert!(!answers[4].is_error, "{:?}", answers[4]);
    right(5, "it is up");
    right(6, "UTC");
    assert!(fs::read_to_string(folder.join("memory")).unwrap().contains("it is up"));
    gateway.stop();
}

#[test]
fn only_names_that_two_servers_have_get_a_prefix() {
    let alone = [("a", vec!["x", "y"]), ("b", vec!["y", "z"])];
    let alone = alone.map(|(name, tools)| (name.to_owned(), tools.into_iter().map(str::to_owned).collect()));
    let (wanted, shared) = wanted(&alone.into());
    assert_eq!((wanted.into_iter().collect::<Vec<_>>().join(" "), shared), ("a__y b__y x z".to_owned(), 1));
}
