//! What is another in each run, by what it is.

use serde_json::Value;

use crate::transcript::CallEnd;

/// Texts of one run, each with the name that stands in its place.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// Longest first: a folder in a folder is named before that is.
    texts: Vec<(String, &'static str)>,
}

impl Masks {
    /// Masks these texts; empty ones are left out.
    pub fn new(texts: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { texts }
    }

    /// The text, with names in the place of what is another in each run.
    pub fn text(&self, text: &str) -> String {
        let known = self.texts.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        shapes(&known)
    }

    /// The same in every text of a value.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.value(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// The same in what a call came to.
    pub fn end(&self, end: &CallEnd) -> CallEnd {
        let text = self.text(end.text());
        match end {
            CallEnd::Answered(_) => CallEnd::Answered(text),
            CallEnd::ToolError(_) => CallEnd::ToolError(text),
            CallEnd::Failed(_) => CallEnd::Failed(text),
            CallEnd::Refused(_) => CallEnd::Refused(text),
            CallEnd::NoSuchTool(_) => CallEnd::NoSuchTool(text),
        }
    }
}

/// The shape of a UUID: `x` is a hexadecimal digit.
const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
/// The shape of a time, as far as it always goes: `9` is a digit.
const TIME: &str = "9999-99-99T99:99:99";

/// Masks what is known by its shape.
fn shapes(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if has_shape(rest, UUID) {
            masked.push_str("ID");
            rest = &rest[UUID.len()..];
        } else if has_shape(rest, TIME) {
            masked.push_str("TIME");
            rest = rest[TIME.len()..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'x' => byte.is_ascii_hexdigit(),
        b'9' => byte.is_ascii_digit(),
        other => byte == other,
    };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}
