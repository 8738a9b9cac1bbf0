//! Since when something is the matter with a target, over restarts: the last report says so. Pure.

use std::collections::BTreeMap;

use shared::path::SecretPath;
use shared::report::{HookResult, TargetReport, TargetState};
use shared::text::Text;
use shared::time::Time;

/// Which row of the report.
type Row = (Text<1024>, SecretPath);

/// What is the matter with a target's file and with its hook.
type Matter = (Option<TargetState>, Option<HookResult>);

/// What is the matter with which row, and since when.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Row, (Matter, Time)>);

impl Troubles {
    /// Takes up what was reported last.
    pub(super) fn new(last: &[TargetReport]) -> Self {
        let matters = last.iter().filter_map(|row| Some((key(row), (matter(row)?, row.since))));
        Self(matters.collect())
    }

    /// Dates the rows: those with which something is the matter bear since when. What has just
    /// begun, or waits for a hook that failed before, is as it was.
    pub(super) fn date(&mut self, rows: &mut [TargetReport], now: Time) {
        let before = std::mem::take(&mut self.0);
        for row in rows {
            let known = before.get(&key(row));
            let (what, since) = match (matter(row), known) {
                (Some(what), Some((same, since))) if *same == what => (what, *since),
                (Some(what), _) => (what, now),
                (None, Some((same, since))) if is_open(row) => {
                    self.0.insert(key(row), (*same, *since));
                    continue;
                }
                (None, _) => continue,
            };
            row.since = since;
            self.0.insert(key(row), (what, since));
        }
    }
}

fn key(row: &TargetReport) -> Row {
    (row.name.clone(), row.path.clone())
}

/// Returns what is the matter, if anything is: with a file that never held anything, that.
fn matter(row: &TargetReport) -> Option<Matter> {
    let file = row.state.is_trouble().then_some(row.state);
    let hook = row.hook.is_trouble().then_some(row.hook);
    (file.is_some() || hook.is_some() || row.ver == 0).then_some((file, hook))
}

/// Tells whether it is not known yet how it ends.
fn is_open(row: &TargetReport) -> bool {
    row.state == TargetState::Starting || row.hook == HookResult::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: TargetState, hook: HookResult) -> TargetReport {
        TargetReport {
            name: "/a/.env".parse().unwrap(),
            path: "secret/a".parse().unwrap(),
            ver: 1,
            state,
            since: Time::from_micros(1),
            hook,
            detail: Text::default(),
        }
    }

    #[test]
    fn trouble_is_dated_from_its_beginning_over_retries_and_restarts() {
        use HookResult::{Failed, None, Ok as Ended, Pending};
        use TargetState::{Drift, Missing, Ok, Starting};
        let mut troubles = Troubles::default();
        let since = |troubles: &mut Troubles, state, hook, now: u64| {
            let mut rows = [row(state, hook)];
            troubles.date(&mut rows, Time::from_micros(now));
            rows[0].since.as_micros()
        };
        assert_eq!(since(&mut troubles, Ok, Ended, 5), 1, "since it has its version");
        assert_eq!(since(&mut troubles, Ok, Failed, 10), 10);
        assert_eq!(since(&mut troubles, Ok, Pending, 11), 1, "it is tried again");
        assert_eq!(since(&mut troubles, Ok, Failed, 12), 10, "and has failed again");
        assert_eq!(since(&mut troubles, Missing, None, 20), 20, "another matter");
        let told = TargetReport { since: Time::from_micros(20), ..row(Missing, None) };
        let mut troubles = Troubles::new(&[told]);
        assert_eq!(since(&mut troubles, Starting, None, 30), 1);
        assert_eq!(since(&mut troubles, Missing, None, 31), 20, "over a restart");
        assert_eq!(since(&mut troubles, Ok, Ended, 40), 1);
        assert_eq!(since(&mut troubles, Missing, None, 50), 50, "a new beginning");
        assert_eq!(since(&mut troubles, Drift, None, 60), 60);
        let mut never = [TargetReport { ver: 0, ..row(Starting, None) }];
        troubles.date(&mut never, Time::from_micros(70));
        troubles.date(&mut never, Time::from_micros(71));
        assert_eq!(never[0].since.as_micros(), 70, "it is new");
        troubles.date(&mut [], Time::default());
        assert!(troubles.0.is_empty(), "nothing is kept of a target that is none any more");
    }
}
