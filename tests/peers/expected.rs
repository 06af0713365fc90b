//! The checks that are known not to pass: `expected-failures.toml`. Each runs, and has to fail; one that passes is an
//! error, and so is one that the judge does not know.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ledger {
    #[serde(default)]
    failures: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// `scenario/check`, as the judge names them.
    id: String,
    /// A part of what the judge says.
    says: String,
    /// Why it fails, and what would have to happen.
    reason: String,
}

/// What a ledger and what was found do not agree on, a sentence each. `found` has every check, with what the judge says of
/// one that failed.
pub(crate) fn disagreements(ledger: &str, found: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let ledger: Ledger = toml::from_str(ledger).unwrap();
    let mut wrong = Vec::new();
    for Expected { id, says, reason } in &ledger.failures {
        match found.get(id) {
            _ if reason.trim().is_empty() || says.trim().is_empty() => {
                wrong.push(format!("{id} is expected to fail, and it is not said how and why"));
            }
            None => wrong.push(format!("{id} is expected to fail, and the judge has no such check")),
            Some(None) => wrong.push(format!("{id} is expected to fail, and passes: take it out")),
            Some(Some(said)) if !said.contains(says) => {
                wrong.push(format!("{id} fails in another way than expected: {said}"));
            }
            Some(Some(_)) => {}
        }
    }
    for (id, said) in found {
        if let Some(said) = said
            && !ledger.failures.iter().any(|expected| expected.id == *id)
        {
            wrong.push(format!("{id} failed: {said}"));
        }
    }
    wrong
}

#[test]
fn a_ledger_is_right_or_wrong_about_each_check() {
    let found = [("a/x", None), ("b/x", Some("no answer")), ("c/x", Some("wrong answer"))];
    let found = found.map(|(id, said)| (id.to_owned(), said.map(str::to_owned))).into();
    let entry = |id: &str, says: &str, reason: &str| {
        format!("[[failures]]\nid = \"{id}\"\nsays = \"{says}\"\nreason = \"{reason}\"\n")
    };
    let both = entry("b/x", "no answer", "r") + &entry("c/x", "wrong", "r");
    assert_eq!(disagreements(&both, &found), Vec::<String>::new());
    let ends = |ledger: &str, wanted: &[&str]| {
        let wrong = disagreements(ledger, &found);
        assert!(
            wrong.len() == wanted.len() && wrong.iter().zip(wanted).all(|(a, b)| a.contains(b)),
            "{wrong:?}"
        );
    };
    ends("", &["b/x failed: no answer", "c/x failed"]);
    ends(&(both.clone() + &entry("a/x", "y", "r")), &["a/x is expected to fail, and passes"]);
    ends(&(both.clone() + &entry("d/x", "y", "r")), &["no such check"]);
    ends(&(entry("b/x", "no tool", "r") + &entry("c/x", "wrong", "r")), &["b/x fails in another way"]);
    ends(&(entry("b/x", "no answer", "") + &entry("c/x", "wrong", "r")), &["not said how and why"]);
}
