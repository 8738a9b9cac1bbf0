//! Requests to join: a stranger hands in its machine line, and machines list what waits. Nothing
//! here is a right, and no line is believed for having come this way: people compare words.

use serde::{Deserialize, Serialize};

use crate::text::Text;
use crate::time::Time;
use crate::wire::list::at_most;
use crate::words::VaultWords;

/// Most requests that wait at once.
pub const WAITING: usize = 64;
/// How long a request waits before it is dropped, in seconds.
pub const WAITS_SECONDS: u64 = 24 * 60 * 60;
/// How long an answer to a request may be held, in seconds.
pub const HELD_SECONDS: u64 = 15;

/// Body of `POST /v1/join`. Sent again, its answer may be held until the caller has become a
/// machine, for [`HELD_SECONDS`] at most. Answers: 200 [`JoinReply`]; 403 where the vault is
/// another one; 422 [`super::error::ErrorBody`] with `E_TOKEN` or `E_BADSIG` for the line,
/// `E_EXISTS` for a name that an active machine bears, `E_KEY` for keys that the vault has seen
/// before; 429 while too many ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The vault that the stranger wants to join.
    pub vault: VaultWords,
    /// Its `VLTM1-…` line; the signing key in it is the connection's.
    pub line: String,
}

/// Answer 200 to a request to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// Whether the caller is a machine of the vault now.
    pub joined: bool,
    /// Seconds until the request is dropped, while it waits.
    pub left: u64,
}

/// Answer of `GET /v1/join`, for any active machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinList {
    /// The oldest first.
    #[serde(deserialize_with = "at_most::<WAITING, _, _>")]
    pub waiting: Vec<Waiting>,
}

/// A request that waits, as the server tells of it, unsigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The `VLTM1-…` line.
    pub line: String,
    /// Where it came from.
    pub addr: Text<64>,
    /// When it came in, by the server's clock.
    pub at: Time,
}
