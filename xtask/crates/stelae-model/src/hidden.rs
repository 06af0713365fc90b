//! Texts that nobody is to read: secrets, taken out of whatever is written down or shown.

use std::fmt;

use serde_json::Value;

use crate::terminal::shown;

/// Bytes of the shortest secret. A shorter text would be found in any other, and hiding it would hide half of what there
/// is to read.
pub const SHORTEST: usize = 6;

/// The same for one line of a secret that has several: `{` or `fi` is no secret.
const SHORTEST_LINE: usize = 12;

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
    /// From now on this text is masked, in every form of [`forms`]; one of fewer than [`SHORTEST`] bytes is not. Of one with
    /// several lines each is masked: a log is read by the line.
    pub fn hide(&mut self, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && *line != text);
        let forms = std::iter::once(text).chain(lines).flat_map(forms);
        self.texts.extend(forms.filter(|form| form.len() >= SHORTEST));
        self.sort();
    }

    /// Masks what the other one masks, too.
    pub fn extend(&mut self, other: &Self) {
        self.texts.extend_from_slice(&other.texts);
        self.sort();
    }

    fn sort(&mut self) {
        self.texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.texts.dedup();
    }

    /// The text without the secrets. Before it is shortened: the beginning of a secret is not found.
    pub fn masked(&self, text: &str) -> String {
        self.texts.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), MASK),
            false => text,
        })
    }

    /// How much of a text that goes on can be masked and written already: no secret that is known begins before this index
    /// and ends behind it, whatever comes. 0 if there is too little of it.
    pub fn complete(&self, text: &str) -> usize {
        let longest = self.texts.first().map_or(0, String::len);
        let mut end = (text.len() + 1).saturating_sub(longest.max(1));
        // A secret that is there as a whole is masked as a whole.
        for secret in &self.texts {
            let mut ends = text.match_indices(secret.as_str()).map(|(at, _)| (at, at + secret.len()));
            end = ends.find(|(from, to)| (*from..*to).contains(&end)).map_or(end, |(_, to)| to);
        }
        (0..=end.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
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

/// The forms in which programs write a secret: as it is; escaped as JSON, Rust and URLs do; as hexadecimal digits; in both
/// alphabets of base64, also where it is a part of what was encoded (`user:SECRET`). Other forms (reversed, encoded twice, compressed,
/// letter by letter) are not known.
fn forms(text: &str) -> Vec<String> {
    let quoted = Value::from(text).to_string();
    let hex = |upper: bool| -> String {
        text.bytes().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let percent = |upper: bool| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let digits = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { digits(byte) })
            .collect()
    };
    let mut forms = vec![
        text.to_owned(),
        quoted[1..quoted.len() - 1].to_owned(),
        text.escape_debug().to_string(),
        shown(text).into_owned(),
        hex(true),
        hex(false),
        percent(true),
        percent(false),
    ];
    for before in 0..3 {
        let standard = base64_within(text.as_bytes(), before);
        forms.push(standard.replace('+', "-").replace('/', "_"));
        forms.push(standard);
    }
    forms
}

/// The characters of base64 that depend on these bytes alone, where so many bytes (modulo 3) stand before them.
fn base64_within(bytes: &[u8], before: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte & (1 << bit) != 0)).collect();
    // A character has six bits: those of the one before that has some of the bytes before are not ours alone.
    let skipped = (6 - before * 8 % 6) % 6;
    let groups = bits.get(skipped..).unwrap_or_default().chunks_exact(6);
    let number = |group: &[bool]| group.iter().fold(0, |number, &bit| number * 2 + usize::from(bit));
    groups.map(|group| char::from(ALPHABET[number(group)])).collect()
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
    fn a_secret_is_found_in_the_forms_that_programs_write() {
        let secret = "h\u{fc}nter+2/?";
        let hidden = hidden(&[secret]);
        for said in [
            "68c3bc6e7465722b322f3f",
            "68C3BC6E7465722B322F3F",
            "h%C3%BCnter%2B2%2F%3F",
            "h%c3%bcnter%2b2%2f%3f",
            // base64 of "SECRET", "aSECRETb" and "abSECRETc", and the last in the alphabet for URLs.
            "aMO8bnRlcisyLz8=",
            "YWjDvG50ZXIrMi8/Yg==",
            "YWJow7xudGVyKzIvP2M=",
            "YWJow7xudGVyKzIvP2M=",
        ] {
            let masked = hidden.masked(said);
            let rest = masked.replace("(secret)", "").len();
            assert!(masked.contains("(secret)") && rest <= 7, "{said}: {masked}");
        }
        assert_eq!(hidden.masked("aMO8bnRl nothing of it"), "aMO8bnRl nothing of it");
    }

    #[test]
    fn of_a_secret_with_several_lines_each_is_masked() {
        let hidden = hidden(&["-----BEGIN KEY-----\nMIIEvQIBADAN\nx\n-----END KEY-----\n"]);
        assert_eq!(hidden.masked("key: MIIEvQIBADAN x"), "key: (secret) x");
    }

    #[test]
    fn what_is_complete_of_a_text_that_goes_on_ends_in_no_secret() {
        let hidden = hidden(&["hunter2-of-all"]);
        let said = "a hunter2-of-all and ü hunter2-of-all hunter2-o";
        let (mut rest, mut written) = (String::new(), String::new());
        for c in said.chars() {
            rest.push(c);
            let (done, more) = rest.split_at(hidden.complete(&rest));
            written.push_str(&hidden.masked(done));
            rest = more.to_owned();
        }
        assert_eq!(written + &hidden.masked(&rest), "a (secret) and ü (secret) hunter2-o");
        assert_eq!(Hidden::default().complete("abc"), 3);
    }

    #[test]
    fn every_text_of_a_value_is_masked_and_its_form_stays() {
        let mut value = json!({ "hunter2": ["hunter2", 1, { "x": "not hunter2" }], "n": null });
        hidden(&["hunter2"]).mask(&mut value);
        assert_eq!(value, json!({ "hunter2": ["(secret)", 1, { "x": "not (secret)" }], "n": null }));
    }
}
