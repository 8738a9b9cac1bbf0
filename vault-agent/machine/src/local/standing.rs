//! How each machine of the vault stands, whatever its targets hold.

use serde::{Deserialize, Serialize};
use shared::grant::Grants;
use shared::name::Name;
use shared::time::Time;

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name and version, e.g. `vault-agent 0.1.0`.
    pub version: String,
    /// Since when the file on its disk has been another one, if it has for more than seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaced: Option<Time>,
}

/// An active machine of the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The machine.
    pub machine: Name,
    /// Whether its silence is normal.
    pub sleeps: bool,
    /// Whether it follows the log now, as the server says.
    pub awake: bool,
    /// Whether it is missed: it does not sleep, and was not heard for five minutes.
    pub silent: bool,
    /// When it was last heard, as far as this machine knows.
    pub seen_at: Option<Time>,
    /// How many seconds its clock was ahead of the server's when it last reported, or behind it if
    /// negative; `None` if that is no matter, or not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clock_off: Option<i64>,
    /// When it was added, or got its present keys.
    pub added: Time,
    /// The program that it runs, as it has signed; `None` while it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<Program>,
    /// What it reads.
    pub read: Grants,
    /// What it writes.
    pub write: Grants,
}
