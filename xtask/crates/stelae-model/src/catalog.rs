//! Which tools a stack has, and which server has them: one list, whether one endpoint has them all or each server its own.

use std::fmt;

use crate::env::nearest;

/// Between the name of a server and that of its tool.
const JOINT: &str = "__";

/// The tools of a stack, in the order in which they were listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    tools: Vec<Listed>,
}

/// One tool of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    server: Option<String>,
    tool: String,
}

/// Whom to ask for a tool, and under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The server, where each has an endpoint of its own.
    pub server: Option<&'a str>,
    /// The tool's name there.
    pub tool: &'a str,
}

/// Why a name is not that of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// Nobody has it.
    Unknown {
        /// What was asked for.
        name: String,
        /// A name that is there, and much like it.
        near: Option<String>,
    },
    /// More than one server has it.
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What could be meant, as it can be written.
        choices: Vec<String>,
    },
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, near: None } => write!(f, "unknown tool {name:?}"),
            Self::Unknown { name, near: Some(near) } => {
                write!(f, "unknown tool {name:?}: did you mean {near:?}?")
            }
            Self::Ambiguous { name, choices } => {
                write!(f, "tool {name:?} is ambiguous: write {}", choices.join(" or "))
            }
        }
    }
}

impl Catalog {
    /// Adds what one endpoint lists; `server` is whose endpoint it is, and `None` where one endpoint has them all.
    pub fn add(&mut self, server: Option<&str>, tools: impl IntoIterator<Item = String>) {
        let listed = tools.into_iter().map(|tool| Listed { server: server.map(str::to_owned), tool });
        self.tools.extend(listed);
    }

    /// The name by which each tool can be asked for: its own, or `server__tool` where more than one server has it.
    pub fn names(&self) -> Vec<String> {
        let is_shared = |one: &Listed| self.holders(&one.tool).count() > 1;
        let name = |one: &Listed| if is_shared(one) { one.qualified() } else { one.tool.clone() };
        self.tools.iter().map(name).collect()
    }

    /// Who has the tool that is called `name`, or `server__name`.
    ///
    /// # Errors
    /// [`NotFound`], also for a name that more than one server has.
    pub fn find(&self, name: &str) -> Result<Found<'_>, NotFound> {
        let mut found: Vec<&Listed> = self.holders(name).collect();
        if found.is_empty() {
            found = self.tools.iter().filter(|one| one.server.is_some() && one.qualified() == name).collect();
        }
        match found[..] {
            [] => {
                let names = self.names();
                let near = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
                Err(NotFound::Unknown { name: name.to_owned(), near })
            }
            // One endpoint that lists a name twice is asked all the same: who has it is its business.
            [one] | [one @ Listed { server: None, .. }, ..] => {
                Ok(Found { server: one.server.as_deref(), tool: &one.tool })
            }
            _ => {
                let choices = found.into_iter().map(Listed::qualified).collect();
                Err(NotFound::Ambiguous { name: name.to_owned(), choices })
            }
        }
    }

    fn holders(&self, tool: &str) -> impl Iterator<Item = &Listed> {
        self.tools.iter().filter(move |one| one.tool == tool)
    }
}

impl Listed {
    fn qualified(&self) -> String {
        match &self.server {
            Some(server) => format!("{server}{JOINT}{}", self.tool),
            None => self.tool.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.add(Some("a"), ["read", "grep"].map(str::to_owned));
        catalog.add(Some("b"), ["read", "write"].map(str::to_owned));
        catalog
    }

    fn found(server: Option<&'static str>, tool: &'static str) -> Result<Found<'static>, NotFound> {
        Ok(Found { server, tool })
    }

    #[test]
    fn a_name_leads_to_the_server_that_has_it() {
        let catalog = catalog();
        assert_eq!(catalog.find("grep"), found(Some("a"), "grep"));
        assert_eq!(catalog.find("b__read"), found(Some("b"), "read"));
        assert_eq!(catalog.find("b__write"), found(Some("b"), "write"));
        assert_eq!(catalog.names(), ["a__read", "grep", "b__read", "write"]);
    }

    #[test]
    fn the_same_tool_on_two_servers_is_an_error_that_names_both() {
        let ambiguous = catalog().find("read").unwrap_err();
        assert_eq!(ambiguous.to_string(), "tool \"read\" is ambiguous: write a__read or b__read");
    }

    #[test]
    fn an_unknown_name_has_its_nearest() {
        assert_eq!(
            catalog().find("writ").unwrap_err().to_string(),
            "unknown tool \"writ\": did you mean \"write\"?"
        );
        assert_eq!(
            catalog().find("c__read_it_all").unwrap_err().to_string(),
            "unknown tool \"c__read_it_all\""
        );
    }

    #[test]
    fn behind_one_endpoint_names_are_as_they_are_listed() {
        let mut catalog = Catalog::default();
        catalog.add(None, ["a__read", "grep"].map(str::to_owned));
        assert_eq!(catalog.find("a__read"), found(None, "a__read"));
        assert_eq!(catalog.names(), ["a__read", "grep"]);
        assert!(catalog.find("read").is_err());
    }
}
