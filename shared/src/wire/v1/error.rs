//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// What was refused and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// An `E_…` code, or an HTTP reason in lower case (`forbidden`, `too_large`, …).
    pub code: String,
    /// Names the object; no secret.
    pub detail: String,
}

/// Answer 409 to an append that was built on an old head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The log's last entry.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
}
