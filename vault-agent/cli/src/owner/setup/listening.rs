//! Where the server listens, and where others are told to reach it: as said now; else as an earlier
//! run, or a configuration that is there, has it; else as the networks of this host are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};

use super::addresses::{self, Chosen, Interface};
use super::journal::Begun;
use super::places::Settings;
use super::plan::Address;
use host::hint::hinted;
use machine::identity::Pins;

/// The usual port, and how many above it are tried.
const USUAL: u16 = 8443;
const TRIED: u16 = 100;

/// What is said of it.
#[derive(Debug, Default, clap::Args)]
pub struct Said {
    /// Tell the other machines to reach the server here, in this order, instead of at the addresses
    /// of this host's networks and VPNs; repeatable
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "public")]
    address: Vec<String>,

    /// Tell them this host's public addresses too; without the right keys nobody gets in there
    #[arg(long)]
    public: bool,

    /// Have the server listen on this port [default: 8443, or the next one that is free]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

/// Where the server is.
#[derive(Debug)]
pub struct Listening {
    /// What it listens on.
    pub at: SocketAddr,
    /// Where others reach it.
    pub addresses: Vec<Address>,
}

impl Listening {
    /// Returns the addresses as `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(|address| address.at.clone()).collect()
    }
}

impl Said {
    /// Decides for a vault that is not made: what is said now wins.
    ///
    /// # Errors
    /// If no address is left, or the port cannot be used.
    pub fn unmade(&self, begun: Option<&Begun>, set: Option<&Settings>) -> Result<Listening> {
        if let Some(bad) = self.address.iter().find(|text| !is_address(text)) {
            let text = format!("`--address {bad}` is neither a host nor HOST:PORT");
            bail!(hinted(text, "write it as in 10.8.0.3, vault.lan or [fd00::5]:8443"));
        }
        let earlier = begun.map(|begun| (begun.port, &begun.addresses));
        let set_up = || set.map(|set| (set.listen.port(), &set.addresses));
        let (known_port, known) = earlier.or_else(set_up).unzip();
        let known = known.filter(|known| !known.is_empty() && !self.public);
        let said = if self.address.is_empty() { known } else { Some(&self.address) };
        let chosen = match said {
            Some(_) => Vec::new(),
            None => choose(&addresses::read()?, self.public, set)?,
        };
        let has_v6 = said.is_some_and(|said| said.iter().any(|text| is_v6(text)))
            || chosen.iter().any(|one| one.address.is_ipv6());
        let ip = match set.map(|set| set.listen.ip()) {
            Some(ip) if !ip.is_unspecified() || ip.is_ipv6() => ip,
            // A port that no address leads to by IPv6 stays shut there.
            Some(_) | None if has_v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Some(_) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let port = match (self.port, known_port) {
            (None, Some(known)) => known,
            (Some(said), Some(known)) if said == known => known,
            (wanted, _) => port(wanted, ip)?,
        };
        let addresses = match said {
            None => chosen.iter().map(|one| Address::of(one, port)).collect(),
            // Those of an earlier run have the port of that time.
            Some(said) => {
                let old = known_port.filter(|_| self.address.is_empty());
                said.iter().map(|text| Address::given(text, port).moved(old, port)).collect()
            }
        };
        Ok(Listening { at: SocketAddr::new(ip, port), addresses })
    }

    /// Returns where the server of a vault is that is made.
    ///
    /// # Errors
    /// If something else is said now, with how it is changed.
    pub fn made(
        &self,
        pins: &Pins,
        configured: &[String],
        listen: SocketAddr,
        [server, agent]: [&Path; 2],
    ) -> Result<Listening> {
        let known = || pins.addresses.iter().chain(configured);
        let is_known = |text: &String| {
            let at = Address::given(text, listen.port()).at;
            known().any(|known| *known == at)
        };
        if self.port.is_some_and(|port| port != listen.port()) || !self.address.iter().all(is_known)
        {
            bail!(hinted(
                format!(
                    "the vault is made: its server listens on {listen}, machines look for it at {}",
                    pins.addresses.join(", ")
                ),
                format!(
                    "leave `--address` and `--port` out; to change it, set `listen` in `{}` and \
                     restart the server, and set `server` in `{}`, here and on each other machine",
                    server.display(),
                    agent.display()
                ),
            ));
        }
        let addresses = pins.addresses.iter().map(|text| Address::given(text, listen.port()));
        Ok(Listening { at: listen, addresses: addresses.collect() })
    }
}

/// Chooses addresses that a server can be reached at that listens as configured, or as it likes.
fn choose(all: &[Interface], public: bool, set: Option<&Settings>) -> Result<Vec<Chosen>> {
    let dual = addresses::is_dual_stack();
    if let Some(set) = set {
        let listen = set.listen.ip();
        return addresses::choose(all, public, |address| hears(listen, address, dual));
    }
    let chosen = addresses::choose(all, public, |_| true)?;
    if !dual && chosen.iter().any(|one| one.address.is_ipv4()) {
        return addresses::choose(all, public, |address| address.is_ipv4());
    }
    Ok(chosen)
}

/// Returns the port that was asked for, else the usual one or the next that is free.
///
/// # Errors
/// If the one asked for is taken, or none is free.
fn port(wanted: Option<u16>, ip: IpAddr) -> Result<u16> {
    let free = |port: u16| TcpListener::bind((ip, port));
    match wanted {
        None => (USUAL..USUAL + TRIED).find(|port| free(*port).is_ok()).ok_or_else(|| {
            let text = format!("no port from {USUAL} to {} is free", USUAL + TRIED - 1);
            hinted(text, "name a free one with `--port N`")
        }),
        Some(port) => match free(port) {
            Ok(_) => Ok(port),
            Err(why) => bail!(hinted(
                format!("port {port} cannot be used: {why}"),
                format!("`ss -ltnp 'sport = {port}'` names who has it; or leave `--port` out"),
            )),
        },
    }
}

/// Tells whether a listener hears what comes to an address of this host.
fn hears(listen: IpAddr, address: IpAddr, dual: bool) -> bool {
    match listen {
        _ if !listen.is_unspecified() => listen == address,
        IpAddr::V4(_) => address.is_ipv4(),
        IpAddr::V6(_) => address.is_ipv6() || dual,
    }
}

/// Tells whether somebody has written a name or an address, with a port or without.
fn is_address(text: &str) -> bool {
    let at = Address::given(text, 1).at;
    at.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_host = match bare {
            Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(plain),
        };
        is_host && port.parse::<u16>().is_ok()
    })
}

/// Tells whether somebody has written an IPv6 address, with a port or without.
fn is_v6(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<Ipv6Addr>().is_ok() || text.parse::<SocketAddrV6>().is_ok()
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::time::Time;

    use super::*;

    fn said(address: &[&str], port: Option<u16>) -> Said {
        Said { address: address.iter().map(ToString::to_string).collect(), public: false, port }
    }

    fn begun(port: u16, addresses: &[&str]) -> Begun {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Begun::new(Time::from_micros(1), port, addresses)
    }

    fn settings(listen: &str) -> Settings {
        Settings { listen: listen.parse().unwrap(), addresses: vec!["nas:1".to_owned()] }
    }

    fn free() -> u16 {
        TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn what_is_said_now_wins_until_the_vault_is_made() {
        let (free, other) = (free(), free());
        let begun = begun(7, &["10.0.0.9:7", "nas:443"]);
        let check = |said: &Said, expected: &str| {
            let found = said.unmade(Some(&begun), Some(&settings("0.0.0.0:7"))).unwrap();
            let shown = format!("{} {}", found.at, found.addresses().join(" "));
            assert_eq!(shown, expected);
        };
        check(&said(&[], None), "0.0.0.0:7 10.0.0.9:7 nas:443");
        check(&said(&["10.0.0.2"], None), "0.0.0.0:7 10.0.0.2:7");
        check(&said(&["10.0.0.2"], Some(7)), "0.0.0.0:7 10.0.0.2:7");
        check(&said(&[], Some(free)), &format!("0.0.0.0:{free} 10.0.0.9:{free} nas:443"));
        check(&said(&["nas:7"], Some(other)), &format!("0.0.0.0:{other} nas:7"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "a b", ":8443", "nas:x", "nas:70000", "[nas]:1", "fd00::x", "10.0.0.2:"] {
            let fault = said(&[bad], None).unmade(None, None).unwrap_err().to_string();
            assert_eq!(fault, format!("`--address {bad}` is neither a host nor HOST:PORT"));
        }
    }

    #[test]
    fn a_configuration_that_is_there_is_obeyed() {
        let found = said(&[], None).unmade(None, Some(&settings("10.0.0.2:7"))).unwrap();
        assert_eq!(
            (found.at.to_string(), found.addresses()),
            ("10.0.0.2:7".into(), vec!["nas:1".into()])
        );
    }

    #[test]
    fn the_server_listens_on_what_others_are_told() {
        for (given, listens) in [
            ("10.0.0.2", "0.0.0.0"),
            ("nas", "0.0.0.0"),
            ("fd00::5", "::"),
            ("[fd00::5]", "::"),
            ("[fd00::5]:7", "::"),
        ] {
            let found = said(&[given], None).unmade(Some(&begun(7, &[])), None).unwrap();
            assert_eq!(found.at.ip().to_string(), listens, "{given}");
        }
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (listen, address, dual, heard) in [
            ("0.0.0.0", "10.0.0.2", true, true),
            ("0.0.0.0", "fd00::5", true, false),
            ("::", "fd00::5", true, true),
            ("::", "10.0.0.2", true, true),
            ("::", "10.0.0.2", false, false),
            ("10.0.0.2", "10.0.0.2", true, true),
            ("10.0.0.2", "10.0.0.3", true, false),
        ] {
            assert_eq!(hears(ip(listen), ip(address), dual), heard, "{listen} {address}");
        }
    }

    #[test]
    fn addresses_of_a_vault_that_is_made_are_not_changed_in_silence() {
        let pins = Pins {
            vault: Hash::ZERO,
            server: Vec::new(),
            name: "rtx1080".parse().unwrap(),
            addresses: vec!["10.0.0.9:7".to_owned()],
            checkpoint: None,
        };
        let places = ["/s/server.toml", "/a/agent.toml"].map(Path::new);
        let made = |said: &Said| {
            let configured = ["127.0.0.1:7".to_owned(), "10.0.0.3:7".to_owned()];
            said.made(&pins, &configured, "0.0.0.0:7".parse().unwrap(), places)
        };
        for same in [said(&[], None), said(&["10.0.0.9"], Some(7)), said(&["10.0.0.3:7"], None)] {
            assert_eq!(made(&same).unwrap().addresses(), ["10.0.0.9:7"]);
        }
        for other in [said(&["10.0.0.2"], None), said(&["10.0.0.9"], Some(8))] {
            let fault = made(&other).unwrap_err();
            let shown =
                host::hint::with_hint(host::hint::shown(&fault), host::hint::hint(&fault).unwrap());
            insta::allow_duplicates! {
                insta::assert_snapshot!(shown, @"
                the vault is made: its server listens on 0.0.0.0:7, machines look for it at 10.0.0.9:7
                hint: leave `--address` and `--port` out; to change it, set `listen` \
                in `/s/server.toml` and restart the server, and set `server` in `/a/agent.toml`, here and on each other machine
                ");
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_is_refused_or_passed_over() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let fault = port(Some(number), Ipv4Addr::UNSPECIFIED.into()).unwrap_err();
        assert!(fault.to_string().starts_with(&format!("port {number} cannot be used")), "{fault}");
        // Whether the usual one is free is this machine's affair; a free one is found.
        let usual = TcpListener::bind((Ipv4Addr::UNSPECIFIED, USUAL));
        let found = port(None, Ipv4Addr::UNSPECIFIED.into()).unwrap();
        assert_ne!(found, USUAL, "it is taken, by this test or by others");
        drop(usual);
        drop(taken);
        assert_eq!(port(Some(number), Ipv4Addr::UNSPECIFIED.into()).unwrap(), number);
    }
}
