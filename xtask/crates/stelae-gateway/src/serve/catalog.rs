//! The one tool list made of many: which name a client sees, and which server is meant by it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use rmcp::model::Tool;

/// The tools of one server, as the catalog needs them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    /// Name of the server.
    pub(super) server: &'a str,
    /// Its tools, as it lists them now, or listed them when it was last ready.
    pub(super) tools: &'a [Tool],
    /// Whether it can be called now.
    pub(super) ready: bool,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Name of the server.
    pub(super) server: String,
    /// The tool's name on that server.
    pub(super) tool: String,
}

/// What clients see.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// The tools of all ready servers under their public names, in the order of server name and of each server's list.
    pub(super) tools: Vec<Tool>,
    routes: BTreeMap<String, Route>,
    ambiguous: BTreeMap<String, Vec<String>>,
}

/// Why a name leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoute<'a> {
    /// No server has such a tool.
    Unknown,
    /// Several have; these are the names to use.
    Ambiguous(&'a [String]),
}

impl Catalog {
    /// Merges what the servers offer.
    ///
    /// A tool keeps its name unless another server has one of the same name: then each of them is `server__tool`. Tools
    /// of servers that are away count too, so that a crash does not rename the tools of others under a client's feet.
    pub(super) fn merge(offers: &[Offer<'_>]) -> Self {
        let all = || offers.iter().flat_map(|offer| offer.tools.iter().map(move |tool| (offer, tool)));
        let mut clashing = BTreeSet::new();
        // A prefixed name can clash with a plain one (`a__b`), so names are prefixed until nothing new clashes.
        loop {
            let mut seen = BTreeMap::new();
            for (offer, tool) in all() {
                let name = public_name(&clashing, offer.server, &tool.name);
                seen.entry(name).or_insert_with(Vec::new).push((offer.server, tool.name.as_ref()));
            }
            let before = clashing.len();
            clashing.extend(seen.into_values().filter(|holders| holders.len() > 1).flatten());
            if clashing.len() == before {
                break;
            }
        }
        let mut catalog = Self::default();
        for (offer, tool) in all() {
            let name = public_name(&clashing, offer.server, &tool.name);
            if name != tool.name {
                catalog.ambiguous.entry(tool.name.to_string()).or_default().push(name.clone());
            }
            let route = Route { server: offer.server.to_owned(), tool: tool.name.to_string() };
            // Two names that stay equal although both are prefixed (server `a` with `b__t`, server `a__b` with `t`), or a
            // server that lists a name twice: the first one has it.
            if catalog.routes.contains_key(&name) {
                continue;
            }
            if offer.ready {
                let mut public = tool.clone();
                public.name = name.clone().into();
                catalog.tools.push(public);
            }
            catalog.routes.insert(name, route);
        }
        catalog
    }

    /// Where a call of `name` goes.
    pub(super) fn route(&self, name: &str) -> Result<&Route, NoRoute<'_>> {
        match (self.routes.get(name), self.ambiguous.get(name)) {
            (Some(route), _) => Ok(route),
            (None, Some(names)) => Err(NoRoute::Ambiguous(names)),
            (None, None) => Err(NoRoute::Unknown),
        }
    }

    /// All public names, also of tools whose server is away: what a typing error is compared with.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }
}

fn public_name(clashing: &BTreeSet<(&str, &str)>, server: &str, tool: &str) -> String {
    if clashing.contains(&(server, tool)) { format!("{server}__{tool}") } else { tool.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Vec<Tool> {
        let schema = std::sync::Arc::new(serde_json::Map::new());
        names.iter().map(|name| Tool::new_with_raw((*name).to_owned(), None, schema.clone())).collect()
    }

    fn merge(servers: &[(&str, &[&str], bool)]) -> Catalog {
        let lists: Vec<_> = servers.iter().map(|(_, names, _)| tools(names)).collect();
        let mut offers = Vec::new();
        for (&(server, _, ready), tools) in servers.iter().zip(&lists) {
            offers.push(Offer { server, tools, ready });
        }
        Catalog::merge(&offers)
    }

    fn listed(catalog: &Catalog) -> Vec<&str> {
        catalog.tools.iter().map(|tool| tool.name.as_ref()).collect()
    }

    #[test]
    fn names_stay_as_they_are_without_collision() {
        let catalog = merge(&[("a", &["x", "y"], true), ("b", &["z"], true)]);
        assert_eq!(listed(&catalog), ["x", "y", "z"]);
        assert_eq!(catalog.route("a__x"), Err(NoRoute::Unknown));
    }

    #[test]
    fn every_collider_is_prefixed_and_the_bare_name_says_so() {
        let catalog = merge(&[("a", &["x", "y"], true), ("b", &["x"], true)]);
        assert_eq!(listed(&catalog), ["a__x", "y", "b__x"]);
        let route = Route { server: "b".into(), tool: "x".into() };
        assert_eq!(catalog.route("b__x"), Ok(&route));
        assert_eq!(catalog.route("x"), Err(NoRoute::Ambiguous(&["a__x".to_owned(), "b__x".to_owned()])));
    }

    #[test]
    fn a_server_that_is_away_is_not_listed_but_keeps_its_names() {
        let catalog = merge(&[("a", &["x"], true), ("b", &["x", "y"], false)]);
        assert_eq!(listed(&catalog), ["a__x"]);
        assert!(catalog.route("y").is_ok());
    }

    #[test]
    fn a_plain_name_that_looks_prefixed_gives_way() {
        let catalog = merge(&[("a", &["x"], true), ("b", &["x"], true), ("c", &["a__x"], true)]);
        assert_eq!(listed(&catalog), ["a__x", "b__x", "c__a__x"]);
        let catalog = merge(&[("a", &["b__t", "t"], true), ("a__b", &["t"], true), ("c", &["b__t"], true)]);
        assert_eq!(listed(&catalog), ["a__b__t", "a__t", "c__b__t"], "the first holder keeps the name");
    }
}
