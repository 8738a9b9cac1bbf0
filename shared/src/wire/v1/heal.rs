//! Giving a server back what it has lost.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::signed::Envelope;

/// Body of `POST /v1/heal`: entries that follow the server's head, whoever signed them. Those it
/// has already are passed over. Answers: 200 [`HealReply`]; 422 [`super::error::ErrorBody`] with
/// the code of `apply`; the entries before the refused one are then in the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealRequest {
    /// The entries, in order.
    pub entries: Vec<Envelope>,
}

/// Answer 200 to a heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealReply {
    /// The log's last entry now.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
    /// Blobs of versions still kept that are not here: from now on an upload of one is taken to
    /// its version.
    pub wanted: Vec<Hash>,
}
