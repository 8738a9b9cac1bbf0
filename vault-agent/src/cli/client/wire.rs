//! What a way to an API has to do; the ways are `net` and `socket`.

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderMap;

use super::{Answer, Client, Error, Options, Place};

/// A request, ready to go.
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Method and URL, for messages.
    pub(super) call: String,
}

/// A way to an API: one request at a time, on the calling thread, the connection kept for the next.
pub(super) trait Wire: Send {
    /// Sends a request and collects its answer, whatever its status.
    ///
    /// # Errors
    /// No connection, no answer in time, or something that is not HTTP.
    fn exchange(&self, outgoing: Outgoing) -> Result<Answer, Error>;

    /// Tells whether the agent behind it was started for this process alone.
    fn is_alone(&self) -> bool;

    /// Makes a client for the place that a redirect names.
    ///
    /// # Errors
    /// A place where this way does not lead.
    fn elsewhere(&self, place: Place, options: Options) -> Result<Client, Error>;
}
