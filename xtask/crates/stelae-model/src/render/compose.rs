//! Adds the servers of installed bundles to a template.

use super::{Key, Node, Source, Tree};
use crate::Failure;

/// The entry of one installed server, as it goes under `mcpServers`.
#[derive(Clone, Debug)]
pub struct ServerNode<'s> {
    /// The bundle that it belongs to.
    pub bundle: String,
    /// Its name, unique in the whole stack.
    pub name: String,
    /// The entry, in the shape of `proxy.json`.
    pub entry: Node<'s>,
}

/// Puts servers under `mcpServers`, sorted by bundle and name, after those that the template has itself.
///
/// # Errors
/// `duplicate-server` if a name is there already: an overlay is the way to change a server, two bundles with the same
/// name are a mistake that nobody should have to find out by calling the wrong one. `bad-proxy-config` if the template
/// is not an object, or its `mcpServers` is not.
pub fn add_servers<'s>(template: Node<'s>, mut servers: Vec<ServerNode<'s>>) -> Result<Node<'s>, Failure> {
    let Node { tree, source, span } = template;
    let Tree::Object(mut root) = tree else {
        return Err(source.fault("bad-proxy-config", span.start, "a template must be a JSON object"));
    };
    servers.sort_by(|a, b| (&a.bundle, &a.name).cmp(&(&b.bundle, &b.name)));
    let key = |text: &str| Key { text: text.to_owned(), span: span.clone() };
    let index = root.iter().position(|(key, _)| key.text == "mcpServers").unwrap_or_else(|| {
        let empty = Node { tree: Tree::Object(Vec::new()), source, span: span.clone() };
        root.push((key("mcpServers"), empty));
        root.len() - 1
    });
    let section = &mut root[index].1;
    let at = section.span.start;
    let Tree::Object(members) = &mut section.tree else {
        return Err(source.fault("bad-proxy-config", at, "mcpServers is not a JSON object"));
    };
    for server in servers {
        if let Some((_, first)) = members.iter().find(|(known, _)| known.text == server.name) {
            return Err(duplicate(&server, first));
        }
        members.push((key(&server.name), server.entry));
    }
    Ok(Node { tree: Tree::Object(root), source, span })
}

fn duplicate(server: &ServerNode<'_>, first: &Node<'_>) -> Failure {
    let source: &Source = server.entry.source;
    source
        .fault(
            "duplicate-server",
            server.entry.span.start,
            format!("two servers are called {:?}", server.name),
        )
        .because(format!("the first one is in {}", first.place()))
        .hint(format!("cargo xtask bundle remove {} --server {}", server.bundle, server.name))
}

#[cfg(test)]
mod tests {
    use super::super::parse_json;
    use super::*;

    fn added(template: &str, servers: &[(&str, &str)]) -> Result<String, Failure> {
        let template = Source::new("t.json", template);
        let entry = Source::new("s.toml", "{}");
        let server = |&(bundle, name): &(&str, &str)| ServerNode {
            bundle: bundle.into(),
            name: name.into(),
            entry: parse_json(&entry).unwrap(),
        };
        let servers = servers.iter().map(server).collect();
        add_servers(parse_json(&template).unwrap(), servers).map(|node| node.to_value().to_string())
    }

    #[test]
    fn servers_come_after_the_templates_own_sorted_by_bundle_and_name() {
        assert_eq!(
            added(r#"{"mcpServers":{"x":{}},"z":1}"#, &[("b", "a"), ("a", "d"), ("a", "c")]).unwrap(),
            r#"{"mcpServers":{"x":{},"c":{},"d":{},"a":{}},"z":1}"#
        );
        assert_eq!(added("{}", &[("b", "a")]).unwrap(), r#"{"mcpServers":{"a":{}}}"#);
    }

    #[test]
    fn two_servers_of_one_name_are_refused() {
        let failure = added("{\n\"mcpServers\": {\"a\": {}}}", &[("b", "a")]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "two servers are called \"a\"\n   on: s.toml:1:1\n  why: the first one is in t.json:2:21\n hint: cargo xtask bundle remove b --server a"
        );
        assert!(added("{}", &[("a", "x"), ("b", "x")]).is_err());
    }

    #[test]
    fn a_template_of_another_shape_is_refused() {
        let text = |template| added(template, &[]).unwrap_err().to_string();
        assert_eq!(text("[]"), "a template must be a JSON object\n   on: t.json:1:1");
        assert_eq!(text(r#"{"mcpServers": []}"#), "mcpServers is not a JSON object\n   on: t.json:1:16");
    }
}
