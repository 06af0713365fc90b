//! The events of an event stream: with a bound, and without what would end the reader of the stream too early.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use reqwest::Response;
use sse_stream::{Error, Sse, SseStream};

use super::http::ANSWER_BYTES;
use crate::client;

/// The shortest wait before a stream is asked for again, whatever the server says: `retry: 0` must not keep us busy.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
/// The longest such wait.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long a server wants us to wait that says `retry: MS`, within reason.
pub(super) fn retry(ms: u64) -> Duration {
    Duration::from_millis(ms).clamp(SHORTEST_RETRY, LONGEST_RETRY)
}

/// Why a stream ended before its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection did, for this reason.
    Off(String),
    /// An event is longer than [`ANSWER_BYTES`].
    TooLong,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off(why) => f.write_str(why),
            Self::TooLong => write!(f, "an event is longer than {ANSWER_BYTES} bytes"),
        }
    }
}

impl std::error::Error for Broken {}

/// The events of a response. A line that cannot be understood is left out, as the rules for event streams say of fields that
/// are not known: the reader gives up on one, together with all that came in one piece with it, so it gets line by line.
pub(super) fn events(response: Response) -> impl Stream<Item = Result<Sse, Broken>> {
    let lines = Lines { response, rest: Bytes::new(), event_bytes: 0, line_is_empty: true };
    let pieces = stream::try_unfold(lines, async |mut lines| {
        Ok::<_, Broken>(lines.next().await?.map(|piece| (piece, lines)))
    });
    SseStream::from_bytes_stream(pieces).filter_map(|event| {
        future::ready(match event {
            Ok(event) => Some(Ok(event)),
            Err(Error::Body(why)) => Some(Err(match why.downcast::<Broken>() {
                Ok(broken) => *broken,
                Err(other) => Broken::Off(other.to_string()),
            })),
            Err(_) => None,
        })
    })
}

/// The bytes of a response, cut at the ends of lines.
struct Lines {
    response: Response,
    rest: Bytes,
    /// So long is what came of an event so far.
    event_bytes: usize,
    line_is_empty: bool,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        while self.rest.is_empty() {
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => return Ok(None),
                Err(error) => return Err(Broken::Off(client::root_cause(&error))),
            }
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let piece = self.rest.split_to(end.map_or(self.rest.len(), |end| end + 1));
        self.event_bytes += piece.len();
        if self.event_bytes > ANSWER_BYTES {
            return Err(Broken::TooLong);
        }
        self.line_is_empty &= piece.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if end.is_some() {
            // An empty line is the end of an event.
            if std::mem::replace(&mut self.line_is_empty, true) {
                self.event_bytes = 0;
            }
        }
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_wants_us_back_at_once_or_never_gets_us_in_between() {
        let waits = [0, 100, 1_500, u64::MAX].map(retry);
        assert_eq!(waits, [SHORTEST_RETRY, SHORTEST_RETRY, Duration::from_millis(1_500), LONGEST_RETRY]);
    }
}
