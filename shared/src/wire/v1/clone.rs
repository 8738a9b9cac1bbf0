//! Copied hosts, as the server says; unsigned, so that they are news and no proof.

use serde::{Deserialize, Serialize};

use crate::log::Number;
use crate::text::Text;
use crate::time::Time;

/// Two processes used one machine's keys in turn. Part of the answer to a report, for the machine
/// itself and for those with a read grant on `sys/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneNotice {
    /// The machine.
    pub machine: Number,
    /// Where the two last came from; the same one twice behind one router.
    pub addresses: [Text<64>; 2],
    /// When it was first noticed, by the server's clock.
    pub at: Time,
}
