//! The hold over the thread that searches: it is stopped, it pauses while changes are delivered,
//! and it says where it is, so that a disk that does not answer is noticed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it pauses after each change.
const QUIET: Duration = Duration::from_millis(500);

/// What both sides know.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    quiet_until: Option<Instant>,
    /// What it reads, and since when it waits for that; names that hold values are masked.
    at: Option<(String, Instant)>,
}

impl Control {
    /// Ends the search.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.bell.notify_all();
    }

    /// Has it pause: something more important is done.
    pub(super) fn pause(&self) {
        self.lock().quiet_until = Some(Instant::now() + QUIET);
    }

    /// Notes what is read next.
    pub(super) fn reads(&self, name: String) {
        self.lock().at = Some((name, Instant::now()));
    }

    /// Waits while it is to pause, and notes that there is progress; tells whether to go on.
    pub(super) fn goes_on(&self) -> bool {
        let mut state = self.lock();
        while let Some(left) = state.quiet() {
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some((_, since)) = &mut state.at {
            *since = Instant::now();
        }
        !state.stopped
    }

    /// Returns what it has waited for this long.
    pub(super) fn hangs(&self, least: Duration) -> Option<String> {
        let state = self.lock();
        let (name, since) = state.at.as_ref()?;
        (state.quiet().is_none() && since.elapsed() >= least).then(|| name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns how long it still pauses.
    fn quiet(&self) -> Option<Duration> {
        let left = self.quiet_until?.saturating_duration_since(Instant::now());
        (!self.stopped && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pauses_and_is_stopped_and_where_it_hangs_is_known() {
        let control = Control::default();
        assert!(control.goes_on() && control.hangs(Duration::ZERO).is_none());
        control.reads("/mnt/x".to_owned());
        assert_eq!(control.hangs(Duration::ZERO).as_deref(), Some("/mnt/x"));
        assert_eq!(control.hangs(Duration::from_mins(1)), None);
        control.pause();
        assert_eq!(control.hangs(Duration::ZERO), None);
        let begun = Instant::now();
        assert!(control.goes_on() && begun.elapsed() >= QUIET / 2);
        control.pause();
        control.stop();
        assert!(!control.goes_on());
    }
}
