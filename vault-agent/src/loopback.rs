//! Whose the other end of a loopback connection is: the kernel's tables of sockets name user and
//! inode (proc(5), `/proc/net/tcp`), and the process that has the inode open is its owner. Reading
//! them takes milliseconds: one look at a time, for all connections that wait for one.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// A connection: the caller's end, and the one here.
pub type Ends = (SocketAddr, SocketAddr);

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    /// `None` where this process may not see which files that user's processes have open.
    pub pid: Option<i32>,
}

/// Finds owners.
#[derive(Debug, Default)]
pub struct Owners {
    waiting: Mutex<Vec<(Ends, oneshot::Sender<Option<Owner>>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Owners {
    /// Returns who holds the caller's end of a connection, if anybody still does.
    pub async fn of(&self, ends: Ends) -> Option<Owner> {
        let (sender, found) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((ends, sender));
        let _turn = self.turn.lock().await;
        let all = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // Empty if the one before has looked for this connection as well.
        if !all.is_empty() {
            let look = tokio::task::spawn_blocking(move || {
                let (ends, senders): (Vec<Ends>, Vec<_>) = all.into_iter().unzip();
                for (sender, owner) in senders.into_iter().zip(look(&ends)) {
                    // A connection that has ended meanwhile does not wait for it.
                    let _ = sender.send(owner);
                }
            });
            let _ = look.await;
        }
        found.await.ok().flatten()
    }
}

/// Looks for the owners of connections, in their order.
fn look(connections: &[Ends]) -> Vec<Option<Owner>> {
    let mut sockets = HashMap::new();
    // A caller may reach an IPv4 address through an IPv6 socket.
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        sockets.extend(rows(&fs::read_to_string(table).unwrap_or_default()));
    }
    let socket = |(peer, local): &Ends| sockets.get(&(canonical(*peer), canonical(*local)));
    let found: Vec<_> = connections.iter().map(|ends| socket(ends).copied()).collect();
    let pids = holders(found.iter().flatten().map(|(_, inode)| *inode).collect());
    let owner = |(uid, inode)| Owner { uid, pid: pids.get(&inode).copied() };
    found.into_iter().map(|socket| socket.map(owner)).collect()
}

/// Reads user and inode of each socket of a table, by their own and the other address; those that
/// nobody holds any more have no inode and are left out.
fn rows(table: &str) -> impl Iterator<Item = (Ends, (u32, u64))> {
    table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, own, other, _, _, _, _, uid, _, inode, ..] = columns[..] else { return None };
        let inode = inode.parse().ok().filter(|inode| *inode != 0)?;
        Some(((address(own)?, address(other)?), (uid.parse().ok()?, inode)))
    })
}

/// Reads an address as the kernel prints it: 32-bit words of the machine's byte order, and the
/// port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let v4 = || <[u8; 4]>::try_from(&bytes[..]).ok().map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
    let v6 = || <[u8; 16]>::try_from(&bytes[..]).ok().map(|ip| IpAddr::from(Ipv6Addr::from(ip)));
    let ip = v4().or_else(v6)?;
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

/// Turns an IPv4 address that is mapped into IPv6 into itself; leaves out scope and flow.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the processes that hold sockets, by inode, as far as this process may see.
fn holders(mut inodes: Vec<u64>) -> HashMap<u64, i32> {
    let mut found = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if inodes.is_empty() {
            break;
        }
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        for file in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = match fs::read_link(file.path()) {
                Ok(target) => target,
                // One refusal stands for all files of the process.
                Err(why) if why.kind() == ErrorKind::PermissionDenied => break,
                Err(_) => continue,
            };
            if let Some(inode) = inode(&target)
                && let Some(at) = inodes.iter().position(|wanted| *wanted == inode)
            {
                found.insert(inodes.swap_remove(at), pid);
            }
        }
    }
    found
}

/// Reads the inode out of `socket:[4711]`.
fn inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Connects to `to` at a listener on `address`.
    fn connection(address: &str, to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let there = TcpStream::connect((to, port)).unwrap();
        (there, listener.accept().unwrap().0)
    }

    fn ends(here: &TcpStream) -> Ends {
        (here.peer_addr().unwrap(), here.local_addr().unwrap())
    }

    fn us() -> Option<Owner> {
        let pid = i32::try_from(std::process::id()).unwrap();
        Some(Owner { uid: rustix::process::geteuid().as_raw(), pid: Some(pid) })
    }

    #[test]
    fn the_kernel_names_user_and_process() {
        let pairs = [
            ("127.0.0.1", "127.0.0.1"),
            ("127.8.9.10", "127.8.9.10"),
            ("::1", "::1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
        ];
        let connections = pairs.map(|(address, to)| connection(address, to));
        let all: Vec<Ends> = connections.iter().map(|(_, here)| ends(here)).collect();
        assert_eq!(look(&all), [us(); 4]);
        for ((there, _here), ends) in connections.into_iter().zip(all) {
            // Nobody holds it any more, or it is gone: in no case is it root's.
            drop(there);
            assert_eq!(look(&[ends]), [None], "{ends:?}");
        }
    }

    #[test]
    fn a_socket_that_is_not_there_has_no_owner() {
        let (_there, here) = connection("127.0.0.1", "127.0.0.1");
        let (peer, local) = ends(&here);
        let nobody = ("127.0.0.1:1".parse().unwrap(), local);
        assert_eq!(look(&[nobody, (peer, local)]), [None, us()]);
    }

    #[tokio::test]
    async fn connections_that_wait_are_looked_for_together() {
        let open: Vec<_> = (0..40).map(|_| connection("127.0.0.1", "127.0.0.1")).collect();
        let owners = std::sync::Arc::new(Owners::default());
        let mut found = tokio::task::JoinSet::new();
        for (_, here) in &open {
            let (owners, ends) = (owners.clone(), ends(here));
            found.spawn(async move { owners.of(ends).await });
        }
        assert_eq!(found.join_all().await, [us(); 40]);
    }

    #[test]
    fn rows_are_read_as_the_kernel_prints_them() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:2008 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1\n\
            \x20  1: 0100007F:D431 0100007F:2008 01 00000000:00000000 00:00000000 00000000  1000        0 18 1\n\
            \x20  2: 0100007F:D432 0100007F:2008 06 00000000:00000000 00:00000000 00000000     0        0 0 1\n\
            \x20  3: odd\n";
        let found: Vec<_> = rows(table).collect();
        let ends = ("127.0.0.1:54321".parse().unwrap(), "127.0.0.1:8200".parse().unwrap());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], (ends, (1000, 18)));
        for (text, expected) in [
            ("00000000000000000000000001000000:2008", Some("[::1]:8200")),
            ("0000000000000000FFFF00000100007F:2008", Some("127.0.0.1:8200")),
            ("0100007F:2008x", None),
            ("0100007F", None),
        ] {
            assert_eq!(address(text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
        assert_eq!(inode(Path::new("socket:[4711]")), Some(4711));
        assert_eq!(inode(Path::new("/dev/null")), None);
    }
}
