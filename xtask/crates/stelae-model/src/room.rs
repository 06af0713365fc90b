//! What is said about a program that ran with a model of its own and no way elsewhere: `stelae-gateway with-model --report`.

use serde::{Deserialize, Serialize};

/// The report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomReport {
    /// What kept the program from going elsewhere.
    pub isolation: Walls,
    /// Why that is only its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often it tried.
    pub attempts: Attempts,
    /// How the program ended: its own code, or 128 and the number of the signal. `null`: nobody saw it.
    pub exit_code: Option<u8>,
    /// How long it ran.
    pub elapsed_ms: u64,
}

/// What keeps a program from going elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Walls {
    /// A network namespace that has nothing but loopback: it cannot, and each attempt is counted by the kernel.
    NetworkNamespace,
    /// Its own settings, and proxy variables: an attempt that goes past both is not seen.
    Settings,
}

/// Attempts to reach somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Connections and datagrams that no route leads anywhere for. `null`: nobody counted.
    pub no_route: Option<u64>,
    /// Datagrams to loopback that nobody listens for: questions to a resolver of this machine. `null`: nobody counted.
    pub lookups: Option<u64>,
    /// What a proxy variable sent to the model instead, as `HOST:PORT`, each once.
    pub named: Vec<String>,
}

impl Attempts {
    /// Whether one was seen. That none was seen is worth as much as [`RoomReport::isolation`] says.
    pub fn any(&self) -> bool {
        self.no_route.is_some_and(|count| count > 0)
            || self.lookups.is_some_and(|count| count > 0)
            || !self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_it_is_documented() {
        let text = r#"{"isolation":"settings","why":"there is no /usr/bin/unshare","attempts":{"no_route":null,"lookups":null,"named":["a.invalid:443"]},"exit_code":3,"elapsed_ms":812}"#;
        let report: RoomReport = serde_json::from_str(text).unwrap();
        assert_eq!((report.isolation, report.exit_code), (Walls::Settings, Some(3)));
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
    }

    #[test]
    fn each_kind_of_attempt_counts() {
        let none = Attempts { no_route: Some(0), lookups: Some(0), named: Vec::new() };
        assert!(!none.any() && !Attempts::default().any());
        assert!(Attempts { no_route: Some(1), ..none.clone() }.any());
        assert!(Attempts { lookups: Some(1), ..none.clone() }.any());
        assert!(Attempts { named: vec!["a:1".to_owned()], ..none }.any());
    }
}
