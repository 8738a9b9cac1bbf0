//! Scans of the hosts, as their reviewers see them: what each has found of the vault's values, and
//! the wish for new ones.

use serde::{Deserialize, Serialize};
use shared::name::Name;
use shared::scan::Findings;
use shared::time::Time;

/// `GET`: [`HostScans`]; `POST` a [`ScanRequest`]: [`ScanWished`].
pub const SCAN: &str = "agent/scan";

/// How the scans of all machines stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostScans {
    /// Whether the server has said how everybody stands now.
    pub told: bool,
    /// Every active machine, by name.
    pub machines: Vec<HostScan>,
}

/// How one machine's scans stand, as it has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostScan {
    /// The machine.
    pub machine: Name,
    /// Whether it follows the log now.
    pub awake: bool,
    /// Whether its silence is normal.
    pub sleeps: bool,
    /// Whether it scans at all; `None` while it has not reported.
    pub scans: Option<bool>,
    /// Since when a scan is under way.
    pub running: Option<Time>,
    /// What the last one has found.
    pub findings: Option<Findings>,
    /// Why that cannot be told, if it cannot.
    pub unread: Option<String>,
}

/// Asks hosts to scan at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanRequest {
    /// Which; nobody means all.
    pub machines: Vec<Name>,
}

/// That they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanWished {
    /// When, by this machine's clock.
    pub at: Time,
}
