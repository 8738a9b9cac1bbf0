//! The one HTTP client of the CLI: over the agent's socket, http, https, or in this process. What
//! is asked lives elsewhere.
//!
//! One connection, kept for further requests; one request at a time; everything on the calling
//! thread.

mod answer;
mod endpoint;
mod error;
mod net;
mod oneshot;
mod options;
mod persist;
mod show;
pub mod tls;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use machine::local::OFFLINE;

use net::{Net, Outgoing};

pub use answer::Answer;
pub use endpoint::{Address, Endpoint};
pub use error::{Error, Refusal};
pub use options::{Options, Show};

/// A client for one API.
pub struct Client {
    place: Endpoint,
    options: Options,
    headers: HeaderMap,
    net: Net,
}

impl Client {
    /// Makes a client; nothing is connected before the first request.
    ///
    /// # Errors
    /// Headers that HTTP does not allow.
    pub fn new(place: Endpoint, options: Options) -> Result<Self, Error> {
        let net = Net::new(place.clone(), &options)?;
        let headers = headers(&place, &options)?;
        Ok(Self { place, options, headers, net })
    }

    /// Tells whether this machine's own agent answers, which needs no look at its mounts first.
    #[must_use]
    pub fn is_own_agent(&self) -> bool {
        matches!(self.place, Endpoint::Agent { .. })
    }

    /// Tells whether the agent that answers was started for this process alone; known after the
    /// first request.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.net.is_alone()
    }

    /// Does nothing for a while.
    #[expect(
        clippy::disallowed_methods,
        reason = "between two tries there is nothing else to wait for"
    )]
    pub fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// No answer, an error, or another shape.
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.send(Method::GET, path, query, None)?.success()?.json()
    }

    /// Sends JSON and asks for JSON.
    ///
    /// # Errors
    /// No answer, an error, or another shape.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|why| Error::Setup(why.to_string()))?;
        self.send(Method::POST, path, &[], Some(body.into()))?.success()?.json()
    }

    /// Writes a value as HashiCorp's client does, and returns whatever the answer is.
    ///
    /// # Errors
    /// No answer.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Method::PUT, path, &[], Some(body.to_string().into()))
    }

    /// Makes one request to `/v1/` + `path` (not yet percent-encoded); returns the answer whatever
    /// its status.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Transport`], [`Error::Shown`].
    pub fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Bytes>,
    ) -> Result<Answer, Error> {
        let target = target(path, query);
        let body = body.unwrap_or_default();
        match self.options.show {
            None => self.persist(method, &target, body),
            Some(how) => Err(Error::Shown(self.shown(how, &method, &target, &body))),
        }
    }

    /// As [`Client::send`], for questions that a command asks beside what it is for: they are never
    /// shown.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Transport`].
    pub fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Error> {
        self.persist(Method::GET, &target(path, query), Bytes::new())
    }

    /// Tells whether requests are only shown.
    #[must_use]
    pub const fn only_shows(&self) -> bool {
        self.options.show.is_some()
    }

    fn once(&self, method: Method, target: &str, body: Bytes) -> Result<Answer, Error> {
        let call = format!("{method} {}{target}", self.base());
        let mut headers = self.headers.clone();
        if method == Method::PATCH {
            let merge = HeaderValue::from_static("application/merge-patch+json");
            headers.insert(CONTENT_TYPE, merge);
        }
        let target = format!("{}{target}", self.folder());
        self.net.exchange(Outgoing { method, target, headers, body, call })
    }

    /// What URLs in messages start with; behind a socket it is `localhost`, as in HashiCorp's
    /// client.
    #[must_use]
    pub fn base(&self) -> &str {
        match &self.place {
            Endpoint::Agent { .. } | Endpoint::Unix(_) => "http://localhost",
            Endpoint::Tcp(address) => &address.base,
        }
    }

    /// The folder of an address such as `https://proxy/vault`.
    fn folder(&self) -> &str {
        match &self.place {
            Endpoint::Agent { .. } | Endpoint::Unix(_) => "",
            Endpoint::Tcp(address) => {
                let host = address.base.find("://").map_or("", |at| &address.base[at + 3..]);
                host.find('/').map_or("", |at| &host[at..])
            }
        }
    }
}

fn headers(place: &Endpoint, options: &Options) -> Result<HeaderMap, Error> {
    let host = match place {
        Endpoint::Agent { .. } | Endpoint::Unix(_) => "localhost",
        Endpoint::Tcp(address) => {
            let rest = address.base.find("://").map_or("", |at| &address.base[at + 3..]);
            rest.split('/').next().unwrap_or_default()
        }
    };
    let mut all = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Setup(format!("header name `{name}` is not allowed in HTTP")))?;
        let wrong =
            |_| Error::Setup(format!("the value of header `{name}` is not allowed in HTTP"));
        let mut value = HeaderValue::from_str(value).map_err(wrong)?;
        value.set_sensitive(true);
        all.append(name, value);
        Ok(())
    };
    add("host", host)?;
    add("x-vault-request", "true")?;
    if let Some(token) = &options.token {
        add("x-vault-token", token)?;
    }
    if let Some(namespace) = &options.namespace {
        add("x-vault-namespace", namespace)?;
    }
    if options.offline {
        add(OFFLINE, "true")?;
    }
    for (name, value) in &options.headers {
        add(name, value)?;
    }
    Ok(all)
}

/// Go's choice of characters that stand as they are in a query, and in a path: URLs in messages are
/// its own.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

fn target(path: &str, query: &[(&str, String)]) -> String {
    let mut target = format!("/v1/{}", utf8_percent_encode(path, PATH));
    for (n, (name, value)) in query.iter().enumerate() {
        target.push(if n == 0 { '?' } else { '&' });
        target.push_str(&format!("{name}={}", utf8_percent_encode(value, QUERY)));
    }
    target
}
