//! Texts that nobody is to read: secrets, taken out of whatever is written down or shown.

use std::fmt;

use serde_json::Value;

/// Bytes of the shortest secret. A shorter text would be found in any other, and hiding it would hide half of what there
/// is to read.
pub const SHORTEST: usize = 6;

/// What stands in a secret's place.
const MASK: &str = "(secret)";

/// Secrets that are known.
///
/// ```
/// # use stelae_model::hidden::Hidden;
/// let mut hidden = Hidden::default();
/// hidden.hide("hunter2");
/// assert_eq!(hidden.masked("it is hunter2"), "it is (secret)");
/// ```
#[derive(Clone, Default)]
pub struct Hidden {
    /// Longest first: a secret that is a part of another must not leave the rest of it.
    texts: Vec<String>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.texts.len())
    }
}

impl Hidden {
    /// From now on this text is masked; one of fewer than [`SHORTEST`] bytes is not.
    pub fn hide(&mut self, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        self.texts.push(text.to_owned());
        // Whoever quotes a secret escapes it: as JSON does, or as Rust does.
        let quoted = Value::from(text).to_string();
        self.texts.push(quoted[1..quoted.len() - 1].to_owned());
        self.texts.push(text.escape_debug().to_string());
        self.texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.texts.dedup();
    }

    /// The text without the secrets. Before it is shortened: the beginning of a secret is not found.
    pub fn masked(&self, text: &str) -> String {
        self.texts.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }

    /// Takes the secrets out of every text in a value; keys and numbers stay as they are.
    pub fn mask(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.masked(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.mask(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(texts: &[&str]) -> Hidden {
        let mut hidden = Hidden::default();
        texts.iter().for_each(|text| hidden.hide(text));
        hidden
    }

    #[test]
    fn a_secret_is_found_however_it_is_quoted() {
        let secret = "tok\"en\\with\u{1b}all\"";
        let hidden = hidden(&[secret]);
        for quoted in [secret.to_owned(), format!("{secret:?}"), json!({ "it is": secret }).to_string()] {
            let masked = hidden.masked(&quoted);
            assert!(masked.contains("(secret)") && !masked.contains("with"), "{quoted}: {masked}");
        }
    }

    #[test]
    fn a_secret_in_a_secret_leaves_nothing_of_it_and_a_short_one_is_none() {
        assert_eq!(
            hidden(&["hunter2", "hunter2-of-clients", "a"]).masked("a hunter2-of-clients"),
            "a (secret)"
        );
    }

    #[test]
    fn every_text_of_a_value_is_masked_and_its_form_stays() {
        let mut value = json!({ "hunter2": ["hunter2", 1, { "x": "not hunter2" }], "n": null });
        hidden(&["hunter2"]).mask(&mut value);
        assert_eq!(value, json!({ "hunter2": ["(secret)", 1, { "x": "not (secret)" }], "n": null }));
    }
}
