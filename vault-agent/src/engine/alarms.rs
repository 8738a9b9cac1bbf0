//! Lasting troubles, by code and object. Who is told lives with the callers of `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::time::Time;
use tokio::sync::watch;

use super::ticks::Ticks;
use super::types::Alarm;
use crate::state::Failure;
use host::clock;

/// Alarms kept of one code: a server that damages every blob raises one for each.
const OF_ONE_CODE: usize = 64;

/// The alarm while the agent's own database cannot be written.
const STATE: &str = "E_STATE";
/// The alarm while the server has no room.
const SERVER_FULL: &str = "E_SERVER_FULL";

/// The alarms that stand.
pub(super) struct Alarms {
    standing: Mutex<Standing>,
    ticks: Ticks,
}

impl Alarms {
    /// Starts without any.
    pub(super) fn new(ticks: Ticks) -> Self {
        Self { standing: Mutex::default(), ticks }
    }

    /// Raises an alarm about `subject`, or renews its text.
    pub(super) fn raise(&self, code: &str, subject: &str, detail: impl Into<String>) {
        let new = self.lock().raise(code, subject, detail.into(), clock::now());
        if new {
            self.ticks.tick();
        }
    }

    /// Clears every alarm of that code.
    pub(super) fn clear(&self, code: &str) {
        self.lock().clear_if(|of, _| of == code);
    }

    /// Clears every alarm of which `is` says so.
    pub(super) fn clear_if(&self, is: impl Fn(&str, &str) -> bool) {
        self.lock().clear_if(is);
    }

    /// Returns the alarms, oldest first.
    pub(super) fn list(&self) -> Vec<Alarm> {
        self.lock().list()
    }

    /// Notes whether the server has no room; the next report that it takes ends the alarm.
    pub(super) fn server_full(&self, full: bool) {
        if full {
            let detail = "the server's disk is full: it takes no writes and hands out no contents";
            self.raise(SERVER_FULL, "", detail);
        } else {
            self.clear(SERVER_FULL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises an alarm while the database cannot be written.
pub(super) async fn watch_database(
    alarms: Arc<Alarms>,
    mut trouble: watch::Receiver<Option<Failure>>,
) {
    while trouble.changed().await.is_ok() {
        let fault = trouble.borrow_and_update().clone();
        match fault {
            Some(fault) => alarms.raise(STATE, "", fault.to_string()),
            None => alarms.clear(STATE),
        }
    }
}

/// By code and subject.
#[derive(Debug, Default)]
struct Standing(BTreeMap<(String, String), Alarm>);

impl Standing {
    /// Raises an alarm about `subject`, or renews its text; tells whether it is new.
    fn raise(&mut self, code: &str, subject: &str, detail: String, now: Time) -> bool {
        let key = (code.to_owned(), subject.to_owned());
        if let Some(alarm) = self.0.get_mut(&key) {
            alarm.detail = detail;
            return false;
        }
        if self.0.keys().filter(|(of, _)| of == code).count() >= OF_ONE_CODE {
            return false;
        }
        tracing::warn!(code, detail, "alarm");
        self.0.insert(key, Alarm { code: code.to_owned(), detail, since: now });
        true
    }

    /// Clears every alarm of which `is` says so.
    fn clear_if(&mut self, is: impl Fn(&str, &str) -> bool) {
        self.0.retain(|(code, subject), alarm| {
            let gone = is(code, subject);
            if gone {
                tracing::info!(code, detail = alarm.detail, "alarm is over");
            }
            !gone
        });
    }

    /// Returns the alarms, oldest first.
    fn list(&self) -> Vec<Alarm> {
        let mut list: Vec<Alarm> = self.0.values().cloned().collect();
        list.sort_by_key(|alarm| alarm.since);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_until_cleared_and_keeps_its_start() {
        let mut alarms = Standing::default();
        alarms.raise("E_A", "x", "one".into(), Time::from_micros(1));
        alarms.raise("E_A", "x", "two".into(), Time::from_micros(2));
        alarms.raise("E_A", "y", "other".into(), Time::from_micros(3));
        let shown: Vec<_> =
            alarms.list().iter().map(|a| (a.detail.clone(), a.since.as_micros())).collect();
        assert_eq!(shown, [("two".to_owned(), 1), ("other".to_owned(), 3)]);
        alarms.clear_if(|_, subject| subject == "x");
        assert_eq!(alarms.list().len(), 1);
        alarms.clear_if(|of, _| of == "E_A");
        assert!(alarms.list().is_empty());
    }
}
