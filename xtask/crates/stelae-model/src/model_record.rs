//! What the scripted model of an agent CLI was asked, and what it answered: one JSON object a line. `stelae-gateway model`
//! and `with-model` write it; whoever judges an agent reads it, as the other side of the agent's own transcript.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::misbehaviour::Wrong;
use crate::{ExitCode, Failure};

/// So many characters of an answer are kept, to be looked at. An agent tells its model more than the text (Codex how long it took),
/// or other parts of it.
const ANSWER_CHARACTERS: usize = 2_000;

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// Counted from 0.
    pub number: usize,
    /// `POST /v1/responses`.
    pub route: String,
    /// The turn, if it is a request for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<usize>,
    /// The tools of the script's server that the agent offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<String>,
    /// What the agent says that the last call before this request came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// The tool that the model called, as its server names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// With these arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// What went wrong on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<Wrong>,
    /// The status of the answer.
    pub status: u16,
    /// Where the agent wanted to go, `HOST:PORT`, when that was not the model: a proxy variable brought it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// What was wrong with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Its body, whole (an agent's has some 100 KB a turn); no header, as keys stand there.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
    /// The record is full: so many bytes of body are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_left_out: Option<usize>,
}

/// What an agent told its model about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The call, counted from 0: the turn in which the model asked for it.
    pub call: usize,
    /// The text of it, its first 2,000 characters.
    pub text: String,
    /// Whether the agent calls it an error. Codex does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
}

impl Answered {
    /// An answer to a call, its text clipped.
    pub fn new(call: usize, text: &str, is_error: Option<bool>) -> Self {
        Self { call, text: text.chars().take(ANSWER_CHARACTERS).collect(), is_error }
    }
}

/// Reads a record.
///
/// # Errors
/// Exit 11, `model-record-unreadable`: a line that is no request, named by its number.
pub fn read_model_requests(path: &Utf8Path, text: &str) -> Result<Vec<ModelRequest>, Failure> {
    let read = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let what = "the record of the model's requests cannot be read";
            Failure::new(ExitCode::ExpectationNotMet, "model-record-unreadable", what)
                .on(format!("{path}:{}", index + 1))
                .because(error.to_string())
        })
    };
    text.lines().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let bare = ModelRequest { route: "POST /v1/x".to_owned(), status: 404, ..ModelRequest::default() };
        let full = ModelRequest {
            number: 1,
            turn: Some(1),
            offered: vec!["get_sum".to_owned()],
            answered: Some(Answered::new(0, "3", Some(false))),
            called: Some("get-sum".to_owned()),
            arguments: Some(json!({"a": 1})),
            wrong: Some(Wrong::Status(401)),
            outside: Some("a.invalid:443".to_owned()),
            fault: Some("why".to_owned()),
            body: json!({"stream": true}),
            body_left_out: Some(7),
            ..bare.clone()
        };
        let text: String = [&bare, &full].iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
        assert_eq!(read_model_requests(Utf8Path::new("r"), &text).unwrap(), [bare, full]);
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        let good = r#"{"number":0,"route":"r","status":200}"#;
        for bad in ["{}", r#"{"number":0,"route":"r","status":200,"extra":1}"#, r#"{"number":0,"#, ""] {
            let text = format!("{good}\n{bad}\n{good}\n");
            let failure = read_model_requests(Utf8Path::new("/r.jsonl"), &text).unwrap_err();
            assert_eq!(
                (failure.exit_code, failure.kind.as_str()),
                (ExitCode::ExpectationNotMet, "model-record-unreadable")
            );
            assert!(failure.to_string().contains("/r.jsonl:2"), "{failure}");
        }
    }

    #[test]
    fn a_long_answer_is_clipped_between_two_characters() {
        let answered = Answered::new(0, &"é".repeat(ANSWER_CHARACTERS + 1), None);
        assert_eq!(answered.text, "é".repeat(ANSWER_CHARACTERS));
    }
}
