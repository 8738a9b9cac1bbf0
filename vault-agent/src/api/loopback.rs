//! Whose the other end of a loopback connection is. The kernel is asked for this one socket (sock_diag(7)): its table of all
//! sockets, which does where it may not be asked, takes milliseconds to print.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Bytes of `struct nlmsghdr`.
const HEAD: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Where `struct inet_diag_msg` has the user and the inode, 0 for a socket that nobody holds any more.
const UID: usize = 64;
const INODE: usize = 68;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const ASKED: u16 = 1;

/// Returns the user that owns the other end of the connection from `peer` to `local`, if anybody still does.
pub(super) fn uid(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    ask(peer, local).unwrap_or_else(|_| {
        let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        find(&fs::read_to_string(table).ok()?, peer, local)
    })
}

fn ask(peer: SocketAddr, local: SocketAddr) -> rustix::io::Result<Option<u32>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = rustix::net::socket_with(kind.0, kind.1, flags, Some(SOCK_DIAG))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &request(peer, local), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    owner(&answer[..length.min(answer.len())])
}

/// Asks for the socket at `peer` that is connected to `local` (linux/inet_diag.h).
fn request(peer: SocketAddr, local: SocketAddr) -> [u8; HEAD + REQUEST] {
    let mut request = [0; HEAD + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &72_u32.to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &ASKED.to_ne_bytes());
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(HEAD, &family.as_raw().to_ne_bytes()[..1]);
    put(HEAD + 1, &[6]);
    // In any state.
    put(HEAD + 4, &u32::MAX.to_ne_bytes());
    put(HEAD + 8, &peer.port().to_be_bytes());
    put(HEAD + 10, &local.port().to_be_bytes());
    for (at, address) in [(HEAD + 12, peer), (HEAD + 28, local)] {
        match address.ip() {
            IpAddr::V4(ip) => put(at, &ip.octets()),
            IpAddr::V6(ip) => put(at, &ip.octets()),
        }
    }
    // Whatever its cookie.
    put(HEAD + 48, &[0xFF; 8]);
    request
}

/// Reads the answer: an error that says that there is no such socket is none.
fn owner(answer: &[u8]) -> rustix::io::Result<Option<u32>> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?))
    };
    let kind = answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    match (kind, word(HEAD + UID), word(HEAD + INODE)) {
        (Some(BY_FAMILY), Some(uid), Some(inode)) => Ok((inode != 0).then_some(uid)),
        (Some(ERROR), ..) => {
            let code = word(HEAD).map_or(0, u32::cast_signed);
            if code == -Errno::NOENT.raw_os_error() { Ok(None) } else { Err(Errno::IO) }
        }
        _ => Err(Errno::IO),
    }
}

/// Finds the connection from `peer` to `local` in the kernel's table (proc(5), `/proc/net/tcp`).
fn find(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let (peer, local) = (kernel_form(peer), kernel_form(local));
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let found = columns.next()? == peer && columns.next()? == local;
        let uid = if found { columns.nth(4)?.parse().ok()? } else { return None };
        (columns.nth(1)? != "0").then_some(uid)
    })
}

/// Prints an address as the kernel's tables do: 32-bit words of the machine's byte order.
fn kernel_form(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in bytes.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        let _ = write!(text, "{word:08X}");
    }
    let _ = write!(text, ":{:04X}", address.port());
    text
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connection(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (there, listener.accept().unwrap().0)
    }

    #[test]
    fn the_kernel_names_the_user() {
        for address in ["127.0.0.1:0", "127.8.9.10:0", "[::1]:0"] {
            let (there, here) = connection(address);
            let (peer, local) = (here.peer_addr().unwrap(), here.local_addr().unwrap());
            let us = rustix::process::geteuid().as_raw();
            assert_eq!(ask(peer, local), Ok(Some(us)), "{address}");
            let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
            assert_eq!(find(&fs::read_to_string(table).unwrap(), peer, local), Some(us));
            // Nobody holds it any more, or it is gone: in no case is it root's.
            drop(there);
            assert_eq!(ask(peer, local), Ok(None), "{address}");
            assert_eq!(find(&fs::read_to_string(table).unwrap(), peer, local), None);
        }
    }

    #[test]
    fn a_socket_that_is_not_there_has_no_owner() {
        let (_there, here) = connection("127.0.0.1:0");
        let local = here.local_addr().unwrap();
        assert_eq!(ask("127.0.0.1:1".parse().unwrap(), local), Ok(None));
        for broken in [&b""[..], &[0; 16], &[20, 0, 0, 0, 20, 0, 0, 0], &[0xFF; 40]] {
            assert_eq!(owner(broken), Err(Errno::IO));
        }
    }

    #[test]
    fn the_kernels_table_names_the_user() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:2008 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
            \x20  1: 0100007F:D431 0100007F:2008 01 00000000:00000000 00:00000000 00000000  1000        0 2 1\n";
        let (peer, local) = ("127.0.0.1:54321".parse().unwrap(), "127.0.0.1:8200".parse().unwrap());
        assert_eq!(find(table, peer, local), Some(1000));
        assert_eq!(find(table, local, peer), None);
        assert_eq!(
            kernel_form("[::1]:8200".parse().unwrap()),
            "00000000000000000000000001000000:2008"
        );
    }
}
