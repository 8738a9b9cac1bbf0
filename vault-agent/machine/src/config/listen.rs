//! `listen` and `hosts` of `[api]`: where the local API may be reached over TCP, and by which
//! names. Binding an address does not live here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most addresses: they share the connections that this process may have.
const MOST: usize = 8;
/// Longest name of a host, in bytes (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Reads one address or a list of them, each once: loopback, or private for the containers of this
/// host.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let mut addresses = Vec::new();
    for text in deserializer.deserialize_any(OneOrMore)? {
        let address: SocketAddr = text.parse().map_err(|_| {
            D::Error::custom(format!("`{text}` is not an address such as \"127.0.0.1:8200\""))
        })?;
        check(address).map_err(D::Error::custom)?;
        if addresses.contains(&address) {
            return Err(D::Error::custom(format!("address `{address}` is named twice")));
        }
        addresses.push(address);
    }
    if addresses.len() > MOST {
        return Err(D::Error::custom(format!("there are more than {MOST} addresses")));
    }
    Ok(addresses)
}

/// Refuses an address that others than this host and its containers may reach; says what to name
/// instead.
///
/// # Errors
/// The reason, for people.
pub fn check(address: SocketAddr) -> Result<(), String> {
    let ip = address.ip();
    if ip.is_unspecified() {
        return Err(format!(
            "address `{address}` is every interface of this host: name `127.0.0.1`, and for \
             containers the address of their bridge, such as `172.17.0.1`"
        ));
    }
    if ip.is_loopback() || is_private(ip) {
        return Ok(());
    }
    Err(format!(
        "address `{address}` is neither a loopback nor a private address: secrets would leave this \
         host; name `127.0.0.1`, and for containers the address of their bridge"
    ))
}

/// Tells whether an address is private (RFC 1918, RFC 4193) or link-local (RFC 3927, RFC 4291).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Reads names without ports.
pub(super) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let hosts = Vec::<String>::deserialize(deserializer)?;
    match hosts.iter().find(|host| !is_name(host)) {
        Some(bad) if bad.parse::<IpAddr>().is_ok() => Err(D::Error::custom(format!(
            "`{bad}` is an address: those of `listen` are accepted without"
        ))),
        Some(bad) => Err(D::Error::custom(format!(
            "`{bad}` is not a name such as \"host.docker.internal\", without a port"
        ))),
        None => Ok(hosts),
    }
}

/// Tells whether a text is the name of a host, in full: no pattern, no address.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}

/// A text or a list of texts.
struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"127.0.0.1:8200\", or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}
