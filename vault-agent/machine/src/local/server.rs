//! The server, as this machine's log lists it, and one that somebody on this host vouches for.

use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log::Address;

/// `GET`: [`ServerView`]; `POST` a [`Trust`]: the same.
pub const SERVER: &str = "agent/server";

/// `POST` an [`AdoptRequest`]: a [`ServerView`] once the server that is vouched for has the vault.
pub const ADOPT: &str = "agent/adopt";

/// Hands over the claim code of a server that was made anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// The code.
    pub claim: Hash,
}

/// What the log says of the server, and which of its keys it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// The keys that machines accept.
    pub keys: Vec<VerifyKey>,
    /// The one that the newest head is signed with.
    pub running: Option<VerifyKey>,
    /// Where owners have said that it is; none if nobody has.
    pub addresses: Vec<Address>,
    /// The last entry of the log.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
}

/// A server that the log does not list yet, or that this machine has slept through the listing of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Its key.
    pub server: VerifyKey,
    /// Where it is.
    pub addresses: Vec<String>,
    /// An entry of the log after which it is listed, and its hash; `None` before there is one.
    pub at: Option<(u64, Hash)>,
}
