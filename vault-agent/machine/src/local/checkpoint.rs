//! The newest checkpoint of the log, and the next one that an owner may sign.

use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::log::Checkpoint;
use shared::name::Name;

/// `GET`: [`Compaction`].
pub const CHECKPOINT: &str = "agent/checkpoint";

/// What a checkpoint of the log as it is now would name, and how the newest one stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// What it would name.
    pub now: Checkpoint,
    /// Hash of the last entry: what the next one is built on.
    pub head: Hash,
    /// The newest one.
    pub newest: Option<Checkpoint>,
    /// The last entry that this machine has dropped, if it has any.
    pub begins: Option<u64>,
    /// Machines that do not sleep at times and were not seen past the newest one.
    pub behind: Vec<Name>,
    /// Machines that sleep at times: nobody waits for them.
    pub asleep: Vec<Name>,
}
