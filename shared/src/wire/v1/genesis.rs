//! The first record and the first entry, stored together.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::signed::Envelope;

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
