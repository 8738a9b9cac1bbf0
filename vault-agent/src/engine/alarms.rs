//! Lasting troubles, by code and subject.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::error::{Code, Error};
use shared::log::{Number, State};
use shared::wire::v1::clone::CloneNotice;

use super::types::Ticks;
use crate::state::Trouble;
use host::clock;
use machine::local::Alarm;

/// Alarms kept of one code: a server that damages every blob raises one for each.
const OF_ONE_CODE: usize = 64;

/// The alarm while the agent's own database cannot be written.
const STATE: &str = "E_STATE";
/// The alarm while the server has no room.
const SERVER_FULL: &str = "E_SERVER_FULL";

/// The alarms that stand.
pub(super) struct Alarms {
    standing: Mutex<BTreeMap<(String, String), Alarm>>,
    ticks: Ticks,
}

/// Returns what the server's notices of copied hosts say, by the machine's number; those of
/// machines that the log does not know are left out.
pub(super) fn clones_told(state: &State, notices: &[CloneNotice]) -> Vec<(Number, String)> {
    let told = |CloneNotice { machine, addresses: [first, second], .. }: &CloneNotice| {
        let name = &state.machine_numbered(*machine)?.name;
        Some((*machine, format!("machine `{name}` at {first} and at {second}")))
    };
    notices.iter().filter_map(told).collect()
}

impl Alarms {
    pub(super) fn new(ticks: Ticks) -> Self {
        Self { standing: Mutex::default(), ticks }
    }

    /// Raises an alarm about `subject`, or renews its text.
    pub(super) fn raise(&self, code: &str, subject: &str, detail: impl Into<String>) {
        let detail = detail.into();
        let text = told(code, &detail);
        let key = (code.to_owned(), subject.to_owned());
        {
            let mut standing = self.lock();
            if let Some(alarm) = standing.get_mut(&key) {
                alarm.text = text;
                return;
            }
            if standing.keys().filter(|(of, _)| of == code).count() >= OF_ONE_CODE {
                return;
            }
            tracing::warn!(code, detail, "alarm");
            let (code, subject) = key.clone();
            standing.insert(key, Alarm { code, text, since: clock::now(), subject });
        }
        self.ticks.send_replace(());
    }

    pub(super) fn clear(&self, code: &str) {
        self.clear_if(|of, _| of == code);
    }

    /// Clears every alarm of which `is` says so, given code and subject.
    pub(super) fn clear_if(&self, is: impl Fn(&str, &str) -> bool) {
        self.lock().retain(|(code, subject), alarm| {
            let gone = is(code, subject);
            if gone {
                tracing::info!(code, detail = alarm.text, "alarm is over");
            }
            !gone
        });
    }

    /// Tells whether an alarm of that code stands.
    pub(super) fn stands(&self, code: Code) -> bool {
        self.lock().keys().any(|(of, _)| of == code.as_str())
    }

    /// Notes whether this machine's clock is minutes off the server's, and how.
    pub(super) fn clock_off(&self, found: Option<String>) {
        let code = Code::Clock.as_str();
        match found {
            Some(detail) => self.raise(code, "", detail),
            // What was not judged by age meanwhile is now.
            None if self.stands(Code::Clock) => {
                self.clear(code);
                self.ticks.send_replace(());
            }
            None => {}
        }
    }

    /// Returns the alarms, oldest first.
    pub(super) fn list(&self) -> Vec<Alarm> {
        let mut list: Vec<Alarm> = self.lock().values().cloned().collect();
        list.sort_by_key(|alarm| alarm.since);
        list
    }

    /// Notes whether the vault knows this machine's signing key beside a foreign encryption key.
    pub(super) fn substituted(&self, why: Option<Error>) {
        let code = Code::JoinSubstituted.as_str();
        match why {
            Some(error) => self.raise(code, "", error.detail),
            None => self.clear(code),
        }
    }

    /// Notes of which machines two processes use the keys in turn, as the server says now: it may
    /// be wrong, and nothing but a person acts on it.
    pub(super) fn clones(&self, found: &[(Number, String)]) {
        let clone = Code::Clone.as_str();
        self.clear_if(|code, subject| {
            code == clone && !found.iter().any(|(machine, _)| machine.to_string() == subject)
        });
        for (machine, detail) in found {
            self.raise(clone, &machine.to_string(), detail.clone());
        }
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Alarm>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises an alarm while the database cannot be written.
pub(super) async fn watch_database(alarms: Arc<Alarms>, mut trouble: Trouble) {
    while trouble.changed().await.is_ok() {
        let fault = trouble.borrow_and_update().clone();
        match fault {
            Some(fault) => alarms.raise(STATE, "", fault.to_string()),
            None => alarms.clear(STATE),
        }
    }
}

/// Puts the sentence that explains a code before what is the matter.
fn told(code: &str, detail: &str) -> String {
    match Code::from_text(code) {
        Some(known) => format!("{}: {detail}", known.sentence()),
        None => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_alarms_for_as_long_as_the_server_says_so() {
        let alarms = Alarms::new(Ticks::default());
        let found = |numbers: &[Number]| {
            let found: Vec<_> = numbers.iter().map(|n| (*n, format!("machine {n}"))).collect();
            alarms.clones(&found);
            let list = alarms.list().into_iter();
            list.filter(|alarm| alarm.code == "E_CLONE").map(|alarm| alarm.text).collect::<Vec<_>>()
        };
        alarms.raise("E_A", "2", "another");
        let text = |n| format!("{}: machine {n}", Code::Clone.sentence());
        assert_eq!(found(&[2, 3]), [text(2), text(3)]);
        assert_eq!(found(&[3]), [text(3)]);
        assert!(found(&[]).is_empty());
        assert_eq!(alarms.list().len(), 1, "other alarms stay");
    }

    #[test]
    fn an_alarm_stands_until_cleared_and_keeps_its_start() {
        let alarms = Alarms::new(Ticks::default());
        alarms.raise("E_A", "x", "one");
        let [first] = &alarms.list()[..] else { panic!("one alarm") };
        alarms.raise("E_A", "x", "two");
        alarms.raise("E_A", "y", "other");
        let shown: Vec<_> = alarms.list().into_iter().map(|a| (a.text, a.since)).collect();
        assert_eq!(shown[0], ("two".to_owned(), first.since));
        assert_eq!(shown[1].0, "other");
        alarms.raise(Code::Fork.as_str(), "", "entry 7");
        let fork = alarms.list().pop().unwrap();
        assert_eq!(fork.text, format!("{}: entry 7", Code::Fork.sentence()));
        alarms.clear(Code::Fork.as_str());
        alarms.clear_if(|_, subject| subject == "x");
        assert_eq!(alarms.list().len(), 1);
        alarms.clear("E_A");
        assert!(alarms.list().is_empty());
    }
}
