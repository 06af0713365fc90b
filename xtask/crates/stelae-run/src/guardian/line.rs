//! The life line between the two halves: a socket that is the inner half's standard input. It comes to its end when one
//! of them dies; until then it carries messages, one a line.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stelae_model::ExitCode;

use crate::files::{LastingId, Shared};
use crate::ports::Owner;

/// A half that does not take its messages within this is stopped, or dead.
const TAKES_AT_MOST: Duration = Duration::from_secs(2);
/// No message is as long; what is, is not one of ours.
const LONGEST_MESSAGE: u64 = 1024 * 1024;

/// What the outer half tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ToInner {
    /// A signal has come; the exit code says which.
    Signal(ExitCode),
    /// It is over, for this reason.
    End(String),
    /// What was asked.
    Answer(Box<Answer>),
}

/// What the inner half tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ToOuter {
    /// It is there.
    Hello,
    /// How long everything below it may take to be stopped.
    Limits { grace_ms: u64, ceiling_ms: u64 },
    /// Whatever happens, it will be over in so many milliseconds.
    OverIn(u64),
    /// It is about to end, with this exit code. (A status alone does not tell: what is between the halves in a namespace
    /// ends with 1 when the inner one was killed.)
    Ending(u8),
    /// A piece of the document that the verb prints, in their order.
    Document(String),
    /// This process, and what is its, stays on purpose.
    Release(i32),
    /// Something that only who is outside of the namespace can see.
    Ask(Question),
}

/// What has to be known of a run whose harness is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dead {
    /// Its id, which its processes carry as `STELAE_RUN_ID`.
    pub run: String,
    /// Its workspace, if that was not to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Utf8PathBuf>,
    /// The folder that was made there, once it is made: a server can rename it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<LastingId>,
}

impl Dead {
    /// A run that has not made its workspace yet, or has none.
    pub fn new(run: &str, workspace: Option<Utf8PathBuf>) -> Self {
        Self { run: run.to_owned(), workspace, folder: None }
    }
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Question {
    /// Who listens there?
    OwnerOf(SocketAddr),
    /// Which pid does a process of the namespace have outside of it?
    HostPid(i32),
    /// Which folder on the way to this path can others write to?
    SharedAt(Utf8PathBuf),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    OwnerOf(Option<Owner>),
    /// The pid that was asked about, and what it is outside.
    HostPid(i32, Option<i32>),
    SharedAt(Option<Shared>),
    /// Why it cannot be told.
    Unknown(String),
}

/// The end that is written to.
#[derive(Debug)]
pub(super) struct Speaker {
    line: Mutex<UnixStream>,
}

impl Speaker {
    pub(super) fn new(line: &UnixStream) -> io::Result<Self> {
        let line = line.try_clone()?;
        line.set_write_timeout(Some(TAKES_AT_MOST))?;
        Ok(Self { line: Mutex::new(line) })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other half is gone, or takes nothing.
    pub(super) fn say(&self, message: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(message)?;
        text.push('\n');
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.write_all(text.as_bytes())
    }
}

/// The end that is read from.
#[derive(Debug)]
pub(super) struct Listener {
    line: BufReader<io::Take<UnixStream>>,
}

impl Listener {
    pub(super) fn new(line: UnixStream) -> Self {
        Self { line: BufReader::new(line.take(LONGEST_MESSAGE)) }
    }

    /// The next message; `None` when the other half is gone, or says what nobody understands: that is no half of ours.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut text = String::new();
        let count = self.line.read_line(&mut text).ok().filter(|&count| count > 0)?;
        let left = self.line.get_ref().limit();
        self.line.get_mut().set_limit(left.saturating_add(count as u64));
        serde_json::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_order_and_then_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (speaker, mut listener) = (Speaker::new(&ours).unwrap(), Listener::new(theirs));
        speaker.say(&ToInner::Signal(ExitCode::Hangup)).unwrap();
        speaker.say(&ToInner::End("two\nlines".to_owned())).unwrap();
        assert!(matches!(listener.hear(), Some(ToInner::Signal(ExitCode::Hangup))));
        assert!(matches!(listener.hear(), Some(ToInner::End(why)) if why == "two\nlines"));
        drop((speaker, ours));
        assert!(listener.hear::<ToInner>().is_none());
    }

    #[test]
    fn what_is_no_message_is_the_end() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"{\"format\":\"c:\"}\n").unwrap();
        assert!(Listener::new(theirs).hear::<ToOuter>().is_none());
    }
}
