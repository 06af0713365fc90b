//! The gateway's own account of the calls that it was given: one JSON object a line. `stelae-gateway serve --calls` writes
//! it, and whoever judges an agent holds it against what that agent says that it did.
//!
//! A line says the number of its call, and every call that ended has one, whether its line could be written or not. Two
//! gateways that write into one file, a line that is lost or was taken out, are seen by that. A line without its end is none:
//! its writer was killed over it, and before its client had an answer.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::shortened;
use crate::{ExitCode, Failure};

/// Arguments that are longer, as JSON, are left out of a line.
pub const LONGEST_ARGUMENTS: usize = 64 * 1024;
/// What stands in their place, with the number of bytes that they have.
const CUT: &str = "stelae:cut";
/// Characters of a name or a message that are kept.
const LONGEST_TEXT: usize = 1_000;

/// One call of a tool, as the gateway saw it end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayCall {
    /// Which call it is, counted from 0 in the order in which they ended, over all starts of the gateway. As no line is
    /// missing, it is its place in the file, too.
    pub number: u64,
    /// Who asked: `clientInfo` of the MCP session, as "name version". What a client calls itself is its own word.
    pub client: Option<String>,
    /// The server that it was given to; none when nobody has the tool, or its server is away.
    pub server: Option<String>,
    /// The tool, as the client called it; empty when it named none.
    pub tool: String,
    /// The arguments as the client sent them, `null` when it sent none; `{"stelae:cut": BYTES}` in place of more than
    /// [`LONGEST_ARGUMENTS`].
    pub arguments: Value,
    /// How it ended.
    pub outcome: CallOutcome,
    /// The message of an error, or what a tool says of its own; shortened.
    pub why: Option<String>,
    /// Milliseconds from the request to its end.
    pub elapsed_ms: u64,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallOutcome {
    /// The tool answered, and did not say `isError`.
    Answered,
    /// The tool answered with `isError`.
    ToolError,
    /// There is no answer of the tool: a JSON-RPC error, a server that is gone or too late, an unknown tool, a cancelled call.
    Failed,
}

impl GatewayCall {
    /// A call that begins. What is too long for a line is cut here, so that no call makes one of megabytes.
    pub fn begun(client: Option<String>, tool: &str, arguments: Option<&Value>) -> Self {
        let arguments = arguments.map_or(Value::Null, |arguments| match arguments.to_string().len() {
            bytes if bytes > LONGEST_ARGUMENTS => json!({ CUT: bytes }),
            _ => arguments.clone(),
        });
        Self {
            number: 0,
            client: client.map(|client| shortened(&client, LONGEST_TEXT)),
            server: None,
            tool: shortened(tool, LONGEST_TEXT),
            arguments,
            outcome: CallOutcome::Failed,
            why: None,
            elapsed_ms: 0,
        }
    }

    /// It has ended, so long after it began.
    pub fn end(&mut self, outcome: CallOutcome, why: Option<&str>, elapsed: Duration) {
        self.outcome = outcome;
        self.why = why.map(|why| shortened(why, LONGEST_TEXT));
        self.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    }

    /// Its line, with the end of the line.
    ///
    /// # Errors
    /// What serde_json says; these types give it no reason.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|line| line + "\n")
    }

    /// How many bytes the arguments had, if they were too long to be kept.
    pub fn cut(&self) -> Option<u64> {
        let only = self.arguments.as_object().filter(|all| all.len() == 1)?;
        only.get(CUT)?.as_u64()
    }
}

/// Whether a file that begins like this is such an account, or is about to be: a file of something else is not written into.
/// Its first line may be that of a later call, if the first ones are lost.
pub fn is_account(begins: &[u8]) -> bool {
    const HEAD: &[u8] = b"{\"number\":";
    let Some(rest) = begins.strip_prefix(HEAD) else { return HEAD.starts_with(begins) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(digits).is_none_or(|byte| digits > 0 && *byte == b',')
}

/// Reads such an account. `path` is what messages call it.
///
/// # Errors
/// Exit 11, `calls-unreadable`, with path and line: no such line, one that is missing before it, or one that is not in its
/// place.
pub fn read_calls(path: &str, text: &str) -> Result<Vec<GatewayCall>, Failure> {
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let read = lines.zip(0_u64..).map(|(line, place)| {
        let unreadable = |why: &dyn fmt::Display| {
            let what = "the gateway's account of its calls cannot be read";
            Failure::new(ExitCode::ExpectationNotMet, "calls-unreadable", what)
                .on(format!("{path}:{}", place + 1))
                .because(why.to_string())
        };
        let call: GatewayCall = serde_json::from_str(line).map_err(|error| unreadable(&error))?;
        match call.number.cmp(&place) {
            Ordering::Equal => Ok(call),
            Ordering::Greater => {
                let why =
                    format!("the line of call {place} is missing: this one is that of call {}", call.number);
                Err(unreadable(&why).hint("its gateway says in its log if it could not write it"))
            }
            Ordering::Less => {
                let why = format!("it says that it is call {}, and is call {place}", call.number);
                Err(unreadable(&why).hint("did two gateways write into one file?"))
            }
        }
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64) -> GatewayCall {
        GatewayCall {
            number,
            client: Some("c 1".to_owned()),
            server: None,
            tool: "t".to_owned(),
            arguments: json!({"b": 1.5, "a": ["ä\n"]}),
            outcome: CallOutcome::ToolError,
            why: None,
            elapsed_ms: 3,
        }
    }

    fn line(number: u64) -> String {
        call(number).to_line().unwrap()
    }

    fn refused(text: &str) -> Failure {
        read_calls("calls.jsonl", text).unwrap_err()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let written = "{\"number\":0,\"client\":\"c 1\",\"server\":null,\"tool\":\"t\",\"arguments\":{\"b\":1.5,\"a\":[\"ä\\n\"]},\
                       \"outcome\":\"tool-error\",\"why\":null,\"elapsed_ms\":3}\n";
        assert_eq!(line(0), written);
        assert_eq!(read_calls("p", &(line(0) + &line(1))).unwrap(), [call(0), call(1)]);
        assert_eq!(read_calls("p", "").unwrap(), []);
    }

    #[test]
    fn a_line_without_its_end_is_none_and_any_other_is_an_error_with_its_place() {
        let torn = line(1);
        for end in 0..torn.len() {
            let Some(torn) = torn.get(..end) else { continue };
            assert_eq!(read_calls("p", &(line(0) + torn)).unwrap(), [call(0)], "{torn}");
        }
        let failure = refused(&(line(0) + &torn[..20] + "\n" + &line(1)));
        assert_eq!((failure.exit_code.number(), failure.kind.as_str()), (11, "calls-unreadable"));
        assert_eq!(failure.on, ["calls.jsonl:2"]);
        assert_eq!(refused("\n").on, ["calls.jsonl:1"]);
        let unknown = line(0).replace("\"why\"", "\"reason\"");
        assert!(refused(&unknown).why[0].contains("unknown field `reason`"));
    }

    #[test]
    fn a_line_that_is_missing_or_there_twice_is_seen() {
        for (text, why) in [
            (line(1), "the line of call 0 is missing: this one is that of call 1"),
            (line(0) + &line(2), "the line of call 1 is missing: this one is that of call 2"),
            (line(0) + &line(0), "it says that it is call 0, and is call 1"),
        ] {
            let failure = refused(&text);
            // Whose fault it is: nothing is said of whoever called.
            assert_eq!(failure.what, "the gateway's account of its calls cannot be read");
            assert_eq!((failure.kind.as_str(), failure.why[0].as_str()), ("calls-unreadable", why));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = |length: usize| Value::from("x".repeat(length));
        // With its quotes it is just as long as it may be.
        let longest = long(LONGEST_ARGUMENTS - 2);
        let kept = GatewayCall::begun(None, "t", Some(&longest));
        assert_eq!((&kept.arguments, kept.cut()), (&longest, None));
        let text = "é".repeat(100_000);
        let mut call = GatewayCall::begun(Some(text.clone()), &text, Some(&long(LONGEST_ARGUMENTS - 1)));
        call.end(CallOutcome::Failed, Some(&text), Duration::from_millis(7));
        assert_eq!((call.cut(), call.elapsed_ms), (Some(65_537), 7));
        let line = call.to_line().unwrap();
        assert!(line.len() < 10_000);
        assert_eq!(read_calls("p", &line).unwrap(), [call]);
    }

    #[test]
    fn only_such_a_file_is_taken_for_one() {
        for account in ["", "{\"num", "{\"number\":", "{\"number\":1", &line(0), &line(17)] {
            assert!(is_account(account.as_bytes()), "{account}");
        }
        for other in ["root:x:0:0", "{}", "{\"number\":,", "{\"number\":\"1\"", "{\"number\":1}"] {
            assert!(!is_account(other.as_bytes()), "{other}");
        }
    }
}
