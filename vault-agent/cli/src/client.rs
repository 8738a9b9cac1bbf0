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
mod persist;
mod records;
mod show;
pub mod tls;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use machine::local::OFFLINE;

pub use answer::Answer;
pub use endpoint::Endpoint;
pub use error::{Error, Refusal};

/// What goes with every request.
#[derive(Clone, Debug)]
pub struct Options {
    /// `X-Vault-Token`.
    pub token: Option<String>,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// For connecting and answering together.
    pub timeout: Duration,
    /// For `https://`.
    pub tls: tls::Options,
    /// How often to try again what failed on the other side.
    pub retries: u32,
    /// Whether one redirect is followed.
    pub redirects: bool,
    /// Where no agent listens, do not ask the server before answering from the cache.
    pub offline: bool,
    /// Show requests instead of making them.
    pub show: Option<Show>,
}

/// What a request is shown as.
#[derive(Clone, Copy, Debug)]
pub enum Show {
    /// A line for a shell, to be run with curl.
    Curl,
    /// A rule in Vault's policy language.
    Policy,
}

/// A client for one API.
pub struct Client {
    place: Endpoint,
    options: Options,
    headers: HeaderMap,
    runtime: tokio::runtime::Runtime,
    link: RefCell<Option<Link>>,
    /// Dropped last, when the connection to it is gone.
    answering: RefCell<Option<oneshot::Answering>>,
}

type Link = SendRequest<Full<Bytes>>;

impl Client {
    /// Makes a client; nothing is connected before the first request.
    ///
    /// # Errors
    /// Headers that HTTP does not allow; a system that has no file descriptor left.
    pub fn new(place: Endpoint, options: Options) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| Error::setup(why.to_string()))?;
        let headers = headers(&place, &options)?;
        let (link, answering) = Default::default();
        Ok(Self { place, options, headers, runtime, link, answering })
    }

    /// Tells whether this machine's own agent answers, which needs no look at its mounts first.
    pub fn is_own_agent(&self) -> bool {
        matches!(self.place, Endpoint::Agent { .. })
    }

    /// Tells whether the API is on this machine, and so perhaps this machine's agent.
    pub fn is_here(&self) -> bool {
        self.place.is_here()
    }

    /// Tells whether the agent that answers was started for this process alone; known after the
    /// first request.
    pub fn is_alone(&self) -> bool {
        self.answering.borrow().is_some()
    }

    /// Ends the connection, and with it an agent that was started to answer here alone: its state
    /// is another's to open. A further request connects anew.
    pub fn hang_up(&self) {
        self.link.take();
        self.answering.take();
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
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.send(Method::GET, path, query, None)?.success()?.json()
    }

    /// Sends JSON and asks for JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|why| Error::setup(why.to_string()))?;
        self.send(Method::POST, path, &[], Some(body.into()))?.success()?.json()
    }

    /// Writes a value as HashiCorp's client does, and returns whatever the answer is.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send(Method::PUT, path, &[], Some(body.to_string().into()))
    }

    /// Makes one request to `/v1/` + `path` (not yet percent-encoded); returns the answer whatever
    /// its status.
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
    pub fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Error> {
        self.persist(Method::GET, &target(path, query), Bytes::new())
    }

    /// Tells whether requests are only shown.
    pub const fn only_shows(&self) -> bool {
        self.options.show.is_some()
    }

    /// What URLs in messages start with; behind a socket it is `localhost`, as in HashiCorp's
    /// client.
    pub fn base(&self) -> &str {
        self.place.address().map_or("http://localhost", |address| &address.base)
    }
}

fn headers(place: &Endpoint, options: &Options) -> Result<HeaderMap, Error> {
    let host = place.address().map_or("localhost", |address| address.parts().0);
    let token = options.token.iter().map(|token| ("x-vault-token", token.as_str()));
    let namespace = options.namespace.iter().map(|name| ("x-vault-namespace", name.as_str()));
    let offline = options.offline.then_some((OFFLINE, "true"));
    let more = options.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let fixed = [("host", host), ("x-vault-request", "true")].into_iter();
    let mut all = HeaderMap::new();
    for (name, value) in fixed.chain(token).chain(namespace).chain(offline).chain(more) {
        let wrong = |what: &str| Error::setup(format!("{what} is not allowed in HTTP"));
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| wrong(&format!("header name `{name}`")))?;
        let mut value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| wrong(&format!("the value of header `{parsed}`")))?;
        value.set_sensitive(true);
        all.append(parsed, value);
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
