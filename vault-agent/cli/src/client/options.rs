//! What goes with every request of a client. Where it goes does not live here.

use std::time::Duration;

use super::tls;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A line for a shell, to be run with curl.
    Curl,
    /// A rule in Vault's policy language.
    Policy,
}
