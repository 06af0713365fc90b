//! What the two halves of `with-model` tell each other: JSON over a socket pair, and descriptors with it.
//!
//! ```text
//! outside                            inside
//!    │ ◄───── Ready, listeners ─────── │   or Cannot, and it ends
//!    │ ─────── Go, stderr ───────────► │   the program is started
//!    │ ◄─────────── Over ───────────── │   nothing of it is left
//! ```
//! Nobody says two things in a row, so that one reading is one message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// So many descriptors can come with a message.
pub(super) const MOST_DESCRIPTORS: usize = 32;
/// So long can a message be.
const MOST_BYTES: usize = 16 * 1024;

/// What the half inside says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Inside {
    /// The program can be started. The sockets that listen in there come with it, in the order of the arguments.
    Ready,
    /// It cannot, and was not.
    Cannot { why: String },
    /// It was, and nothing of it is left.
    Over(Course),
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Course {
    /// Its own exit code, or 128 and the number of its signal.
    pub(super) exit_code: Option<u8>,
    pub(super) elapsed_ms: u64,
    /// What the kernel counted meanwhile; nothing where the network is everybody's.
    pub(super) no_route: Option<u64>,
    pub(super) lookups: Option<u64>,
}

/// What the half outside says: start it. The standard error of the program comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go;

/// One end of the line.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

impl Line {
    /// A new line: our end, and what is to be the other half's standard input.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    /// The end that is this process's standard input. What this process starts has another one, and does not inherit it.
    pub(super) fn of_stdin() -> io::Result<Self> {
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // A socket, and nothing else that could be waited for in vain.
        line.peer_addr()?;
        Ok(Self(line))
    }

    /// Says something. The other end has room for it, or is gone.
    pub(super) fn say(&self, message: &impl Serialize, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        // The space for them has some to spare, for alignment: it would take one more than the other end is ready for.
        if with.len() > MOST_DESCRIPTORS {
            return Err(io::Error::other("more descriptors than a message can carry"));
        }
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
            return Err(io::Error::other("no space for the descriptors"));
        }
        let sent =
            retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::empty()))?;
        if sent == text.len() { Ok(()) } else { Err(io::Error::other("the message is too long")) }
    }

    /// Hears what the other end says next, and what comes with it.
    ///
    /// # Errors
    /// `UnexpectedEof`: it is gone. `WouldBlock`: it says nothing for so long. It says something else.
    pub(super) fn hear<T: DeserializeOwned>(&self, at_most: Duration) -> io::Result<(T, Vec<OwnedFd>)> {
        self.0.set_read_timeout(Some(at_most))?;
        let mut text = vec![0; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let heard = retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut with = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                with.extend(descriptors);
            }
        }
        if heard.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((serde_json::from_slice(&text[..heard.bytes])?, with))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn pair() -> (Line, Line) {
        let (ours, theirs) = Line::new().unwrap();
        (ours, Line(theirs.into()))
    }

    #[test]
    fn sockets_come_in_the_order_in_which_they_were_sent() {
        let (ours, theirs) = pair();
        let listeners: Vec<_> =
            (0..MOST_DESCRIPTORS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        theirs.say(&Inside::Ready, &fds).unwrap();
        let (said, came) = ours.hear::<Inside>(SOON).unwrap();
        let addresses = |listeners: &[TcpListener]| -> Vec<_> {
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
        };
        let came: Vec<_> = came.into_iter().map(TcpListener::from).collect();
        assert!(matches!(said, Inside::Ready));
        assert_eq!(addresses(&came), addresses(&listeners));
        drop(listeners);
        TcpStream::connect(came[0].local_addr().unwrap()).unwrap();
        let (extra, too_many) = (ours.0.as_fd(), vec![ours.0.as_fd(); MOST_DESCRIPTORS]);
        assert!(theirs.say(&Go, &[too_many, vec![extra]].concat()).is_err());
    }

    #[test]
    fn silence_an_end_and_nonsense_are_told_apart() {
        let (ours, theirs) = pair();
        let kind = |ours: &Line, at_most| ours.hear::<Go>(at_most).unwrap_err().kind();
        assert_eq!(kind(&ours, Duration::from_millis(1)), io::ErrorKind::WouldBlock);
        (&theirs.0).write_all(b"nonsense").unwrap();
        assert_eq!(kind(&ours, SOON), io::ErrorKind::InvalidData);
        drop(theirs);
        assert_eq!(kind(&ours, SOON), io::ErrorKind::UnexpectedEof);
    }
}
