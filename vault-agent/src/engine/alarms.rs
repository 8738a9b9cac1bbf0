//! Lasting troubles, by code and object. Who is told lives with the callers of `status`.

use std::collections::BTreeMap;

use shared::error::Code;
use shared::time::Time;

use machine::local::Alarm;

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
            alarm.text = told(code, detail);
            return false;
        }
        if self.0.keys().filter(|(of, _)| of == code).count() >= OF_ONE_CODE {
            return false;
        }
        tracing::warn!(code, detail, "alarm");
        let text = told(code, detail);
        self.0.insert(key, Alarm { code: code.to_owned(), text, since: now });
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
                tracing::info!(code, detail = alarm.text, "alarm is over");
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

/// Puts the sentence that explains a code before what is the matter.
fn told(code: &str, detail: String) -> String {
    match Code::from_text(code) {
        Some(known) => format!("{}: {detail}", known.sentence()),
        None => detail,
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
            alarms.list().iter().map(|a| (a.text.clone(), a.since.as_micros())).collect();
        assert_eq!(shown, [("two".to_owned(), 1), ("other".to_owned(), 3)]);
        alarms.raise(Code::Fork.as_str(), "", "entry 7".into(), Time::from_micros(4));
        let fork = alarms.list().pop().unwrap();
        assert_eq!(fork.text, format!("{}: entry 7", Code::Fork.sentence()));
        alarms.clear(Code::Fork.as_str());
        alarms.clear_if(|_, subject| subject == "x");
        assert_eq!(alarms.list().len(), 1);
        alarms.clear("E_A");
        assert!(alarms.list().is_empty());
    }
}
