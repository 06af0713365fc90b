//! TOML text to the same tree with places: descriptors of servers are written in TOML and end in JSON.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Key, Node, Source, Tree};
use crate::Failure;

/// Parses a TOML file. Keys come sorted, which is what makes the result independent of their order in the file.
///
/// # Errors
/// `template-syntax` if it is not TOML (this includes a key given twice), with its place. Dates are no value of JSON
/// and become strings; the typed reading of a descriptor has refused them before.
pub fn parse_toml(source: &Source) -> Result<Node<'_>, Failure> {
    let document = DeTable::parse(&source.text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.fault("template-syntax", at, "the file is not valid TOML").because(one_line(error.message()))
    })?;
    let span = 0..source.text.len();
    Ok(Node { tree: table(source, document.get_ref()), source, span })
}

/// The messages of the toml crate can have several lines.
pub(crate) fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

fn table<'s>(source: &'s Source, members: &DeTable<'_>) -> Tree<'s> {
    let member = |(key, value): (&Spanned<_>, _)| {
        let text: &std::borrow::Cow<'_, str> = key.get_ref();
        (Key { text: text.clone().into_owned(), span: key.span() }, node(source, value))
    };
    Tree::Object(members.iter().map(member).collect())
}

fn node<'s>(source: &'s Source, value: &Spanned<DeValue<'_>>) -> Node<'s> {
    let tree = match value.get_ref() {
        DeValue::String(text) => Tree::Text(text.clone().into_owned()),
        DeValue::Boolean(flag) => Tree::Scalar(Value::Bool(*flag)),
        DeValue::Integer(number) => {
            Tree::Scalar(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX).into())
        }
        DeValue::Float(number) => Tree::Scalar(number.as_str().parse::<f64>().unwrap_or(f64::NAN).into()),
        DeValue::Datetime(date) => Tree::Text(date.to_string()),
        DeValue::Array(items) => Tree::Array(items.iter().map(|item| node(source, item)).collect()),
        DeValue::Table(members) => table(source, members),
    };
    Node { tree, source, span: value.span() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_places_survive() {
        let source =
            Source::new("s.toml", "command = \"x\"\nn = 0x10\nargs = [\n  'a', # why\n]\n[env]\nA = '1'\n");
        let root = parse_toml(&source).unwrap();
        assert_eq!(
            root.to_value(),
            serde_json::json!({"args": ["a"], "command": "x", "env": {"A": "1"}, "n": 16})
        );
        let Tree::Array(args) = &root.get("args").unwrap().tree else { panic!() };
        assert_eq!(args[0].place().to_string(), "s.toml:4:3");
    }

    #[test]
    fn bad_toml_is_placed() {
        let failure = parse_toml(&Source::new("s.toml", "a = 1\na = 2\n")).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the file is not valid TOML\n   on: s.toml:2:1\n  why: duplicate key"
        );
    }
}
