//! The newest checkpoint on the wire: who vouches for it, and the state that it names.

use serde::{Deserialize, Serialize};

use crate::signed::Envelope;
use crate::wire::list::at_most;

/// Most entries by which root has changed who the owners are.
pub const OWNERS: usize = 10_000;

/// First line of the answer 200 to `GET /v1/checkpoint`; the rows of the state follow, as they are.
/// 404 [`super::error::ErrorBody`] with the code [`super::error::NO_CHECKPOINT`] where there is
/// none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// The first record of the vault.
    pub genesis: Envelope,
    /// The entries up to the checkpoint by which root has changed who the owners are, in order.
    #[serde(deserialize_with = "at_most::<{ OWNERS }, _, _>")]
    pub owners: Vec<Envelope>,
    /// The entry that begins with the checkpoint.
    pub entry: Envelope,
}
