//! A socket that says when something was read, and that gives up on a client that does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::registry::Connection;

/// A client that takes nothing at all of what there is for it for this long.
const STALLED: Duration = Duration::from_secs(60);
/// One that takes some of it, and has not once caught up for this long.
const BEHIND: Duration = Duration::from_secs(5 * 60);

pub(super) struct Timed {
    stream: TcpStream,
    connection: Arc<Connection>,
    stalled_limit: Duration,
    behind_limit: Duration,
    /// Since when there is more to write than the socket takes.
    behind_since: Option<Instant>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self::with_limits(stream, connection, STALLED, BEHIND)
    }

    fn with_limits(
        stream: TcpStream,
        connection: Arc<Connection>,
        stalled_limit: Duration,
        behind_limit: Duration,
    ) -> Self {
        Self { stream, connection, stalled_limit, behind_limit, behind_since: None, stalled: None }
    }

    /// What came of writing, unless it takes too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let now = Instant::now();
        let behind_since = *self.behind_since.get_or_insert(now);
        let until = (now + self.stalled_limit).min(behind_since + self.behind_limit);
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stalled.as_mut().poll(cx));
        self.connection.is_unread();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.connection.has_read();
        }
        polled
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when everything was written that there was.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.behind_since = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::registry::Registry;
    use super::*;
    use crate::peer_user::PeerUser;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60 * 60);

    async fn pair(stalled: Duration, behind: Duration) -> (Timed, TcpStream, Arc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let connection = Arc::new(Arc::new(Registry::new(1)).enter(PeerUser::Same).unwrap());
        (Timed::with_limits(stream, Arc::clone(&connection), stalled, behind), client, connection)
    }

    /// More than the buffers of a socket hold.
    async fn write_much(timed: &mut Timed) -> io::Result<()> {
        let writing = async {
            for _ in 0..64 {
                timed.write_all(&[0; 1024 * 1024]).await?;
            }
            timed.flush().await
        };
        tokio::time::timeout(Duration::from_secs(120), writing).await.expect("it ends")
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_and_one_that_reads_is_not() {
        let (mut timed, _client, connection) = pair(SHORT, LONG).await;
        assert_eq!(write_much(&mut timed).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(connection.was_unread());

        let (mut timed, mut client, connection) = pair(LONG, LONG).await;
        let reading = tokio::spawn(async move { client.read_to_end(&mut Vec::new()).await.unwrap() });
        write_much(&mut timed).await.unwrap();
        drop(timed);
        assert_eq!(reading.await.unwrap(), 64 * 1024 * 1024);
        assert!(!connection.was_unread());
    }

    #[tokio::test]
    async fn a_client_that_reads_a_little_now_and_then_is_given_up_too() {
        let (mut timed, mut client, connection) = pair(LONG, Duration::from_millis(200)).await;
        let reading = tokio::spawn(async move {
            let mut piece = vec![0; 256 * 1024];
            while client.read(&mut piece).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(SHORT).await;
            }
        });
        assert_eq!(write_much(&mut timed).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(connection.was_unread());
        drop(timed);
        reading.await.unwrap();
    }
}
