//! How full the disk is: looked at once a minute, told in the log when it changes, in the metrics,
//! and to members.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use shared::wire::v1::health::Room;

/// A disk that was low is not so any more below this: near the mark nothing is said twice.
const LOW_AGAIN_BELOW: u64 = 78;

/// The room at the last look, and whether it was low.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<(Room, bool)>);

impl Gauge {
    /// Takes a look; tells whether the room is low if that has changed.
    pub(super) fn take(&self, now: Room) -> Option<bool> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_low = known.1;
        let low = now.is_low() || (was_low && now.used_percent >= LOW_AGAIN_BELOW);
        *known = (now, low);
        (low != was_low).then_some(low)
    }

    pub(super) fn now(&self) -> Room {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Looks at the disk of a folder, or of the one that it will be made in; counts as `df` does.
pub(super) fn of_disk(folder: &Path) -> Option<Room> {
    let found = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    let used = found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize);
    Some(Room::of(used, found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_the_mark_does_not_flicker() {
        let gauge = Gauge::default();
        let told = [50, 80, 81, 79, 78, 80, 77, 79, 80]
            .map(|used| gauge.take(Room { used_percent: used, free_bytes: 1 }));
        let expected = [None, Some(true), None, None, None, None, Some(false), None, Some(true)];
        assert_eq!(told, expected);
        assert_eq!(gauge.now().used_percent, 80);
    }

    #[test]
    fn the_disk_is_found_before_the_folder_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let room = of_disk(&dir.path().join("audit")).unwrap();
        assert!(room.used_percent <= 100 && of_disk(dir.path()).is_some());
    }
}
