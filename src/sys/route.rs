//! Asking the kernel where packets to an address go, rtnetlink(7).

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// The bytes of a message's two headers, `nlmsghdr` and `rtmsg`.
const HEADERS: usize = 16 + 12;
/// The place of `rtm_type` among them.
const TYPE: usize = 16 + 7;
/// `RTA_DST`: the address that is asked about.
const DESTINATION: u16 = 1;

/// Whether the kernel gives packets to that address to this machine itself: then a process here can have it as its
/// own, even when it stands on no interface ("AnyIP").
///
/// # Errors
/// The kernel does not answer.
pub fn is_local(address: IpAddr) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let request = question(address);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    match kind {
        Some(libc::RTM_NEWROUTE) if length >= HEADERS => Ok(answer[TYPE] == libc::RTN_LOCAL),
        // There is no way to it, so not to ourselves either.
        Some(kind) if i32::from(kind) == libc::NLMSG_ERROR && length >= 20 => {
            let errno =
                Errno::from_raw(-i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]));
            if [Errno::ENETUNREACH, Errno::EHOSTUNREACH].contains(&errno) {
                Ok(false)
            } else {
                Err(errno.into())
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, bytes) = match address.to_canonical() {
        IpAddr::V4(ip) => (AddressFamily::Inet, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AddressFamily::Inet6, ip.octets().to_vec()),
    };
    let family = u8::try_from(family as i32).unwrap_or(0);
    let attribute = u16::try_from(4 + bytes.len()).unwrap_or(0);
    let length = u32::try_from(HEADERS).unwrap_or(0) + u32::from(attribute);
    let mut message = Vec::new();
    // nlmsghdr: length, type, flags, sequence, sender.
    message.extend(length.to_ne_bytes());
    message.extend(libc::RTM_GETROUTE.to_ne_bytes());
    message.extend(u16::try_from(libc::NLM_F_REQUEST).unwrap_or(0).to_ne_bytes());
    message.extend([0; 8]);
    // rtmsg: family, and the destination's length in bits.
    message.extend([family, u8::try_from(bytes.len() * 8).unwrap_or(0)]);
    message.resize(HEADERS, 0);
    message.extend(attribute.to_ne_bytes());
    message.extend(DESTINATION.to_ne_bytes());
    message.extend(bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_addresses_are_local() {
        let local = |text: &str| is_local(text.parse().unwrap()).unwrap();
        assert!(local("127.0.0.1") && local("127.9.9.9") && local("::ffff:127.0.0.1"));
        assert!(!local("192.0.2.1") && !local("2001:db8::1"));
    }
}
