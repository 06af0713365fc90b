//! An answer to a connection that is not served. It says why in one line, and nothing of what the client sends is looked at.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::peer_user::PeerUser;

/// A client that sends its request gets this long: some take an answer that comes before for a fault.
const REQUEST: Duration = Duration::from_secs(2);
/// What it sends after the answer is thrown away for this long: closing earlier would take the answer from it.
const READ: Duration = Duration::from_secs(1);
/// So much is thrown away at the most.
const MOST_BYTES: usize = 256 * 1024;

/// What is answered.
#[derive(Debug)]
pub(super) struct Refusal {
    status: &'static str,
    more: &'static str,
    why: String,
}

impl Refusal {
    /// 403 for a connection of another user.
    pub(super) fn forbidden(why: &str, user: PeerUser) -> Self {
        Self { status: "403 Forbidden", more: "", why: format!("this connection is of {user}: {why}") }
    }

    /// 503 where there are too many.
    pub(super) fn too_many() -> Self {
        let why = "there are as many connections as there may be, and each has a call under way: try again";
        Self { status: "503 Service Unavailable", more: "Retry-After: 1\r\n", why: why.to_owned() }
    }

    fn text(&self) -> String {
        let Self { status, more, why } = self;
        let length = why.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{why}\n"
        )
    }

    /// Answers, and closes the connection.
    pub(super) async fn write_to(self, mut stream: TcpStream) {
        let mut left = MOST_BYTES;
        timeout(REQUEST, throw_away(&mut stream, &mut left, b"\r\n\r\n")).await.ok();
        let answer = async {
            stream.write_all(self.text().as_bytes()).await?;
            stream.shutdown().await?;
            throw_away(&mut stream, &mut left, b"").await;
            Ok::<_, std::io::Error>(())
        };
        // It is closed in any case.
        timeout(READ, answer).await.ok();
    }
}

/// Reads until what was read ends a head, or the client has nothing more to say, or has said too much.
async fn throw_away(stream: &mut TcpStream, left: &mut usize, end: &[u8]) {
    let mut piece = [0; 4096];
    let mut tail = Vec::new();
    while *left > 0 {
        let Ok(read @ 1..) = stream.read(&mut piece).await else { return };
        *left = left.saturating_sub(read);
        if end.is_empty() {
            continue;
        }
        tail.extend_from_slice(&piece[..read]);
        if tail.windows(end.len()).any(|window| window == end) {
            return;
        }
        tail.drain(..tail.len().saturating_sub(end.len()));
    }
}
