//! Something that a background task does when it is due: soon, so that later reasons join in, or at
//! once for somebody who waits for it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// One thing that is done like that.
#[derive(Default)]
pub(super) struct Debounced {
    due: Notify,
    urgent: Notify,
    wanted: AtomicU64,
    done: watch::Sender<u64>,
}

impl Debounced {
    pub(super) fn soon(&self) {
        self.due.notify_one();
    }

    /// Wants it done at once and waits for it; tells whether it was done in time.
    pub(super) async fn now(&self, patience: Duration) -> bool {
        let ticket = self.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        self.urgent.notify_one();
        let mut done = self.done.subscribe();
        let waited = timeout(patience, done.wait_for(|done| *done >= ticket)).await;
        waited.is_ok_and(|found| found.is_ok())
    }

    /// For the task that does it: waits until it is due and `delay` has passed, it is wanted
    /// at once, or `idle` has passed. Every reason up to then is met by this one time. Returns what
    /// to hand to [`Debounced::done`].
    pub(super) async fn next(&self, delay: Duration, idle: Duration) -> u64 {
        tokio::select! {
            () = self.urgent.notified() => {}
            () = sleep(idle) => {}
            () = self.due.notified() => {
                tokio::select! {
                    () = self.urgent.notified() => {}
                    () = sleep(delay) => {}
                }
            }
        }
        pin!(self.due.notified()).as_mut().enable();
        self.wanted.load(Ordering::SeqCst)
    }

    /// Says that everything wanted up to `ticket` is done.
    pub(super) fn done(&self, ticket: u64) {
        self.done.send_modify(|done| *done = ticket.max(*done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn later_reasons_join_in_and_ask_for_no_second_time() {
        let (debounced, idle) = (Debounced::default(), Duration::from_hours(1));
        debounced.soon();
        tokio::join!(debounced.next(Duration::from_millis(1), idle), async { debounced.soon() });
        let is_due = || pin!(debounced.due.notified()).as_mut().enable();
        assert!(!is_due());
        debounced.soon();
        assert!(is_due());
    }
}
