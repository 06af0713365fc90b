//! A file's text, and places in it.

use std::ops::Range;

pub use crate::env::Place;
use crate::{ExitCode, Failure};

/// The text of one file, under the name that messages give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's path as a person would type it.
    pub file: String,
    /// Its whole content.
    pub text: String,
}

impl Source {
    /// A source from its path and text.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    /// The place of a byte offset; an offset inside a character counts as that character's.
    pub fn place(&self, offset: usize) -> Place {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The byte offset of the start of a line and a column in bytes, both counted from 1, as `serde_json` reports them.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        start + column.saturating_sub(1)
    }

    /// Where the byte `decoded` of a string's value was written, given the span of the literal with its quotes.
    ///
    /// Exact for JSON strings and for TOML's one-line strings; for others it is the start of the literal.
    pub(super) fn offset_in_string(&self, span: &Range<usize>, decoded: usize) -> usize {
        let literal = &self.text[span.clone()];
        if !literal.starts_with(['"', '\'']) || literal.starts_with("\"\"\"") || literal.starts_with("'''") {
            return span.start;
        }
        let escapes = literal.starts_with('"');
        let (mut raw, mut value) = (1, 0);
        while value < decoded {
            let Some(next) = literal[raw..].chars().next() else { break };
            let (raw_len, value_len) = match next {
                '\\' if escapes => escape_lengths(&literal[raw..]),
                plain => (plain.len_utf8(), plain.len_utf8()),
            };
            raw += raw_len;
            value += value_len;
        }
        span.start + raw
    }

    /// A failure of rendering that points into this file.
    pub(super) fn fault(&self, kind: &str, offset: usize, what: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Render, kind, what).on(self.place(offset).to_string())
    }
}

/// How long the escape sequence at the start of `text` is, and how many bytes of UTF-8 it stands for.
fn escape_lengths(text: &str) -> (usize, usize) {
    let hex = |from: usize, digits: usize| {
        text.get(from..from + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0)
    };
    let width = |code: u32| char::from_u32(code).map_or(3, char::len_utf8);
    match text.as_bytes().get(1) {
        // JSON writes what is beyond the basic plane as two escapes.
        Some(b'u') if (0xD800..0xDC00).contains(&hex(2, 4)) => (12, 4),
        Some(b'u') => (6, width(hex(2, 4))),
        Some(b'U') => (10, width(hex(2, 8))),
        Some(b'x') => (4, width(hex(2, 2))),
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_1() {
        let source = Source::new("a.json", "{\n \"ä\": 1\r\n}");
        assert_eq!(source.place(0).to_string(), "a.json:1:1");
        assert_eq!(source.place(source.text.find(':').unwrap()).to_string(), "a.json:2:5");
        // In the middle of "ä", and beyond the end.
        assert_eq!(source.place(5).to_string(), "a.json:2:3");
        assert_eq!(source.place(99).to_string(), "a.json:3:2");
    }

    #[test]
    fn escapes_do_not_shift_places() {
        for literal in [
            r#""aX""#,
            r#""\nX""#,
            r#""\"X""#,
            r#""\u003cX""#,
            r#""\u00e4X""#,
            r#""\ud83d\ude00X""#,
            "\"ä\\\\X\"",
        ] {
            let source = Source::new("f", literal);
            let value: String = serde_json::from_str(literal).unwrap();
            let offset = source.offset_in_string(&(0..literal.len()), value.find('X').unwrap());
            assert_eq!(&literal[offset..=offset], "X", "{literal}");
        }
    }

    #[test]
    fn literal_strings_of_toml_have_no_escapes() {
        let source = Source::new("f", r"'\nX'");
        assert_eq!(source.offset_in_string(&(0..5), 2), 3);
        let long = Source::new("f", "\"\"\"\nX\"\"\"");
        assert_eq!(long.offset_in_string(&(0..8), 0), 0);
    }
}
