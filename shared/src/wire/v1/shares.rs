//! Shares on the wire: which machines wanted more of the server than is theirs, which have taken
//! most of it, and whether the server is getting full.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::log::Number;
use crate::text::Text;
use crate::time::Time;
use crate::wire::list::known;

use super::health::Room;

/// What a machine has a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Requests at once.
    AtOnce,
    /// Requests a second.
    Requests,
    /// Bytes of requests and answers a second.
    Bytes,
    /// Bytes of entries a day.
    Log,
    /// Bytes of blobs a day.
    Blobs,
    /// Bytes of audit records a day.
    Audit,
}

impl Share {
    /// Returns the share as shown and sent, e.g. `at_once`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Log => "log",
            Self::Blobs => "blobs",
            Self::Audit => "audit",
        }
    }

    /// Returns what it is a share of, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::AtOnce => "requests at once",
            Self::Requests => "requests a second",
            Self::Bytes => "bytes a second",
            Self::Log => "bytes of entries a day",
            Self::Blobs => "bytes of blobs a day",
            Self::Audit => "bytes of audit records a day",
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A machine that wanted more than its share, since the server's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverShare {
    /// The machine's number.
    pub machine: Number,
    /// The share.
    pub share: Share,
    /// Requests that were refused.
    pub count: u64,
    /// When the last one was.
    pub last: Time,
}

/// A machine that has taken 80 % or more of what it may take in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearShare {
    /// The machine's number.
    pub machine: Number,
    /// The share; one of a day.
    pub share: Share,
    /// How much of it is taken, in percent; above 100 while the machine is in debt.
    pub used_percent: u64,
    /// When it is less than 80 % again, if nothing more is taken.
    pub until: Time,
}

/// Answer of `GET /v1/shares`, for any active machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharesReply {
    /// By machine, then by share.
    #[serde(deserialize_with = "known")]
    pub over: Vec<OverShare>,
    /// By machine, then by share.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "known")]
    pub near: Vec<NearShare>,
    /// The room on the server's disk, while it is low.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// Since when the server's own backups fail, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_failing: Option<Time>,
    /// Whether the server was restored, and takes no change yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// The server's program and version, e.g. `vault-server 0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Text<64>>,
    /// Since when that program is no longer the file on its disk, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Time>,
}
