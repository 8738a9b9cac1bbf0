//! By which names the TCP listeners may be called: a web page that was given this host's address
//! for a name of its own (DNS rebinding) sends that name as `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header};

use super::error::ApiFault;

/// Where a connection over TCP comes from, and so what its requests have to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This host, which is trusted without a token.
    Trusted,
    /// This host.
    Loopback,
    /// Any other address, such as a container's, or one that is forwarded to loopback.
    Elsewhere,
}

/// What callers may call the listeners by, besides names and addresses of loopback.
#[derive(Debug)]
pub(super) struct Hosts {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
}

impl Hosts {
    pub(super) fn new(listen: &[SocketAddr], names: &[String]) -> Self {
        Self { addresses: listen.iter().map(SocketAddr::ip).collect(), names: names.to_vec() }
    }

    /// Refuses a request for another host: by its `Host`, or by the address in its first line,
    /// which counts instead (RFC 9112, section 3.2.2). Where no token is needed loopback alone is
    /// good. Old clients on loopback may leave `Host` out, all others name it once.
    pub(super) fn check(
        &self,
        origin: Origin,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiFault> {
        let named = headers.get_all(header::HOST);
        if origin == Origin::Elsewhere && named.iter().count() != 1 {
            return Err(ApiFault::Forbidden("requests need one `Host` header".into()));
        }
        let trusted = origin == Origin::Trusted;
        let accepts = |host: &str| {
            name(host).is_some_and(|host| is_loopback(host) || (!trusted && self.holds(host)))
        };
        let named = named.iter().map(|host| host.to_str().unwrap_or("?"));
        if named.chain(uri.authority().map(hyper::http::uri::Authority::as_str)).all(accepts) {
            return Ok(());
        }
        Err(ApiFault::Forbidden(if trusted {
            "requests for a host that is not loopback are refused".to_owned()
        } else {
            "requests for a host that is neither loopback nor named in `agent.toml` are refused\n\
             hint: add the name to `hosts` of `[api]`, and start the agent again"
                .to_owned()
        }))
    }

    fn holds(&self, host: &str) -> bool {
        host.parse().is_ok_and(|ip| self.addresses.contains(&ip))
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Returns the name or address in `NAME[:PORT]`, without the brackets of IPv6 and without the dot
/// at the end of a full name.
fn name(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(ip, _)| ip.contains(':'))?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    Some(name.strip_suffix('.').unwrap_or(name))
}

/// Tells whether a name is `localhost` or an address of the loopback interface.
fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let listen = ["127.0.0.1:8200", "172.17.0.1:8200", "[fd00::1]:8200"];
        let names = ["host.docker.internal", "vault"].map(str::to_owned);
        Hosts::new(&listen.map(|text| text.parse().unwrap()), &names)
    }

    fn accepts(origin: Origin, uri: &str, named: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in named {
            headers.append(header::HOST, host.parse().unwrap());
        }
        hosts().check(origin, &uri.parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn loopback_is_good_everywhere() {
        for good in [
            "localhost",
            "LOCALHOST:8200",
            "localhost.",
            "localhost:",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8200",
            "[::1]",
        ] {
            assert!(accepts(Origin::Trusted, "/", &[good]), "{good}");
            assert!(accepts(Origin::Elsewhere, "/", &[good]), "{good}");
        }
    }

    #[test]
    fn names_and_addresses_are_good_where_a_token_is_needed() {
        for good in [
            "host.docker.internal:8200",
            "Host.Docker.Internal.",
            "VAULT",
            "vault:80",
            "172.17.0.1:8200",
            "172.17.0.1",
            "[fd00::1]:8200",
            "[FD00:0::1]",
        ] {
            assert!(accepts(Origin::Elsewhere, "/", &[good]), "{good}");
            assert!(accepts(Origin::Loopback, "/", &[good]), "{good}");
            assert!(!accepts(Origin::Trusted, "/", &[good]), "{good}");
        }
    }

    #[test]
    fn others_are_refused() {
        for bad in [
            "",
            ":8200",
            "evil.example",
            "localhost.evil",
            "vault.evil.example",
            "evil.vault",
            "vault..",
            "172.17.0.2",
            "172.17.0.1.nip.io",
            "127.0.0.1.nip.io",
            "10.0.0.1:8200",
            "2886795265",
            "0x7f.1",
            "[::2]",
            "[fd00::2]:8200",
            "[::ffff:172.17.0.1]",
            "fd00::1",
            "[::1",
            "[::1]evil.example",
            "[localhost]",
            "localhost:evil",
            "localhost:80:80",
            "localhost@evil.example",
            "evil.example@localhost",
            "vault evil.example",
            "vault, evil.example",
            "?",
        ] {
            for origin in [Origin::Trusted, Origin::Loopback, Origin::Elsewhere] {
                assert!(!accepts(origin, "/", &[bad]), "{origin:?} {bad}");
            }
        }
    }

    #[test]
    fn no_host_two_hosts_and_another_address_are_refused() {
        let good = "vault:8200";
        for (uri, named, expected) in [
            ("/", &[good][..], true),
            ("/", &[], false),
            ("/", &[good, good], false),
            ("/", &[good, "evil.example"], false),
            ("http://vault:8200/", &[good], true),
            ("http://172.17.0.1/", &[good], true),
            ("http://vault:8200/", &[], false),
            ("http://vault/", &["evil.example"], false),
            ("http://evil.example/", &[good], false),
            ("http://vault@evil.example/", &[good], false),
        ] {
            assert_eq!(accepts(Origin::Elsewhere, uri, named), expected, "{uri} {named:?}");
        }
        // Clients of HTTP/1.0 know no `Host`.
        for origin in [Origin::Trusted, Origin::Loopback] {
            assert!(accepts(origin, "/", &[]));
            assert!(accepts(origin, "/", &["localhost", "127.0.0.1"]));
            assert!(!accepts(origin, "/", &["localhost", "evil.example"]));
            assert!(!accepts(origin, "http://evil.example/", &["localhost"]));
        }
    }
}
