//! Env files: parsed, never executed.
//!
//! A line is empty, a `# comment`, or `[export] NAME=value`. A value is bare (ends at ` #` or the line's end),
//! 'single-quoted' (taken literally) or "double-quoted" (`\"`, `\\`, `\$`, `\n` and `${NAME}` are understood).
//! What a shell would run (`$(…)`, backticks) is an error, not a text.

use std::collections::BTreeMap;

use crate::{ExitCode, Failure};

/// One part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it stands.
    Text(String),
    /// `${NAME}`.
    Variable(String),
}

/// One `NAME=value` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The name.
    pub name: String,
    /// The value, its references not yet resolved.
    pub value: Vec<Piece>,
    /// Line, counted from 1.
    pub line: usize,
    /// Column of the name, in characters, counted from 1.
    pub column: usize,
    /// Column of the value; of the end of the line, if the value is empty.
    pub value_column: usize,
}

/// Parses the text of an env file; `path` is only for messages.
///
/// # Errors
/// Exit 20, with line and column: `env-file-syntax`, or `duplicate-variable` with both lines.
pub fn parse_env_file(path: &str, text: &str) -> Result<Vec<Assignment>, Failure> {
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let syntax = |Fault { column, why }| {
            Failure::new(
                ExitCode::Environment,
                "env-file-syntax",
                "an env file has a line that is not NAME=value",
            )
            .on(format!("{path}:{line}:{column}"))
            .because(why)
            .hint("env files are parsed, not executed: NAME=value, NAME='literal', NAME=\"with ${OTHER}\"")
        };
        let Some(assignment) = parse_line(raw, line).map_err(syntax)? else { continue };
        let Assignment { name, column, .. } = &assignment;
        if let Some(first) = seen.insert(name.clone(), line) {
            return Err(Failure::new(
                ExitCode::Environment,
                "duplicate-variable",
                format!("{name} is set twice in one env file"),
            )
            .on(format!("{path}:{line}:{column}"))
            .because(format!("it is set in line {first} already"))
            .hint("keep one of the two lines"));
        }
        assignments.push(assignment);
    }
    Ok(assignments)
}

/// What is wrong with a line, and where.
struct Fault {
    column: usize,
    why: String,
}

fn parse_line(raw: &str, line: usize) -> Result<Option<Assignment>, Fault> {
    let text = raw.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let text = text.strip_prefix("export ").map_or(text, str::trim_start);
    // `rest` is a part of `raw` that reaches to its end, but for the blanks there.
    let column_of = |rest: &str| {
        let before = raw.trim_end().len() - rest.trim_end().len();
        raw.get(..before).unwrap_or(raw).chars().count() + 1
    };
    let column = column_of(text);
    let fault = |why: String| Fault { column, why };
    let (name, value) = text.split_once('=').ok_or_else(|| fault("there is no `=`".to_owned()))?;
    if !is_name(name) {
        return Err(fault(format!("{name:?} is not a variable name")));
    }
    let value_column = column_of(value);
    let value = parse_value(value).map_err(|why| Fault { column: value_column, why })?;
    Ok(Some(Assignment { name: name.to_owned(), value, line, column, value_column }))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn parse_value(value: &str) -> Result<Vec<Piece>, String> {
    if let Some(rest) = value.strip_prefix('\'') {
        let (literal, after) = rest.split_once('\'').ok_or("a single quote is not closed")?;
        nothing_after(after)?;
        return Ok(vec![Piece::Text(literal.to_owned())]);
    }
    if let Some(rest) = value.strip_prefix('"') {
        let (inner, after) = split_double_quoted(rest)?;
        nothing_after(after)?;
        return pieces(inner, Escapes::Understood);
    }
    let bare = value.find(" #").map_or(value, |comment| &value[..comment]);
    pieces(bare.trim(), Escapes::Literal)
}

fn nothing_after(rest: &str) -> Result<(), String> {
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(())
    } else {
        Err(format!("{rest:?} follows the closing quote"))
    }
}

fn split_double_quoted(rest: &str) -> Result<(&str, &str), String> {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok((&rest[..at], &rest[at + 1..])),
            _ => {}
        }
    }
    Err("a double quote is not closed".to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    Understood,
    Literal,
}

/// Splits a text into literals and `${NAME}` references.
fn pieces(text: &str, escapes: Escapes) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if escapes == Escapes::Understood => literal.push(match chars.next() {
                Some('n') => '\n',
                Some(c @ ('"' | '\\' | '$')) => c,
                other => {
                    return Err(format!(
                        "`\\{}` is not an escape",
                        other.map_or(String::new(), String::from)
                    ));
                }
            }),
            '$' if chars.peek() == Some(&'{') => {
                chars.next();
                let name: String = chars.by_ref().take_while(|&c| c != '}').collect();
                if !is_name(&name) || !text.contains(&format!("${{{name}}}")) {
                    return Err(format!("`${{{name}` is not a closed reference to a variable"));
                }
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Variable(name));
            }
            '$' if chars.peek().is_some_and(|&c| c == '(' || c.is_ascii_alphabetic() || c == '_') => {
                return Err(
                    "only `${NAME}` is expanded; write `'$'` in single quotes for a dollar sign".to_owned()
                );
            }
            '`' => return Err("backticks are not executed; use single quotes for a literal one".to_owned()),
            c => literal.push(c),
        }
    }
    pieces.push(Piece::Text(literal));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

/// Splits a fallback of a declaration; those are ours, and a test checks them all.
pub(super) fn fallback_pieces(text: &str) -> Result<Vec<Piece>, String> {
    pieces(text, Escapes::Literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Vec<Piece> {
        parse_env_file(".env", line).unwrap().remove(0).value
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn values_are_bare_literal_or_double_quoted() {
        assert_eq!(value("A=1"), [text("1")]);
        assert_eq!(value("export A=1 2 # three"), [text("1 2")]);
        assert_eq!(value("A=a#b"), [text("a#b")]);
        assert_eq!(value("A='${B} `x`' # c"), [text("${B} `x`")]);
        assert_eq!(value(r#"A="x ${B}/\"\$y""#), [text("x "), Piece::Variable("B".into()), text("/\"$y")]);
        assert_eq!(value("A="), []);
    }

    #[test]
    fn what_a_shell_would_run_is_an_error() {
        for line in
            ["A=$(id)", "A=`id`", "A=$HOME", "A=\"$(id)\"", "A='x", "A=\"x", "A=${B", "A='x'y", "A", "1A=2"]
        {
            let column = if line.starts_with("A=") { 3 } else { 1 };
            let failure = parse_env_file("dir/.env", line).unwrap_err();
            assert_eq!(
                (failure.kind.as_str(), failure.on[0].as_str()),
                ("env-file-syntax", format!("dir/.env:1:{column}").as_str()),
                "{line}"
            );
        }
    }

    #[test]
    fn columns_are_those_of_name_and_value_in_characters() {
        for (line, columns) in [
            ("A=1", (1, 3)),
            ("  A=1  ", (3, 5)),
            ("export  A=1 # c", (9, 11)),
            ("\u{a0}A='ä'", (2, 4)),
            ("A=", (1, 3)),
        ] {
            let assignment = parse_env_file(".env", line).unwrap().remove(0);
            assert_eq!((assignment.column, assignment.value_column), columns, "{line:?}");
        }
    }

    #[test]
    fn duplicates_name_both_lines() {
        let failure = parse_env_file(".env", "A=1\n\n# c\nA=2\n").unwrap_err();
        assert_eq!(failure.kind, "duplicate-variable");
        assert_eq!(failure.on, [".env:4:1"]);
        assert_eq!(failure.why, ["it is set in line 1 already"]);
    }
}
