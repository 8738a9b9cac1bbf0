//! Blobs inside JSON.

use serde::{Deserialize, Serialize};

use crate::signed::base64_text;

/// The bytes of one age file; base64 in JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inline(#[serde(with = "base64_text")] pub Vec<u8>);

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inline({} bytes)", self.0.len())
    }
}
