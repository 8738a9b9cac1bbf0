//! Paths of secrets in `agent.toml`: only such as can be made, or a file would wait for ever for
//! one that looks like another.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use shared::error::Error;
use shared::path::{SecretPath, demand_nfc};

/// Reads a path.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretPath, D::Error> {
    let text = String::deserialize(deserializer)?;
    parsed(&text).map_err(|error| D::Error::custom(error.detail))
}

/// Parses a path.
pub(super) fn parsed(text: &str) -> Result<SecretPath, Error> {
    let path = text.parse()?;
    demand_nfc(text)?;
    Ok(path)
}
