//! `[metrics]` of `agent.toml`: where figures are served without a token. Serving them does not
//! live here.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer};

use super::listen;

/// Where figures are served besides the local API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Addresses for `GET /metrics`: loopback, or private ones; each once.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    listen::addresses(deserializer)
}
