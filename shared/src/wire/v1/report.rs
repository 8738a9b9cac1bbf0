//! Reports on the wire: each machine posts its own and gets everybody's latest.

use serde::{Deserialize, Serialize};

use crate::audit::AuditHead;
use crate::signed::Envelope;
use crate::time::Time;

/// Body of `POST /v1/report`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// The caller's own signed report.
    pub report: Envelope,
}

/// Answer 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportReply {
    /// The server's clock.
    pub now: Time,
    /// The latest report of every active machine, the caller's included.
    pub reports: Vec<Received>,
    /// The audit chain now: what the caller's next report anchors.
    pub audit: AuditHead,
}

/// A report and what the server adds to it, unsigned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// Signed by its machine.
    pub report: Envelope,
    /// When it came in, by the server's clock.
    pub at: Time,
    /// Whether the machine follows the log now.
    pub online: bool,
}
