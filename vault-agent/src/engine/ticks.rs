//! Telling those outside the engine that something changed: the log, a blob, the peers, an alarm.

use tokio::sync::watch;

/// A counter that others wait for; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Ticks(watch::Sender<u64>);

impl Default for Ticks {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Ticks {
    /// Tells everybody who waits.
    pub(super) fn tick(&self) {
        self.0.send_modify(|tick| *tick += 1);
    }

    /// Returns a receiver that hears of each tick from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
