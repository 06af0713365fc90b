//! What the answer of a call must be, or must not be.
//!
//! ```toml
//! result = [
//!     { json = "/words", equals = 4 },           # a value, by its JSON pointer (RFC 6901)
//!     { equals = "done\n" },                     # the whole text
//!     { matches = 'done in \d+ ms' },            # a pattern that fits the whole text
//!     { contains = "done" },                     # a part of the text
//!     { json = "/error", absent = true },        # there is no such value
//!     { not = { contains = "warning" } },
//! ]
//! ```
//! `json` looks into the structured content of an answer, and into its text where that is JSON; where an answer has both, both have
//! to be as expected. Numbers are compared by value: 3 and 3.0 are the same, 3 and 33 are not. A `not` needs something to look at:
//! an answer that is no JSON, or has no such value, meets neither `{ json = … }` nor `{ not = { json = … } }`.

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{fault_of_value, same};
use crate::failure::shortened;

/// An answer, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its texts, joined by line breaks.
    pub text: &'a str,
    /// Its structured content.
    pub structured: Option<&'a Value>,
}

/// One thing that is expected of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Expected {
    /// It must not be so.
    not: bool,
    /// What is looked at: the value at this JSON pointer; without one, the text.
    json: Option<String>,
    test: Test,
}

/// What is asked of it.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Value),
    Contains(String),
    Matches(String),
    Absent,
}

/// An expectation as a person writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    equals: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Written>>,
}

/// What is written in place of one that says too little or too much.
const ONE_OF: &str = "write one of `equals`, `contains`, `matches` and `absent`";

impl TryFrom<Written> for Expected {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { json, equals, contains, matches, absent, not } = written;
        let tests = [
            equals.map(Test::Equals),
            contains.map(Test::Contains),
            matches.map(Test::Matches),
            absent.map(|_| Test::Absent),
        ];
        let mut tests: Vec<Test> = tests.into_iter().flatten().collect();
        if let Some(inner) = not {
            if json.is_some() || !tests.is_empty() {
                return Err("what must not be is written inside of `not`, all of it".to_owned());
            }
            let inner = Self::try_from(*inner)?;
            if inner.not {
                return Err("a `not` in a `not` says nothing that cannot be said without them".to_owned());
            }
            return Ok(Self { not: true, ..inner });
        }
        let Some(test) = tests.pop() else {
            return Err(format!("nothing is expected of the answer: {ONE_OF}"));
        };
        if !tests.is_empty() {
            return Err(format!("this expects two things at once: {ONE_OF}, each in a table of its own"));
        }
        if absent == Some(false) {
            return Err(
                "`absent` is true, or is left out: write `not = { json = …, absent = true }`".to_owned()
            );
        }
        if test == Test::Absent && json.is_none() {
            return Err("`absent` needs `json`, which says what must not be there".to_owned());
        }
        Ok(Self { not: false, json, test })
    }
}

impl From<Expected> for Written {
    fn from(expected: Expected) -> Self {
        let mut written = Self { json: expected.json, ..Self::default() };
        match expected.test {
            Test::Equals(value) => written.equals = Some(value),
            Test::Contains(part) => written.contains = Some(part),
            Test::Matches(pattern) => written.matches = Some(pattern),
            Test::Absent => written.absent = Some(true),
        }
        match expected.not {
            true => Self { not: Some(Box::new(written)), ..Self::default() },
            false => written,
        }
    }
}

/// Answers that have nothing in common: a pattern that fits all of them says nothing.
const ANYTHING: [&str; 4] = ["a", "0 1", "{}", "\u{e9}!"];

impl Expected {
    /// That a text has this part.
    pub fn contains(part: impl Into<String>) -> Self {
        Self { not: false, json: None, test: Test::Contains(part.into()) }
    }

    /// The same, with every text in it changed by `fill`.
    ///
    /// # Errors
    /// What `fill` finds.
    pub fn filled<E>(&self, fill: &dyn Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        let test = match &self.test {
            Test::Equals(value) => Test::Equals(super::fill_value(value, fill)?),
            Test::Contains(part) => Test::Contains(fill(part)?),
            Test::Matches(pattern) => Test::Matches(fill(pattern)?),
            Test::Absent => Test::Absent,
        };
        Ok(Self { not: self.not, json: self.json.as_deref().map(fill).transpose()?, test })
    }

    /// What makes it no expectation, and what to write instead.
    pub fn fault(&self) -> Option<(String, &'static str)> {
        if let Some(pointer) = self.json.as_deref().filter(|pointer| !is_pointer(pointer)) {
            let why = format!("{pointer:?} is no JSON pointer");
            return Some((why, "a pointer is empty, or begins with `/`: \"/matches/0/path\""));
        }
        match &self.test {
            Test::Equals(Value::String(text)) if text.is_empty() && self.json.is_none() && !self.not => {
                Some(("an empty text is what everything without a text answers".to_owned(), PART))
            }
            Test::Equals(value) => fault_of_value(value),
            Test::Contains(part) if part.trim().is_empty() => {
                Some((format!("every text contains {part:?}, or nearly every one"), PART))
            }
            Test::Matches(pattern) => fault_of_pattern(pattern),
            Test::Contains(_) | Test::Absent => None,
        }
    }

    /// Whether an answer is as expected.
    ///
    /// # Errors
    /// What was expected, and what came.
    pub fn judge(&self, answer: Answer<'_>) -> Result<(), Vec<String>> {
        match &self.json {
            None => self.judge_value(&Value::String(answer.text.to_owned()), "the text"),
            Some(pointer) => self.judge_json(answer, pointer),
        }
    }

    fn judge_json(&self, answer: Answer<'_>, pointer: &str) -> Result<(), Vec<String>> {
        let of_text = serde_json::from_str::<Value>(answer.text).ok();
        // A text beside structured content may well be for people: "3" is one.
        let of_text = of_text.filter(|value| answer.structured.is_none() || !is_scalar(value));
        let documents: Vec<&Value> = answer.structured.into_iter().chain(&of_text).collect();
        if documents.is_empty() {
            let got = format!("got {:?}, which is no JSON", shortened(answer.text, SHOWN));
            return Err(vec![self.wanted(&self.name()), got]);
        }
        for document in documents {
            match (document.pointer(pointer), &self.test) {
                (None, Test::Absent) if !self.not => {}
                (None, _) => {
                    let got = format!("got {}", shortened(&document.to_string(), SHOWN));
                    return Err(vec![self.wanted(&self.name()), "there is no such value".to_owned(), got]);
                }
                (Some(_), Test::Absent) if self.not => {}
                (Some(value), _) => self.judge_value(value, &self.name())?,
            }
        }
        Ok(())
    }

    fn judge_value(&self, value: &Value, name: &str) -> Result<(), Vec<String>> {
        let holds = match (&self.test, value) {
            (Test::Equals(expected), value) => same(expected, value),
            (Test::Contains(part), Value::String(text)) => text.contains(part.as_str()),
            (Test::Matches(pattern), Value::String(text)) => {
                let pattern = whole(pattern).map_err(|why| vec![self.wanted(name), why])?;
                pattern.is_match(text)
            }
            (Test::Absent, _) => false,
            // Neither is there to look at, nor is it not as described.
            (Test::Contains(_) | Test::Matches(_), other) => {
                let got = format!("got {}, which is no text", shortened(&other.to_string(), SHOWN));
                return Err(vec![self.wanted(name), got]);
            }
        };
        if holds != self.not {
            return Ok(());
        }
        let shown = value.as_str().map_or_else(|| value.to_string(), |text| format!("{text:?}"));
        Err(vec![self.wanted(name), format!("got {}", shortened(&shown, SHOWN))])
    }

    fn name(&self) -> String {
        match self.json.as_deref() {
            None => "the text".to_owned(),
            Some("") => "the whole value".to_owned(),
            Some(pointer) => format!("the value at {pointer}"),
        }
    }

    fn wanted(&self, name: &str) -> String {
        let not = if self.not { "not " } else { "" };
        match &self.test {
            Test::Equals(value) => format!("expected {name} {not}to be {value}"),
            Test::Contains(part) => format!("expected {name} {not}to contain {part:?}"),
            Test::Matches(pattern) => {
                format!("expected {name} {not}to match {pattern:?}, from its first character to its last")
            }
            Test::Absent => format!("expected {name} {not}to be absent"),
        }
    }
}

/// Keeps a message readable when an answer is large.
const SHOWN: usize = 300;
const PART: &str = "name a part that only the right answer has; `{{ NONCE }}` is another in each run";

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn is_pointer(pointer: &str) -> bool {
    let mut escapes = pointer.split('~').skip(1);
    (pointer.is_empty() || pointer.starts_with('/'))
        && escapes.all(|after| after.starts_with('0') || after.starts_with('1'))
}

/// The pattern, from the first character of a text to its last.
fn whole(pattern: &str) -> Result<Regex, String> {
    let broken = |error: regex_lite::Error| format!("the pattern is wrong: {error}");
    // Alone first: `a)|(b` becomes good only between the parentheses.
    Regex::new(pattern).map_err(broken)?;
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(broken)
}

fn fault_of_pattern(pattern: &str) -> Option<(String, &'static str)> {
    let compiled = match whole(pattern) {
        Ok(compiled) => compiled,
        Err(why) => return Some((format!("{pattern:?}: {why}"), "the syntax is that of Rust's regex-lite")),
    };
    if pattern.is_empty() || compiled.is_match("") {
        return Some((format!("{pattern:?} also matches an empty text"), PART));
    }
    if ANYTHING.iter().all(|text| compiled.is_match(text)) {
        return Some((format!("{pattern:?} matches any text"), PART));
    }
    None
}
