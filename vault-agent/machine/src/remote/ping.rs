//! How often a connection to the server is tried out. Pure.

use std::time::Duration;

/// A laptop that has moved to another network notices within seconds.
const OFTEN: Duration = Duration::from_secs(4);
/// Each machine of the vault adds so much: all of them together ask the server no more than 500
/// times a second.
const EACH: Duration = Duration::from_millis(2);

/// Time between pings, and for the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping(pub(super) Duration);

impl Default for Ping {
    fn default() -> Self {
        Self(OFTEN)
    }
}

impl Ping {
    /// Returns how often one of so many machines pings.
    pub fn among(machines: usize) -> Self {
        let machines = u32::try_from(machines).unwrap_or(u32::MAX);
        Self(OFTEN.max(EACH.saturating_mul(machines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_machines_ping_less_often() {
        for (machines, expected) in [(0, 4), (60, 4), (2_000, 4), (3_000, 6), (10_000, 20)] {
            assert_eq!(Ping::among(machines), Ping(Duration::from_secs(expected)), "{machines}");
        }
    }
}
