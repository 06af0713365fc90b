//! JSON text to a tree with places.
//!
//! `serde_json` judges the text: what is JSON, how deep it may nest, what a string's escapes mean. The walk below then
//! runs over text that is known to be JSON, and only notes where things stand; so it needs no errors of its own,
//! except for the one thing that serde_json lets through, a key that is given twice.

use serde_json::Value;

use super::{Key, Node, Source, Tree};
use crate::Failure;

/// Parses a JSON file.
///
/// # Errors
/// `template-syntax` if it is not JSON, `duplicate-key` if an object has a key twice; each with its place.
pub fn parse_json(source: &Source) -> Result<Node<'_>, Failure> {
    if let Err(error) = serde_json::from_str::<Value>(&source.text) {
        let at = source.offset(error.line(), error.column());
        let cause = error.to_string();
        let cause = cause.rsplit_once(" at line ").map_or(cause.as_str(), |(message, _)| message).to_owned();
        return Err(source.fault("template-syntax", at, "the file is not valid JSON").because(cause));
    }
    let mut walk = Walk { source, at: 0 };
    walk.value()
}

struct Walk<'s> {
    source: &'s Source,
    at: usize,
}

impl<'s> Walk<'s> {
    /// The next byte that is no white space, not consumed.
    fn peek(&mut self) -> u8 {
        let rest = &self.source.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.source.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Consumes the next byte if it is this one.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Result<Node<'s>, Failure> {
        let first = self.peek();
        let start = self.at;
        let tree = match first {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => Tree::Text(self.string()?.text),
            _ => self.scalar()?,
        };
        Ok(Node { tree, source: self.source, span: start..self.at })
    }

    fn object(&mut self) -> Result<Tree<'s>, Failure> {
        let mut members: Vec<(Key, Node<'s>)> = Vec::new();
        self.at += 1;
        while !self.eat(b'}') {
            self.peek();
            let key = self.string()?;
            if let Some((first, _)) = members.iter().find(|(known, _)| known.text == key.text) {
                let line = self.source.place(first.span.start).line;
                return Err(self
                    .source
                    .fault("duplicate-key", key.span.start, format!("key {:?} is given twice", key.text))
                    .because(format!("it is given first on line {line}")));
            }
            self.eat(b':');
            members.push((key, self.value()?));
            self.eat(b',');
        }
        Ok(Tree::Object(members))
    }

    fn array(&mut self) -> Result<Tree<'s>, Failure> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.eat(b']') {
            items.push(self.value()?);
            self.eat(b',');
        }
        Ok(Tree::Array(items))
    }

    fn string(&mut self) -> Result<Key, Failure> {
        let start = self.at;
        let mut escaped = false;
        let body = self.source.text.as_bytes().get(start + 1..).unwrap_or_default();
        let length = body.iter().take_while(|&&byte| {
            let inside = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            inside
        });
        self.at = start + length.count() + 2;
        let span = start..self.at.min(self.source.text.len());
        Ok(Key { text: self.read(span.clone())?, span })
    }

    fn scalar(&mut self) -> Result<Tree<'s>, Failure> {
        let start = self.at;
        let rest = &self.source.text.as_bytes()[start..];
        self.at += rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
            .count()
            // Never stand still, whatever comes: this walk must end even if it were wrong about its text.
            .max(1);
        self.read(start..self.at.min(self.source.text.len())).map(Tree::Scalar)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, span: std::ops::Range<usize>) -> Result<T, Failure> {
        let text = self.source.text.get(span.clone()).unwrap_or_default();
        serde_json::from_str(text).map_err(|error| {
            Failure::unexpected("the walk over a JSON file lost its way")
                .on(self.source.place(span.start).to_string())
                .because(error.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        parse_json(&Source::new("t.json", text)).unwrap_err().to_string()
    }

    #[test]
    fn the_tree_is_what_serde_json_reads() {
        for text in [
            "null",
            " -1.5e+3 ",
            r#""\"\\\u00e4\ud83d\ude00""#,
            "[]",
            "{}",
            r#"[1,[true,{"a":{}}],"x"]"#,
            "{\n\t\"b\" : [ 1 , 2 ] ,\r\n \"a\\\"\" : \"]}\" , \"\":false}",
        ] {
            let source = Source::new("t.json", text);
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse_json(&source).unwrap().to_value(), expected, "{text}");
        }
    }

    #[test]
    fn nodes_span_what_says_them() {
        let source = Source::new("t.json", r#" {"a": [ "x", 10 ]} "#);
        let root = parse_json(&source).unwrap();
        let Tree::Array(items) = &root.get("a").unwrap().tree else { panic!() };
        let said: Vec<_> = items.iter().map(|item| &source.text[item.span.clone()]).collect();
        assert_eq!(said, [r#""x""#, "10"]);
        assert_eq!(&source.text[root.span.clone()], r#"{"a": [ "x", 10 ]}"#);
    }

    #[test]
    fn bad_json_is_placed() {
        assert_eq!(
            failure("{\n  \"a\": 1,\n}"),
            "the file is not valid JSON\n   on: t.json:3:1\n  why: trailing comma"
        );
        assert_eq!(
            failure("{\"a\": \"x"),
            "the file is not valid JSON\n   on: t.json:1:8\n  why: EOF while parsing a string"
        );
        assert!(failure("").contains("on: t.json:1:1\n  why: EOF"), "{}", failure(""));
        assert!(failure("\u{feff}{}").contains("on: t.json:1:1"));
        assert!(failure(&"[".repeat(100_000)).contains("recursion limit"));
    }

    #[test]
    fn a_key_given_twice_is_placed() {
        assert_eq!(
            failure("{\"a\": 1,\n \"b\": {\"c\": 1, \"\\u0063\": 2}}"),
            "key \"c\" is given twice\n   on: t.json:2:16\n  why: it is given first on line 2"
        );
    }
}
