//! The log on the wire: its first records, lines of `GET`, body and answer of `POST`, and what a
//! server has lost.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::signed::Envelope;

use super::blob::Inline;

/// Body of `POST /v1/genesis`; answered 201 without a body.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisRequest {
    /// The one-time claim code of the setup line.
    pub claim: Hash,
    /// Signed by root.
    pub genesis: Envelope,
    /// Entry 1, which adds the first machine: nobody could append it otherwise.
    pub entry: Envelope,
}

/// Query of `GET /v1/log`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Last entry the client has; 0 also brings the genesis first.
    pub after: u64,
    /// Whether the answer stays open and brings every later entry at once.
    pub follow: bool,
    /// Made anew at random at each start of an agent. Two that come in turn are two processes with
    /// one machine's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Hash>,
}

/// One line of the answer to `GET /v1/log`. Without `follow` it ends at the head, or after the
/// entry that takes it past 8 MiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The server's head: first of all lines, and again when the client has caught up.
    Head {
        /// The log's last entry.
        seq: u64,
        /// Its hash.
        hash: Hash,
    },
    /// The first record of the vault; only after `after=0`.
    Genesis(Envelope),
    /// An entry.
    Entry {
        /// The entry.
        envelope: Envelope,
        /// The blobs that the entry brought and the caller may read; only for entries committed
        /// while following. Their audit rows are on disk.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        blobs: Vec<Inline>,
    },
    /// Nothing happened for a while.
    Beat,
}

/// Body of `POST /v1/log`. Answers: 201 [`Appended`]; 409 [`super::error::Conflict`]; 422
/// [`super::error::ErrorBody`] with the code of `apply`, or `E_BLOB_ABSENT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendRequest {
    /// The entry, signed by the caller, or by an admin or root on the caller's machine.
    pub envelope: Envelope,
    /// Blobs that the entry brings, unless uploaded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Inline>,
}

/// Answer 201 to an append; also to the very same bytes sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Position of the entry.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
}

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
