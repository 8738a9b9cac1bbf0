//! Applies `max_stale`: judges targets by the age of what this machine knows. The age is counted in
//! `contact`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::contact::{Contact, LastContact, Now, Reach};
use super::plan::SILENT;
use crate::engine::Engine;
use host::clock;
use machine::config::OnStale;

/// The longest time between two looks while the server is away: the age is written down then, too.
const LOOK: Duration = Duration::from_secs(60);

/// Where the kernel tells one boot from the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Takes up what an earlier process knew of the last contact.
pub(super) fn take_up(kept: Option<LastContact>, engine: &Engine) -> Contact {
    let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
    Contact::new(boot, kept, engine.heard().1, &now())
}

impl Daemon {
    /// Judges all targets that may not be without the server for ever, and plans those of which the
    /// judgement is new.
    pub(super) fn weigh(&mut self) {
        let now = now();
        self.contact.heard(self.engine.heard().0, self.engine.away().is_none(), &now);
        let mut news: Vec<PathBuf> = Vec::new();
        let mut stays: Option<Duration> = None;
        for (path, slot) in &mut self.slots {
            let Some(most) = slot.target.max_stale else { continue };
            let (reach, until) = self.contact.judge(most, &now);
            if reach != slot.reach {
                slot.reach = reach;
                news.push(path.clone());
                if reach == Reach::Lost && slot.target.on_stale == Some(OnStale::Keep) {
                    tracing::warn!(file = %path.display(), "kept, though {SILENT}");
                }
            }
            if self.engine.away().is_some() {
                let next = until.unwrap_or(LOOK).min(LOOK);
                stays = Some(stays.map_or(next, |stays| stays.min(next)));
            }
        }
        // A moment past the limit: to the microsecond it is not over yet.
        self.weigh_by = stays.map(|stays| Instant::now() + stays + Duration::from_millis(1));
        if stays.is_some() {
            self.save_by.get_or_insert(Instant::now() + LOOK);
        }
        for path in news {
            self.plan(&path);
            self.changed();
        }
    }

    /// Returns what the next process should know of the last contact, if any target cares.
    pub(super) fn contact_persisted(&self) -> Option<LastContact> {
        let cares = self.slots.values().any(|slot| slot.target.max_stale.is_some());
        cares.then(|| self.contact.kept(&now()))
    }
}

fn now() -> Now {
    Now { time: clock::now(), up: clock::since_boot(), awake: std::time::Instant::now() }
}
