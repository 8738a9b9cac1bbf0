//! Reports on the wire: each machine posts its own, gets some of the others' in turn, and
//! everybody's when somebody asks for the status.

use serde::{Deserialize, Serialize};

use crate::audit::AuditHead;
use crate::log::Number;
use crate::signed::Envelope;
use crate::time::Time;

use super::audit::{AccessReply, AccessRequest};
use super::clone::CloneNotice;

/// Most seen-records in one answer.
pub const EXCHANGED: usize = 64;

/// Body of `POST /v1/report`. Answers: 200 [`ReportReply`]; 422 [`super::error::ErrorBody`] with
/// `E_SEQ` for a record that is not newer than the last one, `E_REPORT` for one whose head or audit
/// head the server has not given out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportRequest {
    /// The caller's own [`crate::report::Seen`], signed.
    pub seen: Envelope,
    /// The [`crate::report::Targets`] whose hash it names, as their JSON text; left out where the
    /// server has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    /// Asks for records of others: of witnesses first, then of those numbered above this, in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Number>,
    /// Local accesses that wait, so that they need no request of their own: some of the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accesses: Option<AccessRequest>,
}

/// Answer 200 to a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportReply {
    /// The server's clock.
    pub now: Time,
    /// The audit chain now: what the caller's next record anchors.
    pub audit: AuditHead,
    /// Whether the targets that the record names are still to be sent.
    pub wants_targets: bool,
    /// Latest signed [`crate::report::Seen`] of others, if asked for: [`EXCHANGED`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Envelope>,
    /// Where the next exchange goes on.
    #[serde(default)]
    pub next: Number,
    /// Copied hosts that the caller is told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clones: Vec<CloneNotice>,
    /// Whether the server's disk had no room for what was last to be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// What has become of the local accesses; none if they were not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accesses: Option<AccessReply>,
}

/// Query of `GET /v1/targets`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TargetsQuery {
    /// Only machines numbered above this.
    pub after: Number,
}

/// Answer of `GET /v1/targets`, for any active machine: who reported what last, by number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetsPage {
    /// Some 512 KiB of machines.
    pub machines: Vec<Standing>,
    /// Whether there are machines after the last one.
    pub more: bool,
    /// Seconds since the server's start, before which it heard nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<u64>,
}

/// A machine's latest report, and what the server adds to it, unsigned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The record, signed by its machine.
    pub seen: Envelope,
    /// The JSON text of its targets; empty while the server has not got it.
    pub targets: String,
    /// When it came in, by the server's clock.
    pub at: Time,
    /// Whether the machine follows the log now.
    pub online: bool,
    /// Seconds since the machine was last heard, by its report or by its following the log; 0 while
    /// it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<u64>,
}
