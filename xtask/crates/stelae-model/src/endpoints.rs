//! Where a stack is reached over MCP: at one URL, or at one for each server behind its gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a stack is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The one endpoint; where each server has its own, what all of their URLs begin with.
    pub url: String,
    /// The endpoint of each server, by its name; empty where one endpoint has them all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, String>,
}

impl Endpoints {
    /// One endpoint, which has them all.
    pub fn one(url: impl Into<String>) -> Self {
        Self { url: url.into(), servers: BTreeMap::new() }
    }

    /// Each endpoint, with the server whose it is where there is more than one.
    pub fn each(&self) -> Vec<(Option<&str>, &str)> {
        match self.servers.is_empty() {
            true => vec![(None, self.url.as_str())],
            false => self.servers.iter().map(|(name, url)| (Some(name.as_str()), url.as_str())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_url_or_one_for_each_server() {
        assert_eq!(Endpoints::one("http://x/mcp").each(), [(None, "http://x/mcp")]);
        let servers = [("a", "http://x/a/mcp"), ("b", "http://x/b/mcp")];
        let servers = servers.map(|(name, url)| (name.to_owned(), url.to_owned())).into();
        let many = Endpoints { url: "http://x".to_owned(), servers };
        assert_eq!(many.each(), [(Some("a"), "http://x/a/mcp"), (Some("b"), "http://x/b/mcp")]);
    }
}
