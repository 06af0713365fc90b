//! Puts values in the place of tokens, in every string of a tree and nowhere else.

use super::expression::evaluate;
use super::token::{Broken, Piece, pieces};
use super::{Key, Names, Node, Source, Syntax, Tree};
use crate::Failure;

/// Resolves every token of a tree.
///
/// Only string values are templates. A value goes into the parsed tree, so whatever it holds (quotes, braces, line
/// breaks, `<<X>>`) stays text of that one string.
///
/// # Errors
/// The first fault in the order of the document, placed at its token: `unknown-name`, `unclosed-token`, `empty-token`,
/// `stray-token`, `bad-expression`, `not-a-scalar`, `token-in-key` (exit 21) or `unset-variable` (exit 20).
pub fn resolve<'s>(node: Node<'s>, names: &Names, syntax: Syntax) -> Result<Node<'s>, Failure> {
    let Node { tree, source, span } = node;
    let tree = match tree {
        Tree::Scalar(value) => Tree::Scalar(value),
        Tree::Text(text) => {
            let place = |offset| source.offset_in_string(&span, offset);
            Tree::Text(resolve_text(&text, source, &place, names, syntax)?)
        }
        Tree::Array(items) => {
            Tree::Array(items.into_iter().map(|item| resolve(item, names, syntax)).collect::<Result<_, _>>()?)
        }
        Tree::Object(members) => {
            let member = |(key, value)| {
                check_key(&key, source, syntax)?;
                Ok((key, resolve(value, names, syntax)?))
            };
            Tree::Object(members.into_iter().map(member).collect::<Result<_, Failure>>()?)
        }
    };
    Ok(Node { tree, source, span })
}

/// Resolves every token of a text that is no part of a tree.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_text_alone(source: &Source, names: &Names, syntax: Syntax) -> Result<String, Failure> {
    resolve_text(&source.text, source, &|offset| offset, names, syntax)
}

fn resolve_text(
    text: &str,
    source: &Source,
    place: &dyn Fn(usize) -> usize,
    names: &Names,
    syntax: Syntax,
) -> Result<String, Failure> {
    let (open, close) = (syntax.open(), syntax.close());
    let found = pieces(text, syntax).map_err(|broken| match broken {
        Broken::Unclosed(at) => source
            .fault("unclosed-token", place(at), format!("a token is opened with {open} and never closed"))
            .hint(format!("close it with {close}; a literal {open} is written {open}'{open}'{close}")),
        Broken::Stray(at) => source
            .fault("stray-token", place(at), format!("{close} closes a token that was never opened"))
            .hint(format!("open it with {open}; a literal {close} is written {open}'{close}'{close}")),
    })?;
    let mut resolved = String::with_capacity(text.len());
    for piece in found {
        match piece {
            Piece::Text(range) => resolved.push_str(&text[range]),
            Piece::Token { at, body } => {
                let at_token = |failure: Failure| failure.on(source.place(place(at)).to_string());
                resolved.push_str(&evaluate(&text[body], names).map_err(at_token)?);
            }
        }
    }
    Ok(resolved)
}

fn check_key(key: &Key, source: &Source, syntax: Syntax) -> Result<(), Failure> {
    let Some(at) = key.text.find(syntax.open()) else { return Ok(()) };
    // Keys of TOML need no quotes; then their text is their span.
    let quoted = source.text[key.span.clone()].starts_with(['"', '\'']);
    let at = if quoted { source.offset_in_string(&key.span, at) } else { key.span.start };
    Err(source
        .fault("token-in-key", at, format!("key {:?} holds a token: only values are templates", key.text))
        .hint("write the key out"))
}

#[cfg(test)]
mod tests {
    use super::super::parse_json;
    use super::*;

    fn resolved(text: &str, names: &Names, syntax: Syntax) -> Result<serde_json::Value, Failure> {
        let source = Source::new("t.json", text);
        resolve(parse_json(&source)?, names, syntax).map(|node| node.to_value())
    }

    fn names() -> Names {
        Names::new([("A", Some("1")), ("B", Some("two")), ("U", None)])
    }

    fn failure(text: &str) -> String {
        resolved(text, &names(), Syntax::Angles).unwrap_err().to_string()
    }

    #[test]
    fn strings_at_any_depth_are_templates() {
        let value = resolved(
            r#"{"x": "<<A>>:<<B>>", "y": [{"z": "\"<<B>>\""}, 1, null, "plain > {{A}}"]}"#,
            &names(),
            Syntax::Angles,
        );
        assert_eq!(
            value.unwrap(),
            serde_json::json!({"x": "1:two", "y": [{"z": "\"two\""}, 1, null, "plain > {{A}}"]})
        );
        let value = resolved(r#"{"x": "{{A}} <<A>> {% if %} {# c #}"}"#, &names(), Syntax::Braces);
        assert_eq!(value.unwrap(), serde_json::json!({"x": "1 <<A>> {% if %} {# c #}"}));
    }

    #[test]
    fn each_fault_is_placed_at_its_token() {
        for (text, place, what) in [
            ("{\n \"a\": \"é\\n<<A>> <<X>>\"}", "2:17", "unknown name \"X\""),
            ("[\"<<A>>\",\n \"x<<A\"]", "2:4", "a token is opened with << and never closed"),
            ("[\"ab <A>>\"]", "1:8", ">> closes a token that was never opened"),
            ("[\"\\u003c\\u003cX>>\"]", "1:3", "unknown name \"X\""),
            ("[\"--<<>>\"]", "1:5", "a token names nothing"),
            ("[\"<<U>>\"]", "1:3", "variable U has no value"),
            ("[\"<< {'a':1} >>\"]", "1:3", "a token yields map"),
            ("{\"a\": {\"k<<A>>\": 1}}", "1:10", "key \"k<<A>>\" holds a token"),
        ] {
            let failure = failure(text);
            assert!(failure.contains(&format!("\n   on: t.json:{place}\n")), "{text}\n{failure}");
            assert!(failure.starts_with(what), "{text}\n{failure}");
        }
    }

    #[test]
    fn the_hints_say_how_to_write_delimiters() {
        assert_eq!(
            failure("[\"<<A\"]"),
            "a token is opened with << and never closed\n   on: t.json:1:3\n hint: close it with >>; a literal << is written <<'<<'>>"
        );
        assert_eq!(
            resolved(r#"["<<'<<'>>A<<'>>'>>"]"#, &names(), Syntax::Angles).unwrap(),
            serde_json::json!(["<<A>>"])
        );
    }

    /// Whatever a value holds, the result is the same tree with that text in it: nothing is broken, injected or
    /// evaluated a second time.
    #[test]
    fn no_value_can_break_the_tree() {
        let mut soups: Vec<String> =
            ["\"},{", "\n\r\t\0", "<<A>>", "{{A}}", "\\", "\u{2028}", "</script>", ">>"]
                .map(str::to_owned)
                .into();
        // A small linear congruential generator: the same soups in every run.
        let mut seed: u64 = 7;
        let alphabet: Vec<char> = "\"\\{}[]<>:,\n\t\0\u{7f}é😀'aA%#|~".chars().collect();
        for _ in 0..2000 {
            let mut soup = String::new();
            for _ in 0..(seed >> 60) + 1 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                soup.push(alphabet[usize::try_from(seed >> 33).unwrap() % alphabet.len()]);
            }
            soups.push(soup);
        }
        for soup in soups {
            let names = Names::new([("A", Some(soup.as_str()))]);
            let value = resolved(r#"{"a": "<<A>>", "b": ["[<<A>>]"]}"#, &names, Syntax::Angles).unwrap();
            assert_eq!(value, serde_json::json!({"a": soup, "b": [format!("[{soup}]")]}), "{soup:?}");
            let written = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value, "{soup:?}");
        }
    }

    /// And whatever the template holds: an error or a value, never a panic.
    #[test]
    fn no_template_can_panic() {
        let alphabet = ["<", ">", "<<", ">>", "'", "\\\\", "A", "{", "}", "é", "\\u003c", " ", "|", "\\\""];
        let mut seed: u64 = 11;
        for _ in 0..5000 {
            let mut text = String::new();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(alphabet[usize::try_from(seed >> 33).unwrap() % alphabet.len()]);
            }
            for syntax in [Syntax::Angles, Syntax::Braces] {
                drop(resolved(&format!("{{\"k\": [\"{text}\"]}}"), &names(), syntax));
            }
        }
    }
}
