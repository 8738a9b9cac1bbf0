//! Lasting troubles, by code and object. Who is told lives with the callers of `status`.

use std::collections::BTreeMap;

use shared::time::Time;

use super::types::Alarm;

/// Alarms kept of one code: a server that damages every blob raises one for each.
const OF_ONE_CODE: usize = 64;

/// What stands now.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeMap<(String, String), Alarm>);

impl Alarms {
    /// Raises an alarm about `subject`, or renews its text; tells whether it is new.
    pub(super) fn raise(&mut self, code: &str, subject: &str, detail: String, now: Time) -> bool {
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

    /// Clears every alarm of that code.
    pub(super) fn clear(&mut self, code: &str) {
        self.clear_if(|of, _| of == code);
    }

    /// Clears every alarm of which `is` says so.
    pub(super) fn clear_if(&mut self, is: impl Fn(&str, &str) -> bool) {
        self.0.retain(|(code, subject), alarm| {
            let gone = is(code, subject);
            if gone {
                tracing::info!(code, detail = alarm.detail, "alarm is over");
            }
            !gone
        });
    }

    /// Returns the alarms, oldest first.
    pub(super) fn list(&self) -> Vec<Alarm> {
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
        let mut alarms = Alarms::default();
        alarms.raise("E_A", "x", "one".into(), Time::from_micros(1));
        alarms.raise("E_A", "x", "two".into(), Time::from_micros(2));
        alarms.raise("E_A", "y", "other".into(), Time::from_micros(3));
        let shown: Vec<_> =
            alarms.list().iter().map(|a| (a.detail.clone(), a.since.as_micros())).collect();
        assert_eq!(shown, [("two".to_owned(), 1), ("other".to_owned(), 3)]);
        alarms.clear_if(|_, subject| subject == "x");
        assert_eq!(alarms.list().len(), 1);
        alarms.clear("E_A");
        assert!(alarms.list().is_empty());
    }
}
