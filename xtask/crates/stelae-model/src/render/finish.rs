//! The last step: what was composed must be a `proxy.json`, and becomes its bytes.

use serde_path_to_error::{Path, Segment};

use super::{Node, Tree};
use crate::Failure;
use crate::proxy::ProxyConfig;

/// A rendered `proxy.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The file's whole text: two spaces of indentation, the template's order of keys, a line break at the end.
    pub text: String,
    /// The same, typed.
    pub config: ProxyConfig,
}

/// Checks a resolved tree against the type of `proxy.json`, and prints it.
///
/// # Errors
/// `bad-proxy-config`, with the path inside the result and the place that gave the bad part.
pub fn finish(root: &Node<'_>) -> Result<Finished, Failure> {
    let value = root.to_value();
    let config: ProxyConfig = serde_path_to_error::deserialize(&value).map_err(|error| {
        let (node, path) = (nearest_node(root, error.path()), error.path().to_string());
        bad(node, if path == "." { "the top level" } else { &path }, error.inner().to_string())
    })?;
    // The incident was a port in this string that nobody had checked.
    config.mcp_proxy.address().map_err(|cause| {
        let node = root.get("mcpProxy").and_then(|proxy| proxy.get("addr")).unwrap_or(root);
        bad(node, "mcpProxy.addr", cause)
    })?;
    config.check().map_err(|cause| bad(blamed_server(root, &config), "mcpServers", cause))?;
    let text = serde_json::to_string_pretty(&value)
        .map_err(|error| Failure::unexpected("a JSON value cannot be printed").because(error.to_string()))?;
    Ok(Finished { text: text + "\n", config })
}

fn bad(node: &Node<'_>, path: &str, cause: impl Into<String>) -> Failure {
    node.source
        .fault("bad-proxy-config", node.span.start, format!("the result is no proxy.json: {path} is wrong"))
        .because(cause)
}

/// The node at a path, or the last one on the way there.
fn nearest_node<'n, 's>(root: &'n Node<'s>, path: &Path) -> &'n Node<'s> {
    let step = |node: &'n Node<'s>, segment: &Segment| match (segment, &node.tree) {
        (Segment::Map { key }, _) => node.get(key),
        (Segment::Seq { index }, Tree::Array(items)) => items.get(*index),
        _ => None,
    };
    path.iter().try_fold(root, |node, segment| step(node, segment).ok_or(node)).unwrap_or_else(|last| last)
}

/// `ProxyConfig::check` names a server in its text only; the one to blame is the one that fails on its own.
fn blamed_server<'n, 's>(root: &'n Node<'s>, config: &ProxyConfig) -> &'n Node<'s> {
    let alone = |(name, entry): (&String, &crate::proxy::ServerEntry)| ProxyConfig {
        mcp_proxy: config.mcp_proxy.clone(),
        mcp_servers: [(name.clone(), entry.clone())].into(),
    };
    let guilty = config.mcp_servers.iter().find(|&server| alone(server).check().is_err());
    guilty.and_then(|(name, _)| root.get("mcpServers")?.get(name)).unwrap_or(root)
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse_json};
    use super::*;

    fn finished(text: &str) -> Result<Finished, Failure> {
        let source = Source::new("t.json", text);
        finish(&parse_json(&source)?)
    }

    fn with(servers: &str) -> String {
        let proxy = r#"{"name": "s", "addr": "127.0.0.1:9090", "baseURL": "http://127.0.0.1:9090"}"#;
        format!("{{\"mcpProxy\": {proxy},\n\"mcpServers\": {servers}}}")
    }

    #[test]
    fn bytes_are_deterministic_and_keep_the_order() {
        let text = with(r#"{"b": {"env": {"Z": "1", "A": "2"}, "command": "x"}, "a": {"command": "y"}}"#);
        let finished = finished(&text).unwrap();
        let expected = r#"{
  "mcpProxy": {
    "name": "s",
    "addr": "127.0.0.1:9090",
    "baseURL": "http://127.0.0.1:9090"
  },
  "mcpServers": {
    "b": {
      "env": {
        "Z": "1",
        "A": "2"
      },
      "command": "x"
    },
    "a": {
      "command": "y"
    }
  }
}
"#;
        assert_eq!(finished.text, expected);
        assert_eq!(finished.config.mcp_servers.len(), 2);
    }

    #[test]
    fn what_is_no_proxy_json_is_named_with_path_and_place() {
        for (servers, text) in [
            (
                r#"{"a": {"command": 7}}"#,
                "2:33\n  why: invalid type: integer `7`, expected a string|mcpServers.a.command",
            ),
            (
                r#"{"a": {"args": ["x", 7]}}"#,
                "2:36\n  why: invalid type: integer `7`, expected a string|mcpServers.a.args[1]",
            ),
            (r#"{"a": {"colour": 7}}"#, "2:32\n  why: unknown field `colour`, expected|mcpServers.a.colour"),
            (r#"{"a": {}}"#, "2:21\n  why: server \"a\" has neither `command` nor `url`|mcpServers"),
            (
                r#"{"ok": {"command": "x"}, "b d": {"command": "x"}}"#,
                "2:47\n  why: server name \"b d\" is not|mcpServers",
            ),
            (
                r#"{"a": {"url": "https://x"}}"#,
                "2:21\n  why: server \"a\": url \"https://x\" is not plain http|mcpServers",
            ),
        ] {
            let (rest, path) = text.split_once('|').unwrap();
            let failure = finished(&with(servers)).unwrap_err().to_string();
            let start = format!("the result is no proxy.json: {path} is wrong\n   on: t.json:{rest}");
            assert!(failure.starts_with(&start), "{failure}\n---\n{start}");
        }
        let failure = finished("{\n}").unwrap_err().to_string();
        assert_eq!(
            failure,
            "the result is no proxy.json: the top level is wrong\n   on: t.json:1:1\n  why: missing field `mcpProxy`"
        );
    }

    #[test]
    fn addresses_are_loopback_and_ports_are_ports() {
        for (addr, cause) in [
            ("127.0.0.1:0", "the port in \"127.0.0.1:0\" is not a port: 1 to 65535"),
            ("[::1]:70000", "the port in \"[::1]:70000\" is not a port: 1 to 65535"),
            (":<<PORT>>", "the port in \":<<PORT>>\" is not a port: 1 to 65535"),
            ("localhost", "\"localhost\" has no port"),
            (
                "0.0.0.0:9090",
                "\"0.0.0.0:9090\" is not a loopback address: this stack listens on loopback only",
            ),
        ] {
            let text = with("{}").replace("127.0.0.1:9090\", \"base", &format!("{addr}\", \"base"));
            assert_eq!(
                finished(&text).unwrap_err().to_string(),
                format!(
                    "the result is no proxy.json: mcpProxy.addr is wrong\n   on: t.json:1:36\n  why: {cause}"
                )
            );
        }
    }
}
