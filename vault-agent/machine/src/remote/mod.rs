//! The connection to the server: one HTTP/2 connection over TLS 1.3 with pinned raw keys, one
//! method per route. Connecting to the first of several addresses that answers, and noticing that
//! the way to them may be another one. What answers mean for the vault is the engine's.

mod checkpoint;
mod client;
mod frames;
mod network;
mod ping;
mod race;
mod whole;

pub use checkpoint::{Shown, Started, Unproven};
pub use client::{Client, Way, connect, connect_to_any, connect_to_stay};
pub use frames::Frames;
pub use network::{Network, source};
pub use ping::Ping;
pub use race::{Race, Tried, Wave};
pub use whole::WholeLog;

use std::fmt::Display;
use std::time::Duration;

use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::wire::v1::error::{COMPACTED, NO_CHECKPOINT, RESTORED};

/// Why no connection came about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's key is not pinned.
    #[error("{}: server at `{address}`", Code::ServerPin)]
    WrongPin {
        /// The address.
        address: String,
    },
    /// Nothing usable answered.
    #[error("no server at `{address}`: {reason}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    /// Returns the address that was tried.
    pub fn address(&self) -> &str {
        let (Self::WrongPin { address } | Self::Unreachable { address, .. }) = self;
        address
    }

    /// Says of every address why it is none, one line each.
    pub fn list(tried: &[Self]) -> String {
        let [fault] = tried else {
            let lines = tried.iter().map(|fault| format!("\n  {fault}"));
            return format!("no address of the server answers:{}", lines.collect::<String>());
        };
        fault.to_string()
    }
}

/// Why a request was not answered as wanted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// The entry was built on another head than the server's, which it has signed.
    #[error("the log has moved on to entry {}", .0.seq)]
    Conflict(Box<SignedHead>),
    /// A rule forbids it.
    #[error("{0}")]
    Refused(Error),
    /// The server answered with another status than expected.
    #[error("the server answered {status} `{code}`: {detail}")]
    Status {
        /// HTTP status.
        status: u16,
        /// An HTTP reason in lower case.
        code: String,
        /// Names the object.
        detail: String,
        /// How long the server asks to wait before the next try.
        retry_after: Option<Duration>,
    },
    /// No answer: the connection broke or took too long. The request may have been done.
    #[error("{0}")]
    Lost(String),
    /// The answer was not what the protocol allows.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl RemoteError {
    pub(super) fn lost(why: impl Display) -> Self {
        Self::Lost(why.to_string())
    }

    pub(super) fn protocol(why: impl Display) -> Self {
        Self::Protocol(why.to_string())
    }

    /// Tells whether the same request may be sent again: nobody knows what became of it.
    pub fn is_unresolved(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Protocol(_) => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 429),
            Self::Conflict(_) | Self::Refused(_) => false,
        }
    }

    /// Tells whether a checkpoint stands for entries that were asked for.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Status { status: 410, code, .. } if code == COMPACTED)
    }

    /// Tells whether the log has no checkpoint.
    pub fn is_without_checkpoint(&self) -> bool {
        matches!(self, Self::Status { status: 404, code, .. } if code == NO_CHECKPOINT)
    }

    /// Tells whether the server was restored from a copy and waits for an owner.
    pub fn is_restored(&self) -> bool {
        matches!(self, Self::Status { status: 503, code, .. } if code == RESTORED)
    }

    /// Tells whether the caller is over its share, and for how long at least it has to wait.
    pub fn is_metered(&self) -> Option<Duration> {
        match self {
            Self::Status { status: 429, retry_after, .. } => Some(retry_after.unwrap_or_default()),
            Self::Status { .. }
            | Self::Conflict(_)
            | Self::Refused(_)
            | Self::Lost(_)
            | Self::Protocol(_) => None,
        }
    }

    /// Tells whether the server's disk is full: it has written nothing of this request.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Status { status: 503, code, .. } if code == "disk_full")
    }
}
