//! Where the API is, parsed from an address.

use std::net::IpAddr;
use std::path::PathBuf;

use hyper::Uri;

use super::error::Error;
use host::hint::Failure;
use machine::paths::Paths;

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// This machine's agent: the first of these sockets that answers, else this process over
    /// `paths`.
    Agent {
        /// Sockets to try in turn.
        sockets: Vec<PathBuf>,
        /// Where the agent keeps its things.
        paths: Paths,
    },
    /// A socket that was named.
    Unix(PathBuf),
    /// A host.
    Tcp(Address),
}

/// A parsed `http://` or `https://` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `https`.
    pub secure: bool,
    /// Without brackets.
    pub host: String,
    /// Given or the scheme's.
    pub port: u16,
    /// Scheme, host, port and folder as given, without a final slash.
    pub base: String,
}

impl Endpoint {
    /// Reads `unix:///path`, `http://host[:port]` or `https://host[:port]`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::setup(format!("address `{url}`: {why}"));
        match url.strip_prefix("unix://") {
            Some("") => return Err(wrong("no path")),
            Some(path) => return Ok(Self::Unix(path.into())),
            None => {}
        }
        // Clients put that before every path themselves.
        if let Some(base) = url.trim_end_matches('/').strip_suffix("/v1") {
            return Err(Error::Setup(
                Failure::local(format!("address `{url}` ends with the API's `/v1`"))
                    .hint(format!("leave it out: `{base}`")),
            ));
        }
        if let Some((base, _)) = url.split_once("/v1/") {
            return Err(Error::Setup(
                Failure::local(format!("address `{url}` goes on with the API's `/v1` and a path"))
                    .hint(format!("leave them out: `{base}`")),
            ));
        }
        let uri: Uri =
            url.parse().map_err(|why: hyper::http::uri::InvalidUri| wrong(&why.to_string()))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => {
                return Err(wrong("it starts with none of https://, http:// and unix://"));
            }
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("no host"))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self::Tcp(Address { secure, host, port, base: url.trim_end_matches('/').to_owned() }))
    }

    /// Tells whether it is on this machine: a socket, or an address of loopback.
    pub fn is_here(&self) -> bool {
        let is_loopback = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        self.address().is_none_or(|it| it.host == "localhost" || is_loopback(&it.host))
    }

    /// Returns the host, if it is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Agent { .. } | Self::Unix(_) => None,
        }
    }
}

impl Address {
    /// Splits what follows the scheme: host with port, and the folder of `https://proxy/vault`.
    pub fn parts(&self) -> (&str, &str) {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}
