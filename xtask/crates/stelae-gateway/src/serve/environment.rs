//! What a server behind the gateway finds in its environment: exactly what is listed here, and nothing else.

use std::collections::BTreeMap;

use stelae_model::env::programs::declared;
use stelae_model::env::{Base, ProgramEnv, ServerEnv};
use stelae_model::hidden::Hidden;
use stelae_model::proxy::ServerEntry;

/// The token that `POST /-/reload` asks for.
pub(super) const CONTROL_TOKEN: &str = "STELAE_CONTROL_TOKEN";

/// The label of the server `name`, by which what it leaves behind is known.
pub(super) fn label(name: &str) -> String {
    format!("server:{name}")
}

/// The whole environment of the server `name`: the base and [`ServerEnv`], handed on as texts, because the gateway has
/// no business with what they mean; whether they are right, the attestation sees. `own` looks a variable up in the gateway's environment.
pub(super) fn server_environment(
    own: impl Fn(&str) -> Option<String>,
    name: &str,
    entry: &ServerEntry,
) -> BTreeMap<String, String> {
    let declared = Base::VARIABLES.iter().chain(ServerEnv::VARIABLES).map(|variable| variable.name);
    let mut variables: BTreeMap<String, String> = declared
        .filter(|variable| entry.control || *variable != CONTROL_TOKEN)
        .filter_map(|variable| Some((variable.to_owned(), own(variable)?)))
        .collect();
    // Last, so that it wins: what the entry says was written for this server.
    variables.insert("STELAE_PROCESS".to_owned(), label(name));
    variables.extend(entry.env.clone());
    variables
}

/// What a server is given in confidence: in the environment that it finds, or to show with each request.
pub(super) fn confided(environment: &BTreeMap<String, String>, entry: &ServerEntry) -> Hidden {
    let own = environment.iter().filter(|(name, _)| is_confidential(name)).map(|(_, text)| text);
    let mut confided = Hidden::default();
    own.chain(entry.headers.values()).for_each(|text| confided.hide(text));
    confided
}

/// Whether a variable of this name holds a secret: it is declared as one, or its name says so.
fn is_confidential(name: &str) -> bool {
    if declared(name).is_some_and(|variable| variable.secret) {
        return true;
    }
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(variable: &str) -> Option<String> {
        let known = ["PATH", "STELAE_ROOT", "PROXY_PORT", "STELAE_CONTROL_TOKEN", "CARGO", "AWS_SECRET"];
        known.contains(&variable).then(|| format!("own {variable}"))
    }

    #[test]
    fn only_listed_variables_pass_and_the_entry_wins() {
        let env = BTreeMap::from([("PROXY_PORT".to_owned(), "entry".to_owned())]);
        let entry = ServerEntry { env, ..ServerEntry::default() };
        let variables = server_environment(own, "x", &entry);
        let pairs: Vec<_> = variables.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("PATH", "own PATH"),
                ("PROXY_PORT", "entry"),
                ("STELAE_PROCESS", "server:x"),
                ("STELAE_ROOT", "own STELAE_ROOT"),
            ]
        );
    }

    #[test]
    fn only_a_control_server_gets_the_token() {
        let entry = ServerEntry { control: true, ..ServerEntry::default() };
        assert!(server_environment(own, "x", &entry).contains_key(CONTROL_TOKEN));
        assert!(!server_environment(own, "x", &ServerEntry::default()).contains_key(CONTROL_TOKEN));
    }

    #[test]
    fn tokens_keys_and_headers_are_confided_and_the_token_of_control_is_one() {
        let env =
            BTreeMap::from(["API_KEY", "NAME"].map(|name| (name.to_owned(), format!("value of {name}"))));
        let headers = BTreeMap::from([("X-Any".to_owned(), "Bearer hunter2".to_owned())]);
        let entry = ServerEntry { control: true, env, headers, ..ServerEntry::default() };
        let confided = confided(&server_environment(own, "x", &entry), &entry);
        let said = "value of API_KEY, value of NAME, own STELAE_CONTROL_TOKEN, Bearer hunter2";
        assert_eq!(confided.masked(said), "(secret), value of NAME, (secret), (secret)");
    }
}
