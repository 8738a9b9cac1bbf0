//! Figures of the vault for Prometheus, and what is noted for them alone.

use std::sync::atomic::Ordering;

use shared::time::Time;

use host::clock;

use super::Vault;
use crate::metrics::Moment;

impl Vault {
    /// Writes the counters as Prometheus reads them.
    pub fn metrics_text(&self) -> String {
        let meter = &self.0.meter;
        let (unread, over, near) = (meter.unread(), meter.over(), meter.near());
        self.0.metrics.render(&Moment { unread, over, near })
    }

    /// Notes how the last backup that was due went, for members to show.
    pub fn backed_up(&self, failed: Option<Time>) {
        let since = &self.0.backup_failing;
        let before = since.load(Ordering::Relaxed);
        let now = failed.map_or(0, |now| if before > 0 { before } else { now.as_micros() });
        since.store(now, Ordering::Relaxed);
        let metrics = &self.0.metrics;
        metrics.backup_failing.set(u64::from(failed.is_some()));
        if failed.is_none() {
            metrics.backup_time.set(clock::now().as_secs());
        }
    }
}
