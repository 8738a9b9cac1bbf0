//! Who is told of alarms and audit records, and how that goes.

use serde::{Deserialize, Serialize};
use shared::name::Name;
use shared::time::Time;

/// `GET`: [`Forwards`].
pub const FORWARDS: &str = "agent/forwards";
/// `POST` a [`ForwardTest`]: [`Tested`], once each has answered.
pub const FORWARD: &str = "agent/forward";

/// Everybody who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwards {
    /// In the order of the configuration.
    pub forwards: Vec<ForwardRow>,
}

/// One who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRow {
    /// The name.
    pub name: Name,
    /// The kind of sink, e.g. `webhook`.
    pub to: String,
    /// Messages that have been taken since the agent's start, tests included.
    pub sent: u64,
    /// Messages that wait.
    pub queued: u64,
    /// Messages that were dropped, restarts included.
    pub dropped: u64,
    /// The last audit record that was taken; 0 if none are forwarded, or none was yet.
    pub audit: u64,
    /// Since when nothing is taken, if that is so.
    pub failing: Option<Time>,
    /// Why.
    pub why: Option<String>,
}

/// Asks for a message that says that it is a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardTest {
    /// Whom to tell; everybody if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What became of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// In the order of the configuration.
    pub forwards: Vec<TestedRow>,
}

/// What became of a test of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedRow {
    /// The name.
    pub name: Name,
    /// The kind of sink.
    pub to: String,
    /// Why it was not taken, if it was not.
    pub failure: Option<String>,
    /// Messages that wait, and are tried now.
    #[serde(default)]
    pub waiting: u64,
}
