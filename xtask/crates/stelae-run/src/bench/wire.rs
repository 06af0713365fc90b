//! HTTP/1.1 on one connection that stays open, as much of it as measuring a server on loopback needs.
//!
//! What the client takes is in every figure, so it does little; [`Http`](crate::http::Http), which everything else uses, opens
//! a connection for each exchange. Every read ends at its deadline.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::deadline::Deadline;

/// The kernel takes a zero for "no limit at all".
const SHORTEST: Duration = Duration::from_millis(1);
/// No answer of what is measured is as long.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    body: Body,
}

/// What is still to come of the body.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Nothing,
    Length(usize),
    /// The size of a chunk.
    Size,
    /// So much of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    AfterChunk,
    UntilTheEnd,
}

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header; its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body is an event stream.
    pub(super) fn is_events(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    fn body(&self) -> Result<Body, String> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(Body::Size);
        }
        match (self.header("content-length"), self.status) {
            (Some(length), _) => {
                length.parse().map(Body::Length).map_err(|_| "a length that is none".to_owned())
            }
            (None, 204 | 304) => Ok(Body::Nothing),
            (None, _) => Ok(Body::UntilTheEnd),
        }
    }
}

impl Wire {
    /// Opens a connection.
    pub(super) fn open(address: SocketAddr, deadline: Deadline) -> Result<Self, String> {
        let remaining = deadline.remaining();
        if remaining.is_zero() {
            return Err("no time left to connect".to_owned());
        }
        let stream = TcpStream::connect_timeout(&address, remaining).map_err(|error| error.to_string())?;
        // Two small packets of one exchange would otherwise wait for an acknowledgement in between.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { address, stream: BufReader::new(stream), body: Body::Nothing })
    }

    /// Sends a request, and reads the beginning of its answer. The body is to be read to its end before the next one.
    pub(super) fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &str,
        deadline: Deadline,
    ) -> Result<Head, String> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += "Content-Type: application/json\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let stream = self.stream.get_mut();
        let remaining = deadline.remaining().max(SHORTEST);
        stream.set_write_timeout(Some(remaining)).map_err(|error| error.to_string())?;
        stream.write_all(text.as_bytes()).map_err(|error| why(&error))?;
        let head = self.head(deadline)?;
        self.body = head.body()?;
        Ok(head)
    }

    fn head(&mut self, deadline: Deadline) -> Result<Head, String> {
        let line = self.raw_line(deadline)?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| format!("not an answer in HTTP/1.1: {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.raw_line(deadline)?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    /// The next line of the body, without its end; `None` when there is no more.
    pub(super) fn line(&mut self, deadline: Deadline) -> Result<Option<String>, String> {
        let mut line = Vec::new();
        loop {
            let Some(most) = self.available(deadline)? else {
                return if line.is_empty() { Ok(None) } else { text(line).map(Some) };
            };
            let there = &self.stream.buffer()[..most];
            let end = there.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(most, |end| end + 1);
            line.extend_from_slice(&there[..taken]);
            self.take(taken);
            bounded(&line)?;
            if end.is_some() {
                let kept = line.trim_ascii_end().len();
                line.truncate(kept);
                return text(line).map(Some);
            }
        }
    }

    /// The rest of the body.
    pub(super) fn rest(&mut self, deadline: Deadline) -> Result<String, String> {
        let mut body = Vec::new();
        while let Some(most) = self.available(deadline)? {
            body.extend_from_slice(&self.stream.buffer()[..most]);
            self.take(most);
            bounded(&body)?;
        }
        text(body)
    }

    /// How many bytes of the body are in the buffer, at least one; `None` at its end.
    fn available(&mut self, deadline: Deadline) -> Result<Option<usize>, String> {
        if self.body == Body::AfterChunk {
            self.raw_line(deadline)?;
            self.body = Body::Size;
        }
        if self.body == Body::Size {
            let size = self.raw_line(deadline)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| format!("not a chunk: {size:?}"))?;
            self.body = Body::Chunk(size);
            if size == 0 {
                self.raw_line(deadline)?;
                self.body = Body::Nothing;
            }
        }
        let most = match self.body {
            Body::Length(left @ 1..) | Body::Chunk(left) => left,
            Body::UntilTheEnd => usize::MAX,
            Body::Nothing | Body::Length(0) | Body::Size | Body::AfterChunk => return Ok(None),
        };
        match (self.fill(deadline)?, &self.body) {
            (0, Body::UntilTheEnd) => Ok(None),
            (0, _) => Err("connection closed in the middle of an answer".to_owned()),
            (there, _) => Ok(Some(there.min(most))),
        }
    }

    fn take(&mut self, count: usize) {
        self.stream.consume(count);
        match &mut self.body {
            Body::Chunk(left) if *left == count => self.body = Body::AfterChunk,
            Body::Length(left) | Body::Chunk(left) => *left -= count,
            Body::Nothing | Body::Size | Body::AfterChunk | Body::UntilTheEnd => {}
        }
    }

    /// A line outside of a body.
    fn raw_line(&mut self, deadline: Deadline) -> Result<String, String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if self.fill(deadline)? == 0 {
                return Err("connection closed without an answer".to_owned());
            }
            let end = self.stream.buffer().iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(self.stream.buffer().len(), |end| end + 1);
            line.extend_from_slice(&self.stream.buffer()[..taken]);
            self.stream.consume(taken);
            bounded(&line)?;
        }
        line.truncate(line.trim_ascii_end().len());
        text(line)
    }

    fn fill(&mut self, deadline: Deadline) -> Result<usize, String> {
        if self.stream.buffer().is_empty() {
            let remaining = deadline.remaining().max(SHORTEST);
            self.stream.get_ref().set_read_timeout(Some(remaining)).map_err(|error| error.to_string())?;
            self.stream.fill_buf().map_err(|error| why(&error))?;
        }
        Ok(self.stream.buffer().len())
    }
}

fn bounded(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MOST_BYTES { Err("an answer of more than 16 MiB".to_owned()) } else { Ok(()) }
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "an answer that is not UTF-8".to_owned())
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    /// A connection to somebody who says all of this, byte by byte, and then nothing; ends with the client.
    fn wire(answers: &'static str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in answers.as_bytes() {
                stream.write_all(&[*byte]).unwrap();
            }
            io::copy(&mut stream.take(1 << 20), &mut io::sink()).ok();
        });
        Wire::open(address, soon()).unwrap()
    }

    #[test]
    fn answers_follow_each_other_on_one_connection() {
        let mut wire = wire(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\ndata\r\n6;x=y\r\n: 1\n\nd\r\n3\r\n: 2\r\n0\r\n\r\n\
             HTTP/1.1 202 Accepted\r\nMcp-Session-Id: abc\r\ncontent-length: 0\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n",
        );
        let head = wire.exchange("POST", "/", &[], "{}", soon()).unwrap();
        assert!(head.is_events());
        let lines: Vec<_> = std::iter::from_fn(|| wire.line(soon()).unwrap()).collect();
        assert_eq!(lines, ["data: 1", "", "d: 2"]);
        let head = wire.exchange("POST", "/", &[], "{}", soon()).unwrap();
        assert_eq!((head.status, head.header("mcp-session-id")), (202, Some("abc")));
        assert_eq!(wire.rest(soon()).unwrap(), "");
        wire.exchange("POST", "/", &[], "{}", soon()).unwrap();
        assert_eq!(wire.rest(soon()).unwrap(), "hello");
        assert_eq!(wire.exchange("POST", "/", &[], "{}", soon()).unwrap().status, 204);
        assert_eq!(wire.rest(soon()).unwrap(), "");
    }

    #[test]
    fn silence_costs_the_deadline_only() {
        let mut wire = wire("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
        let short = Deadline::after(Duration::from_millis(50));
        wire.exchange("POST", "/", &[], "{}", soon()).unwrap();
        assert_eq!(wire.rest(short).unwrap_err(), "no answer in time");
    }
}
