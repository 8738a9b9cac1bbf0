//! Noticing that the way to the server may be another one: the kernel says that links, addresses
//! or routes have changed, and a look at the routing table tells whether that matters. Nothing is
//! sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;
use tokio::time::sleep;

/// Groups of rtnetlink(7): links, and addresses and routes of both families.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// A change comes as a burst of messages.
const SETTLES: Duration = Duration::from_millis(100);
/// How often the routing table is looked at where the kernel tells nothing.
const LOOK: Duration = Duration::from_secs(5);
/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is the way to all the world.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Watches the ways to some addresses.
pub struct Network {
    /// Receives when something changes; none where a sandbox forbids netlink.
    events: Option<UnixDatagram>,
    to: Vec<IpAddr>,
    last: Ways,
    /// Whether something has changed that was not looked at yet.
    changed: bool,
}

/// This host's own address for each of some others, and which plugged-in links carry.
#[derive(Debug, PartialEq, Eq)]
struct Ways {
    sources: Vec<Option<IpAddr>>,
    links: BTreeMap<String, String>,
}

impl Network {
    /// Begins to watch, the ways to nobody in particular.
    pub fn watch() -> Self {
        let events = match subscribe() {
            Ok(events) => Some(events),
            Err(why) => {
                tracing::info!(%why, "changes of the network are noticed within seconds only");
                None
            }
        };
        Self { events, to: Vec::new(), last: ways(&[]), changed: false }
    }

    /// Watches the ways to these addresses, `host:port`, from now on.
    pub fn heed(&mut self, addresses: &[String]) {
        let literal = |address: &String| address.parse().map(|addr: SocketAddr| addr.ip());
        let mut to: Vec<IpAddr> = addresses.iter().flat_map(literal).collect();
        if to.len() < addresses.len() {
            to.extend(NOBODY);
        }
        if to != self.to {
            self.last = ways(&to);
            self.to = to;
        }
    }

    /// Waits until a way is another one than before. Nothing is lost when this is dropped.
    pub async fn changed(&mut self) {
        loop {
            if !self.changed {
                self.event().await;
                self.changed = true;
            }
            sleep(SETTLES).await;
            self.changed = false;
            let now = ways(&self.to);
            if now != self.last {
                tracing::info!("the network has changed");
                tracing::debug!(?now, was = ?self.last, "ways to the server");
                self.last = now;
                return;
            }
        }
    }

    /// Waits until the kernel has something to tell. What it is says the routing table: messages
    /// may be lost for want of room.
    async fn event(&self) {
        let Some(events) = &self.events else { return sleep(LOOK).await };
        let mut buffer = [0; 4 << 10];
        if events.recv(&mut buffer).await.is_err_and(|why| !is_overrun(&why)) {
            // Not in a hurry, should it be broken for ever.
            return sleep(LOOK).await;
        }
        while match events.try_recv(&mut buffer) {
            Ok(_) => true,
            Err(why) => is_overrun(&why),
        } {}
    }
}

/// Tells whether messages were lost; the error is told once.
fn is_overrun(why: &std::io::Error) -> bool {
    why.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

/// Opens a socket on which the kernel tells of changes. To the runtime it is one that receives
/// datagrams, of whatever family.
fn subscribe() -> std::io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UnixDatagram::from_std(socket.into())
}

fn ways(to: &[IpAddr]) -> Ways {
    Ways { sources: to.iter().map(|peer| source(*peer)).collect(), links: links() }
}

/// Returns the state of every link that is hardware: a cable that is pulled changes no route.
fn links() -> BTreeMap<String, String> {
    let Ok(folder) = std::fs::read_dir("/sys/class/net") else { return BTreeMap::new() };
    let found = folder.flatten().filter_map(|link| {
        let path = link.path();
        // Of containers there may be hundreds, each with a link of its own.
        path.join("device").exists().then_some(())?;
        let state = std::fs::read_to_string(path.join("operstate")).ok()?;
        Some((link.file_name().to_string_lossy().into_owned(), state))
    });
    found.collect()
}

/// Returns the address that this host would take to send to `peer`; none if there is no way.
pub fn source(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket looks the way up, and sends nothing (connect(2)).
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((peer, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_oneself_begins_where_it_ends() {
        for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 8, 9, 1)] {
            assert_eq!(source(own.into()), Some(Ipv4Addr::LOCALHOST.into()), "{own}");
        }
    }

    #[tokio::test]
    async fn only_ways_to_the_server_are_heeded() {
        let mut network = Network::watch();
        network.heed(&["127.0.0.1:8443".into(), "[::1]:8443".into()]);
        assert_eq!(network.to.len(), 2, "no names");
        network.heed(&["127.0.0.1:8443".into(), "rtx1080:8443".into()]);
        assert_eq!(network.to[1..], NOBODY, "a name may be anywhere");
        assert_eq!(network.last.sources[0], Some(Ipv4Addr::LOCALHOST.into()));
        // As if there had been none when this was last looked at.
        network.last.sources[0] = None;
        network.changed = true;
        network.changed().await;
        assert_eq!(network.last.sources[0], Some(Ipv4Addr::LOCALHOST.into()));
    }
}
