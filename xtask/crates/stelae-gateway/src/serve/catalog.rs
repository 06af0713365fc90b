//! The one catalogue made of many: which name a client sees, and which server is meant by it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::offer::{Kind, Named};
use super::uri_template;

/// What one server contributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    /// Name of the server.
    pub(super) server: &'a str,
    /// Whether it can be called now. What it listed when it was last ready counts for names, and is not listed.
    pub(super) ready: bool,
    /// Its tools, as clients are to see them.
    pub(super) tools: &'a [Named],
    /// Its prompts.
    pub(super) prompts: &'a [Named],
    /// Its resources, as it lists them.
    pub(super) resources: &'a [Map<String, Value>],
    /// Its resource templates, as it lists them.
    pub(super) templates: &'a [Map<String, Value>],
}

/// What clients see.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Tools, by name.
    pub(super) tools: Names,
    /// Prompts, by name.
    pub(super) prompts: Names,
    /// Resources, by URI.
    pub(super) resources: Uris,
    /// Resource templates, by URI template.
    pub(super) templates: Uris,
}

impl Catalog {
    /// Merges what the servers contribute.
    pub(super) fn merge(shares: &[Share<'_>]) -> Self {
        // Of two that list the same URI, the one that can be asked has it.
        let (ready, away): (Vec<&Share<'_>>, Vec<_>) = shares.iter().partition(|share| share.ready);
        let by_uri = || ready.iter().chain(&away);
        Self {
            tools: Names::merge(
                shares.iter().map(|share| (share.server, share.ready, share.tools)).collect(),
            ),
            prompts: Names::merge(
                shares.iter().map(|share| (share.server, share.ready, share.prompts)).collect(),
            ),
            resources: Uris::merge(Kind::Resource, by_uri().map(|share| (**share, share.resources))),
            templates: Uris::merge(Kind::Template, by_uri().map(|share| (**share, share.templates))),
        }
    }

    /// What a client that asks for a list gets.
    pub(super) fn list(&self, kind: Kind) -> Value {
        let items = match kind {
            Kind::Tool => &self.tools.items,
            Kind::Prompt => &self.prompts.items,
            Kind::Resource => &self.resources.items,
            Kind::Template => &self.templates.items,
        };
        json!({ (kind.list_key()): items })
    }

    /// The server that has a resource, or whose template the URI can have come from: the most specific one's.
    pub(super) fn owner_of(&self, uri: &str) -> Option<&str> {
        let by_template = || {
            let fits = |(template, server): (&String, _)| Some((uri_template::fits(template, uri)?, server));
            let fitting = self.templates.servers.iter().filter_map(fits);
            fitting.max_by_key(|(prescribed, _)| *prescribed).map(|(_, server): (_, &String)| server.as_str())
        };
        self.resources.servers.get(uri).map(String::as_str).or_else(by_template)
    }
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Name of the server.
    pub(super) server: String,
    /// What that server calls it.
    pub(super) own: String,
}

/// Items that are known by a name, which can be another's, too.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The items of all ready servers under their public names, in the order of server name and of each server's list.
    pub(super) items: Vec<Map<String, Value>>,
    routes: BTreeMap<String, Route>,
    ambiguous: BTreeMap<String, Vec<String>>,
}

/// Why a name leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoute<'a> {
    /// No server has such a thing.
    Unknown,
    /// Several have; these are the names to use.
    Ambiguous(&'a [String]),
}

impl Names {
    /// A thing keeps its name unless another server has one of the same name: then each of them is `server__name`. Those
    /// of servers that are away count too, so that a crash does not rename the tools of others under a client's feet.
    fn merge(shares: Vec<(&str, bool, &[Named])>) -> Self {
        let items = |(server, ready, items)| {
            let items: &[Named] = items;
            items.iter().map(move |item| (server, ready, item))
        };
        let all: Vec<(&str, bool, &Named)> = shares.into_iter().flat_map(items).collect();
        let mut clashing = BTreeSet::new();
        // A prefixed name can clash with a plain one (`a__b`), so names are prefixed until nothing new clashes.
        loop {
            let mut seen = BTreeMap::new();
            for &(server, _, item) in &all {
                let name = public_name(&clashing, server, &item.name);
                seen.entry(name).or_insert_with(Vec::new).push((server, item.name.as_str()));
            }
            let before = clashing.len();
            clashing.extend(seen.into_values().filter(|holders| holders.len() > 1).flatten());
            if clashing.len() == before {
                break;
            }
        }
        let mut names = Self::default();
        for (server, ready, item) in all {
            let name = public_name(&clashing, server, &item.name);
            if name != item.name {
                names.ambiguous.entry(item.name.clone()).or_default().push(name.clone());
            }
            // Two names that stay equal although both are prefixed (server `a` with `b__t`, server `a__b` with `t`), or a
            // server that lists a name twice: the first one has it.
            if names.routes.contains_key(&name) {
                continue;
            }
            if ready {
                let mut public = item.item.clone();
                public.insert("name".to_owned(), name.as_str().into());
                names.items.push(public);
            }
            names.routes.insert(name, Route { server: server.to_owned(), own: item.own.clone() });
        }
        names
    }

    /// Where a name leads.
    pub(super) fn route(&self, name: &str) -> Result<&Route, NoRoute<'_>> {
        match (self.routes.get(name), self.ambiguous.get(name)) {
            (Some(route), _) => Ok(route),
            (None, Some(names)) => Err(NoRoute::Ambiguous(names)),
            (None, None) => Err(NoRoute::Unknown),
        }
    }

    /// All public names, also of servers that are away: what a typing error is compared with.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }
}

fn public_name(clashing: &BTreeSet<(&str, &str)>, server: &str, name: &str) -> String {
    if clashing.contains(&(server, name)) { format!("{server}__{name}") } else { name.to_owned() }
}

/// Items that are known by a URI, which means the same whoever says it: the first server that lists one has it. What only
/// a server has that is away stays its own: nobody else can answer for it.
#[derive(Debug, Default)]
pub(super) struct Uris {
    /// The items of all ready servers, in the order of server name and of each server's list.
    pub(super) items: Vec<Map<String, Value>>,
    servers: BTreeMap<String, String>,
}

impl Uris {
    fn merge<'a>(kind: Kind, shares: impl Iterator<Item = (Share<'a>, &'a [Map<String, Value>])>) -> Self {
        let mut uris = Self::default();
        for (share, item) in shares.flat_map(|(share, items)| items.iter().map(move |item| (share, item))) {
            let Some(uri) = item.get(kind.id_key()).and_then(Value::as_str) else { continue };
            uris.servers.entry(uri.to_owned()).or_insert_with(|| {
                if share.ready {
                    uris.items.push(item.clone());
                }
                share.server.to_owned()
            });
        }
        uris
    }
}

#[cfg(test)]
mod tests {
    use super::super::offer::named;
    use super::*;

    fn items(key: &str, names: &[&str]) -> Vec<Map<String, Value>> {
        names.iter().map(|name| Map::from_iter([(key.to_owned(), json!(name))])).collect()
    }

    fn merge(servers: &[(&str, &[&str], bool)]) -> Catalog {
        let lists: Vec<_> = servers.iter().map(|(_, names, _)| named(&items("name", names))).collect();
        let mut shares = Vec::new();
        for (&(server, _, ready), tools) in servers.iter().zip(&lists) {
            shares.push(Share { server, ready, tools, prompts: &[], resources: &[], templates: &[] });
        }
        Catalog::merge(&shares)
    }

    fn listed(catalog: &Catalog) -> Vec<&str> {
        catalog.tools.items.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn names_stay_as_they_are_without_collision() {
        let catalog = merge(&[("a", &["x", "y"], true), ("b", &["z"], true)]);
        assert_eq!(listed(&catalog), ["x", "y", "z"]);
        assert_eq!(catalog.tools.route("a__x"), Err(NoRoute::Unknown));
    }

    #[test]
    fn every_collider_is_prefixed_and_the_bare_name_says_so() {
        let catalog = merge(&[("a", &["x", "y"], true), ("b", &["x"], true)]);
        assert_eq!(listed(&catalog), ["a__x", "y", "b__x"]);
        let route = Route { server: "b".into(), own: "x".into() };
        assert_eq!(catalog.tools.route("b__x"), Ok(&route));
        assert_eq!(
            catalog.tools.route("x"),
            Err(NoRoute::Ambiguous(&["a__x".to_owned(), "b__x".to_owned()]))
        );
    }

    #[test]
    fn a_server_that_is_away_is_not_listed_but_keeps_its_names() {
        let catalog = merge(&[("a", &["x"], true), ("b", &["x", "y"], false)]);
        assert_eq!(listed(&catalog), ["a__x"]);
        assert!(catalog.tools.route("y").is_ok());
    }

    #[test]
    fn a_plain_name_that_looks_prefixed_gives_way() {
        let catalog = merge(&[("a", &["x"], true), ("b", &["x"], true), ("c", &["a__x"], true)]);
        assert_eq!(listed(&catalog), ["a__x", "b__x", "c__a__x"]);
        let catalog = merge(&[("a", &["b__t", "t"], true), ("a__b", &["t"], true), ("c", &["b__t"], true)]);
        assert_eq!(listed(&catalog), ["a__b__t", "a__t", "c__b__t"], "the first holder keeps the name");
    }

    #[test]
    fn a_renamed_tool_is_called_by_its_own_name() {
        let mut tools = named(&items("name", &["x"]));
        tools[0].name = "renamed".to_owned();
        let share =
            Share { server: "a", ready: true, tools: &tools, prompts: &[], resources: &[], templates: &[] };
        let catalog = Catalog::merge(&[share]);
        assert_eq!(listed(&catalog), ["renamed"]);
        assert_eq!(catalog.tools.route("renamed"), Ok(&Route { server: "a".into(), own: "x".into() }));
    }

    #[test]
    fn a_uri_belongs_to_the_first_who_lists_it_or_to_the_most_specific_template() {
        let (a, b) = (items("uri", &["test://1", "test://2"]), items("uri", &["test://2"]));
        let (any, some) = (items("uriTemplate", &["test://{x}"]), items("uriTemplate", &["test://some/{x}"]));
        let share = |server, resources, templates| Share {
            server,
            ready: true,
            tools: &[],
            prompts: &[],
            resources,
            templates,
        };
        let catalog = Catalog::merge(&[share("a", &a, &any), share("b", &b, &some)]);
        assert_eq!(
            catalog.list(Kind::Resource),
            json!({"resources": [{"uri": "test://1"}, {"uri": "test://2"}]})
        );
        assert_eq!(catalog.owner_of("test://2"), Some("a"));
        assert_eq!(catalog.owner_of("test://some/7"), Some("b"));
        assert_eq!(catalog.owner_of("test://other/7"), Some("a"));
        assert_eq!(catalog.owner_of("other://"), None);

        let away = Share { ready: false, ..share("a", &a, &any) };
        let catalog = Catalog::merge(&[away, share("b", &b, &some)]);
        assert_eq!(catalog.list(Kind::Resource), json!({"resources": [{"uri": "test://2"}]}));
        assert_eq!(
            catalog.list(Kind::Template),
            json!({"resourceTemplates": [{"uriTemplate": "test://some/{x}"}]})
        );
        assert_eq!(catalog.owner_of("test://1"), Some("a"), "nobody else can answer for it");
        assert_eq!(catalog.owner_of("test://2"), Some("b"), "this one can");
        assert_eq!(catalog.owner_of("test://other/7"), Some("a"));
    }
}
