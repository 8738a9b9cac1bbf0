//! How full the server is, for members to show.

use serde::{Deserialize, Serialize};

/// How many percent of something are used from which on people are warned.
pub const LOW: u64 = 80;
/// From here on the server drops what it can do without.
const NEARLY_FULL: u64 = 95;

/// Room that is left: on the server's disk, or in a share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// How much of it is used, in percent.
    pub used_percent: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

impl Room {
    /// Counts `used` of `used + free` bytes.
    pub fn of(used: u64, free: u64) -> Self {
        let all = u128::from(used) + u128::from(free);
        // What is nearly full is shown as that: rounded up.
        let percent = (u128::from(used) * 100).checked_add(all.saturating_sub(1));
        let percent = percent.and_then(|percent| percent.checked_div(all)).unwrap_or(0);
        Self { used_percent: u64::try_from(percent).unwrap_or(100), free_bytes: free }
    }

    /// Tells whether people should be warned.
    pub const fn is_low(&self) -> bool {
        self.used_percent >= LOW
    }

    /// Tells whether there is next to nothing left.
    pub const fn is_nearly_full(&self) -> bool {
        self.used_percent >= NEARLY_FULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_low_from_80_percent_on() {
        for (used, free, percent, low, nearly_full) in [
            (0, 0, 0, false, false),
            (0, 10, 0, false, false),
            (79, 21, 79, false, false),
            (799, 201, 80, true, false),
            (80, 20, 80, true, false),
            (95, 5, 95, true, true),
            (10, 0, 100, true, true),
            (u64::MAX, u64::MAX, 50, false, false),
        ] {
            let room = Room::of(used, free);
            assert_eq!(
                (room.used_percent, room.is_low(), room.is_nearly_full()),
                (percent, low, nearly_full),
                "{used} of {free}"
            );
        }
    }
}
