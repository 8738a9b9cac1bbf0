//! What a vault has gone on without after a restore, or would; and accepting one of two histories.

use serde::{Deserialize, Serialize};
use shared::head::Head;
use shared::name::Actor;
use shared::time::Time;

/// An entry that the vault has gone on without, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEntry {
    /// Its number.
    pub seq: u64,
    /// When it was made, by its signer's clock.
    pub time: Time,
    /// Who signed it.
    pub by: Actor,
    /// Whether this machine did.
    pub own: bool,
    /// Its operations in words, e.g. `wrote secret/a v3`; some of them.
    pub what: Vec<String>,
}

/// Ends `E_FORK`: the history that holds this head is the true one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The head, as an admin has confirmed it.
    pub head: Head,
}

/// What became of an accepted head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Entries that were set aside for it.
    pub set_aside: u64,
    /// Last verified entry now.
    pub seq: u64,
}

/// What this machine has set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// All of the entries.
    pub count: u64,
    /// Some of the newest, in the order in which they stood.
    pub entries: Vec<LostEntry>,
}
