//! What the server says of shares and of its room, as the status shows it.

use serde::{Deserialize, Serialize};
use shared::name::Name;
use shared::time::Time;

pub use shared::wire::v1::health::Room;
pub use shared::wire::v1::shares::Share;

/// A machine that has taken 80 % or more of what it may take of the server in a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearShare {
    /// The machine.
    pub machine: Name,
    /// The share.
    pub share: Share,
    /// How much of it is taken, in percent; above 100 while the machine is in debt.
    pub used_percent: u64,
    /// When it is less than 80 % again, if nothing more is taken.
    pub until: Time,
}

/// A machine that wanted more of the server than its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverShare {
    /// The machine.
    pub machine: Name,
    /// The share.
    pub share: Share,
    /// Requests that were refused since the server's start.
    pub count: u64,
    /// When the last one was.
    pub last: Time,
}
