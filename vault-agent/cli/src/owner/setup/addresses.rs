//! Under which addresses others reach this host: those of its networks first, then those of its
//! VPNs; public ones only on request, those of bridges and containers never. The choice is pure;
//! reading the interfaces stands at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result};

use host::hint::hinted;

/// Most addresses that are chosen: a setup line and an entry of the log take no more.
const MOST: usize = 8;

/// What VPN interfaces are called.
const VPN: [&str; 9] = ["wg", "tun", "tap", "tailscale", "zt", "ppp", "nebula", "utun", "wt"];

/// What interfaces are called that lead into containers and virtual machines of this very host.
const INSIDE: [&str; 14] = [
    "docker", "br-", "virbr", "veth", "cni", "flannel", "cali", "podman", "lxcbr", "lxdbr",
    "incusbr", "vmnet", "vboxnet", "kube",
];

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, e.g. `enp3s0`.
    pub name: String,
    pub address: IpAddr,
    /// Whether it is a bridge that no network card of this host is part of.
    pub is_inner_bridge: bool,
    /// Whether the kernel says that it is a tunnel.
    pub is_tunnel: bool,
}

/// What a kind of address is to agents, in the order in which they try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Lan,
    Vpn,
    Public,
}

/// An address for agents, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub address: IpAddr,
    /// The interface.
    pub name: String,
}

/// Chooses what agents are told, of the addresses that `heard` are listened on; with `public`,
/// those of the internet too.
///
/// # Errors
/// If nothing is left, with the way out.
pub fn choose(
    interfaces: &[Interface],
    public: bool,
    heard: impl Fn(IpAddr) -> bool,
) -> Result<Vec<Chosen>> {
    let heard = interfaces.iter().filter(|it| heard(it.address));
    let mut kinds: Vec<(Kind, &Interface)> = heard.filter_map(|it| Some((kind(it)?, it))).collect();
    // One address of each interface and kind: IPv4 where there is one, as it changes less often.
    kinds.sort_by_key(|(kind, it)| (*kind, it.address.is_ipv6()));
    let mut chosen: Vec<(Kind, &Interface)> = Vec::new();
    for (kind, it) in kinds.iter().filter(|(kind, _)| public || *kind != Kind::Public) {
        let same = |(other, known): &(Kind, &Interface)| {
            other == kind && known.name == it.name && it.address.is_ipv6()
        };
        if !chosen.iter().any(same) {
            chosen.push((*kind, it));
        }
    }
    chosen.truncate(MOST);
    if !chosen.is_empty() {
        let told =
            |(_, it): (Kind, &Interface)| Chosen { address: it.address, name: it.name.clone() };
        return Ok(chosen.into_iter().map(told).collect());
    }
    match kinds.first() {
        Some((_, it)) => Err(hinted(
            format!("this host has public addresses only, such as {} ({})", it.address, it.name),
            "pass `--public` if the others are to reach it over the internet, which is safe; or \
             set up a VPN first",
        )),
        None => Err(hinted(
            "this host has no address that others could reach",
            "connect it to a network, or name one with `--address HOST`",
        )),
    }
}

/// Tells what an address is; `None` for one that others do not reach.
fn kind(it: &Interface) -> Option<Kind> {
    let starts = |names: &[&str]| names.iter().any(|name| it.name.starts_with(name));
    let is_usable = match it.address {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()),
    };
    if !is_usable || it.is_inner_bridge || starts(&INSIDE) {
        return None;
    }
    Some(match it.address {
        _ if it.is_tunnel || starts(&VPN) => Kind::Vpn,
        // Of Tailscale, or of a provider whose customers do not reach each other.
        IpAddr::V4(ip) if is_shared(ip) => Kind::Public,
        IpAddr::V4(ip) if ip.is_private() => Kind::Lan,
        IpAddr::V6(ip) if is_unique_local(ip) => Kind::Lan,
        IpAddr::V4(_) | IpAddr::V6(_) => Kind::Public,
    })
}

/// 100.64.0.0/10 (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

/// fc00::/7 (RFC 4193).
fn is_unique_local(ip: Ipv6Addr) -> bool {
    ip.octets()[0] & 0xfe == 0xfc
}

/// Tells whether a listener of `[::]` takes connections over IPv4 as well, as the kernel is set.
pub fn is_dual_stack() -> bool {
    let only = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only");
    only.is_ok_and(|only| only.trim() == "0")
}

/// Reads the interfaces of this host.
pub fn read() -> Result<Vec<Interface>> {
    let all = if_addrs::get_if_addrs().context("reading the network interfaces")?;
    let described = |it: if_addrs::Interface| Interface {
        is_inner_bridge: is_inner_bridge(&it.name),
        is_tunnel: is_tunnel(&it.name),
        address: it.ip(),
        name: it.name,
    };
    Ok(all.into_iter().map(described).collect())
}

/// A bridge with a network card in it is how its host is on the network.
fn is_inner_bridge(name: &str) -> bool {
    let folder = Path::new("/sys/class/net").join(name);
    let Ok(ports) = folder.join("brif").read_dir() else { return false };
    !ports
        .flatten()
        .any(|port| Path::new("/sys/class/net").join(port.file_name()).join("device").exists())
}

/// Tells whether packets have no hardware address there (`ARPHRD_NONE`), as in WireGuard and tun.
fn is_tunnel(name: &str) -> bool {
    let kind = std::fs::read_to_string(format!("/sys/class/net/{name}/type"));
    kind.is_ok_and(|kind| kind.trim() == "65534")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        let address = address.parse().unwrap();
        Interface { name: name.to_owned(), address, is_inner_bridge: false, is_tunnel: false }
    }

    /// Checks which addresses are chosen of `name address` pairs.
    fn check(pairs: &[(&str, &str)], public: bool, expected: &[&str]) {
        let all: Vec<_> = pairs.iter().map(|(name, ip)| interface(name, ip)).collect();
        let chosen = choose(&all, public, |_| true).unwrap();
        let shown: Vec<String> = chosen.iter().map(|it| it.address.to_string()).collect();
        assert_eq!(shown, expected, "{pairs:?}");
    }

    const HOME: [(&str, &str); 9] = [
        ("lo", "127.0.0.1"),
        ("wg0", "10.8.0.3"),
        ("docker0", "172.17.0.1"),
        ("br-5f2c", "172.18.0.1"),
        ("veth12", "192.168.99.1"),
        ("enp3s0", "192.168.17.1"),
        ("enp3s0", "fe80::1"),
        ("enp3s0", "2001:db8::5"),
        ("enp3s0", "fd00::5"),
    ];

    #[test]
    fn the_lan_comes_before_the_vpn_and_containers_never() {
        check(&HOME, false, &["192.168.17.1", "10.8.0.3"]);
        check(&HOME, true, &["192.168.17.1", "10.8.0.3", "2001:db8::5"]);
        check(
            &[("tailscale0", "100.101.1.2"), ("eth0", "10.0.0.2")],
            false,
            &["10.0.0.2", "100.101.1.2"],
        );
        check(&[("eth0", "fd00::7")], false, &["fd00::7"]);
        check(&[("eth0", "203.0.113.5"), ("wg0", "10.8.0.1")], false, &["10.8.0.1"]);
        check(&[("eth0", "203.0.113.5"), ("wg0", "10.8.0.1")], true, &["10.8.0.1", "203.0.113.5"]);
    }

    #[test]
    fn a_bridge_counts_only_with_a_network_card_in_it() {
        let mut bridge = interface("vmbr0", "192.168.17.9");
        assert_eq!(choose(std::slice::from_ref(&bridge), false, |_| true).unwrap().len(), 1);
        bridge.is_inner_bridge = true;
        assert!(choose(&[bridge], true, |_| true).is_err());
    }

    #[test]
    fn a_tunnel_by_any_name_comes_after_the_lan() {
        let tunnel = Interface { is_tunnel: true, ..interface("home", "10.9.0.2") };
        let chosen = choose(&[tunnel, interface("eth1", "10.0.0.2")], false, |_| true).unwrap();
        assert_eq!((chosen[0].name.as_str(), chosen[1].name.as_str()), ("eth1", "home"));
    }

    #[test]
    fn a_host_that_nobody_reaches_is_told_the_way_out() {
        let fault = |pairs: &[(&str, &str)]| {
            let all: Vec<_> = pairs.iter().map(|(name, ip)| interface(name, ip)).collect();
            let fault = choose(&all, false, |_| true).unwrap_err();
            (fault.to_string(), host::hint::hint(&fault).unwrap())
        };
        let (text, hint) = fault(&[("eth0", "203.0.113.5")]);
        assert_eq!(text, "this host has public addresses only, such as 203.0.113.5 (eth0)");
        assert!(hint.contains("`--public`"), "{hint}");
        let (text, hint) = fault(&[("lo", "127.0.0.1"), ("docker0", "172.17.0.1")]);
        assert_eq!(text, "this host has no address that others could reach");
        assert!(hint.contains("`--address HOST`"), "{hint}");
    }

    #[test]
    fn many_addresses_are_cut_to_what_a_line_takes() {
        let all: Vec<_> =
            (1..20).map(|n| interface(&format!("eth{n}"), &format!("10.0.{n}.2"))).collect();
        assert_eq!(choose(&all, false, |_| true).unwrap().len(), MOST);
    }

    #[test]
    fn this_hosts_interfaces_are_read() {
        assert!(read().unwrap().iter().any(|it| it.address.is_loopback()));
    }
}
