//! Servers that were found, and can be installed one by one: `<state home>/discovery.json`.

use serde::{Deserialize, Serialize};

use super::{Bundle, Descriptor, Manifest, ServerFile};
use crate::env::nearest;
use crate::render::{Source, parse_json};
use crate::server_name;
use crate::{ExitCode, Failure};

/// The bundle that discovered servers are installed into.
pub const DISCOVERED: &str = "discovered";

/// The discovery cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Version of this file's shape.
    pub schema: u32,
    /// The servers, in the shape of a bundle's descriptors.
    pub servers: Vec<Descriptor>,
}

impl Discovery {
    /// The shape that this code reads.
    pub const SCHEMA: u32 = 1;

    /// Reads a discovery cache.
    ///
    /// # Errors
    /// `bad-discovery` (exit 22) if it is of another shape, names a server twice, or wants a server to control the
    /// gateway: what was merely found must not.
    pub fn parse(source: &Source) -> Result<Self, Failure> {
        let fault = |cause: String| {
            Failure::new(ExitCode::Bundle, "bad-discovery", "the discovery cache is not usable")
                .on(source.file.clone())
                .because(cause)
                .hint("delete the file: it is made again from config/discovery.json")
        };
        // For its place of a syntax error and of a key given twice.
        parse_json(source).map_err(|failure| Failure { exit_code: ExitCode::Bundle, ..failure })?;
        let discovery: Self = serde_json::from_str(&source.text).map_err(|error| fault(error.to_string()))?;
        if discovery.schema != Self::SCHEMA {
            return Err(fault(format!(
                "its schema is {}, and this program reads {}",
                discovery.schema,
                Self::SCHEMA
            )));
        }
        for (index, server) in discovery.servers.iter().enumerate() {
            let name = &server.name;
            server.check(name).map_err(|(_, cause)| fault(format!("server {name:?}: {cause}")))?;
            if server.control {
                return Err(fault(format!(
                    "server {name:?} asks for `control`, which only bundles can give"
                )));
            }
            if discovery.servers[..index].iter().any(|other| other.name == *name) {
                return Err(fault(format!("server {name:?} is there twice")));
            }
        }
        Ok(discovery)
    }

    /// A bundle with one discovered server under the name `target`.
    ///
    /// # Errors
    /// `unknown-server` or `bad-name` (exit 22).
    pub fn bundle_of(&self, name: &str, target: &str) -> Result<Bundle, Failure> {
        let found = self.servers.iter().find(|server| server.name == name).ok_or_else(|| {
            let names = || self.servers.iter().map(|server| server.name.as_str());
            let hint = nearest(name, names()).map_or_else(
                || format!("discovered servers: {}", names().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            let what = format!("no server {name:?} was discovered");
            Failure::new(ExitCode::Bundle, "unknown-server", what).hint(hint)
        })?;
        server_name::check(target).map_err(|cause| Failure::new(ExitCode::Bundle, "bad-name", cause))?;
        let descriptor = Descriptor { name: target.to_owned(), ..found.clone() };
        let source = Source::new(format!("{target}.toml"), descriptor.to_toml()?);
        let manifest = Manifest {
            name: DISCOVERED.to_owned(),
            description: "Servers that were discovered and installed one by one".to_owned(),
            version: Self::SCHEMA.to_string(),
        };
        Ok(Bundle { manifest, servers: [(target.to_owned(), ServerFile { source, descriptor })].into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(servers: &str) -> Result<Discovery, Failure> {
        Discovery::parse(&Source::new("discovery.json", format!("{{\"schema\": 1, \"servers\": {servers}}}")))
    }

    const ONE: &str = r#"{"name": "wordcount", "description": "d", "transport": "stdio", "command": "x"}"#;

    #[test]
    fn a_discovered_server_becomes_a_bundle_of_one() {
        let bundle = parsed(&format!("[{ONE}]")).unwrap().bundle_of("wordcount", "wc_smoke").unwrap();
        let server = &bundle.servers["wc_smoke"];
        assert_eq!(
            server.source.text,
            "name = \"wc_smoke\"\ndescription = \"d\"\ntransport = \"stdio\"\ncommand = \"x\"\n"
        );
        assert_eq!(Descriptor::parse(&server.source, "wc_smoke").unwrap(), server.descriptor);
    }

    #[test]
    fn each_fault_has_its_text() {
        let text = |servers: &str| parsed(servers).unwrap_err().to_string();
        let start = "the discovery cache is not usable\n   on: discovery.json\n  why: ";
        for (servers, cause) in [
            (format!("[{ONE},{ONE}]"), "server \"wordcount\" is there twice"),
            (
                format!("[{}]", ONE.replace("wordcount", "../x")),
                "server \"../x\": server name \"../x\" is not",
            ),
            (
                format!("[{}]", ONE.replace("\"command\"", "\"control\": true, \"command\"")),
                "server \"wordcount\" asks for `control`",
            ),
            (format!("[{}]", ONE.replace("command", "cmd")), "unknown field `cmd`"),
        ] {
            let text = text(&servers);
            assert!(text.starts_with(&format!("{start}{cause}")), "{text}");
        }
        let discovery = parsed(&format!("[{ONE}]")).unwrap();
        let text = |name: &str, target: &str| discovery.bundle_of(name, target).unwrap_err().to_string();
        assert_eq!(
            text("wordcont", "x"),
            "no server \"wordcont\" was discovered\n hint: did you mean wordcount?"
        );
        assert_eq!(
            text("zzz", "x"),
            "no server \"zzz\" was discovered\n hint: discovered servers: wordcount"
        );
        assert!(text("wordcount", "../x").starts_with("server name \"../x\" is not"));
    }

    #[test]
    fn another_schema_is_refused() {
        let source = Source::new("discovery.json", r#"{"schema": 2, "servers": []}"#);
        let failure = Discovery::parse(&source).unwrap_err();
        assert_eq!(failure.why, ["its schema is 2, and this program reads 1"]);
    }
}
