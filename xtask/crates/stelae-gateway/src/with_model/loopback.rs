//! Raises the one interface of a new network namespace: one message to the kernel, and no `ip` that may not be installed.

use std::io;

/// `lo` is the first interface of its namespace, always.
#[cfg(target_os = "linux")]
const LO: i32 = 1;

/// Raises loopback. From then on 127.0.0.0/8 and ::1 are ours, and no other address has a route.
///
/// # Errors
/// What the kernel says: EPERM for who may not.
#[cfg(target_os = "linux")]
pub(super) fn raise() -> io::Result<()> {
    use std::time::Duration;

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    };

    // The protocol 0, which is none, is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 512];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..length.min(answer.len())])
}

#[cfg(not(target_os = "linux"))]
pub(super) fn raise() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// RTM_NEWLINK, to be acknowledged: `struct nlmsghdr`, then `struct ifinfomsg`, in the machine's own order.
#[cfg(target_os = "linux")]
fn request() -> Vec<u8> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let header = [&LENGTH.to_ne_bytes()[..], &RTM_NEWLINK.to_ne_bytes(), &NLM_F_REQUEST_ACK.to_ne_bytes()];
    // Number and port of the message; family, padding and type of the interface.
    let nothing = [&[0; 8][..], &[0; 4]];
    let which = [&LO.to_ne_bytes()[..], &IFF_UP.to_ne_bytes(), &IFF_UP.to_ne_bytes()];
    [header.concat(), nothing.concat(), which.concat()].concat()
}

/// The answer is an error message, of which 0 is none.
#[cfg(target_os = "linux")]
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    const NLMSG_ERROR: u16 = 2;
    let strange = || io::Error::other("the kernel answers something else");
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(strange()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_length_that_it_says() {
        let request = request();
        assert_eq!(request.len(), 32);
        assert_eq!(u32::from_ne_bytes(request[..4].try_into().unwrap()), 32);
    }

    #[test]
    fn an_answer_is_read_for_its_error() {
        let answer = |kind: u16, error: i32| {
            let header = [&36u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
            [header, error.to_ne_bytes().to_vec()].concat()
        };
        acknowledged(&answer(2, 0)).unwrap();
        assert_eq!(acknowledged(&answer(2, -1)).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(acknowledged(&answer(3, 0)).is_err() && acknowledged(&[]).is_err());
    }
}
