//! Applies `max_stale`: judges targets by the age of what this machine knows. The age is counted in
//! `contact`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::contact::{Contact, LastContact, Now, Reach};
use host::clock;
use machine::config::OnStale;

/// The longest time between two looks while the server is away: the age is written down then, too.
const LOOK: Duration = Duration::from_secs(60);

/// Where the kernel tells one boot from the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl Daemon {
    /// Takes up what an earlier process knew of the last contact.
    pub(super) fn begin_contact(&mut self, kept: Option<LastContact>) {
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
        let (_, synced) = self.engine.heard();
        self.contact = Some(Contact::new(boot, kept, synced, &self.now()));
    }

    /// Judges all targets that may not be without the server for ever, and plans those of which the
    /// judgement is new.
    pub(super) fn weigh(&mut self) {
        self.weigh_by = None;
        let now = self.now();
        let Some(contact) = &mut self.contact else { return };
        contact.heard(self.engine.heard().0, self.engine.away().is_none(), &now);
        let mut news: Vec<PathBuf> = Vec::new();
        let mut stays: Option<Duration> = None;
        for (path, slot) in &mut self.slots {
            let Some(most) = slot.target.max_stale else { continue };
            let reach = contact.judge(most, &now);
            if reach != slot.reach {
                slot.reach = reach;
                news.push(path.clone());
                if reach == Reach::Lost && slot.target.on_stale == Some(OnStale::Keep) {
                    tracing::warn!(file = %path.display(), "kept, though the server has not been heard for longer than `max_stale`");
                }
            }
            if self.engine.away().is_some() {
                let next = contact.stays(most, &now).unwrap_or(LOOK).min(LOOK);
                stays = Some(stays.map_or(next, |stays| stays.min(next)));
            }
        }
        if let Some(stays) = stays {
            // A moment past the limit: to the microsecond it is not over yet.
            self.weigh_by = Some(Instant::now() + stays + Duration::from_millis(1));
            self.save_by.get_or_insert(Instant::now() + LOOK);
        }
        if !news.is_empty() {
            self.plan(&news);
            self.changed();
        }
    }

    /// Returns what the next process should know of the last contact, if any target cares.
    pub(super) fn contact_persisted(&self) -> Option<LastContact> {
        let cares = self.slots.values().any(|slot| slot.target.max_stale.is_some());
        self.contact.as_ref().filter(|_| cares).map(|contact| contact.kept(&self.now()))
    }

    fn now(&self) -> Now {
        let (time, up) = (clock::now(), clock::since_boot());
        Now { time, up, awake: self.started.elapsed() }
    }
}
