//! What this machine tells the others of its targets, and the alarms that stand for them.

use std::collections::BTreeMap;

use shared::error::Code;
use shared::limits;
use shared::report::{HookResult, TargetReport, TargetState};
use shared::text::Text;

use host::clock;
use host::shown::quoted;

use super::Daemon;
use super::contact::Reach;
use super::plan::SILENT;
use super::record::HookEnd;
use super::slot::{Slot, State};
use machine::config::OnStale;

/// The alarm of a target that lacks a secret or a key.
const MISSING: &str = "E_TARGET_MISSING";
/// What to do about it.
const LOOK: &str = " (hint: `vault kv put SECRET KEY=-` makes a secret, `vault kv patch` a key in \
                    one; if the name is wrong, mend it in `agent.toml`)";

/// Why a file is not written that cannot be reached.
const HANGS: &str = "its disk does not answer";
/// What to do about it.
const MOUNT: &str = "see whether the server of its mount is there; it is written as soon as the \
                     disk answers, and other files are kept right meanwhile";

/// What all rows together may take of the 256 KiB that a report may have, as JSON: beside them
/// stands what a scan has found, in base64.
const MOST_BYTES: usize = 255 * 1024 - (limits::SCAN + 512) / 3 * 4;

/// What the failure of a hook may take of a row's text beside a note, which stands behind it.
const MOST_OF_A_HOOK: usize = 80;

impl Daemon {
    /// Renews the report, and the alarms that go with it.
    pub(super) fn report(&mut self) {
        self.report_by = None;
        let mut rows = rows(self.slots.values(), self.masters.rows());
        self.troubles.date(&mut rows, clock::now());
        self.engine.set_targets(rows);
        let mut slots: Vec<&Slot> = self.slots.values().collect();
        slots.sort_by_key(|slot| &slot.target.path);
        let alarms = slots.into_iter().flat_map(alarms);
        let alarms = gathered(alarms.chain(self.masters.alarms()));
        for code in self.alarms.keys().filter(|code| !alarms.contains_key(*code)) {
            self.engine.clear_alarm(code);
        }
        for (code, text) in &alarms {
            if self.alarms.get(code) != Some(text) {
                self.engine.alarm(code, text.clone());
            }
        }
        self.alarms = alarms;
    }
}

impl Slot {
    /// Returns how it stands, and what its owner should know, as the fleet view has it.
    pub(super) fn standing(&self) -> (TargetState, String) {
        let (state, detail) = match &self.state {
            _ if self.hung => (TargetState::Failed, HANGS),
            State::New => (TargetState::Starting, ""),
            State::Right if !self.absent.is_empty() => {
                return (TargetState::Missing, missing(&self.absent));
            }
            State::Right => match &self.notes[..] {
                [] => (TargetState::Ok, ""),
                [note] => (TargetState::Ok, &**note),
                [note, more @ ..] => {
                    return (TargetState::Ok, format!("{note}; and {} more", more.len()));
                }
            },
            State::Held(state, why) => (*state, &**why),
            State::Failed(fault) => (fault.state, &*fault.text),
            State::Drifted => (TargetState::Drift, "changed by somebody else"),
            State::Contested => (TargetState::Drift, "another program keeps changing it"),
        };
        (state, detail.to_owned())
    }

    /// Returns how it stands in one line.
    pub(super) fn show(&self) -> String {
        match self.standing() {
            (state, detail) if detail.is_empty() => state.to_string(),
            (state, detail) => format!("{state}: {detail}"),
        }
    }

    /// Returns what became of the hook, and what it failed with, as the fleet view has it.
    pub(super) fn hook_result(&self) -> (HookResult, String) {
        let (result, failure) = match &self.hook {
            HookEnd::None => (HookResult::None, ""),
            HookEnd::Pending => (HookResult::Pending, ""),
            HookEnd::Ok => (HookResult::Ok, ""),
            HookEnd::Failed(why) => (HookResult::Failed, &**why),
        };
        match self.gone_back() {
            None => (result, failure.to_owned()),
            Some(bad) if result == HookResult::Pending => {
                (HookResult::RollingBack, bad.why.clone())
            }
            Some(bad) if failure.is_empty() => (HookResult::RolledBack, bad.why.clone()),
            Some(bad) => (HookResult::RolledBack, format!("{}, then {failure}", bad.why)),
        }
    }

    /// Returns what became of the hook in one line.
    pub(super) fn show_hook(&self) -> String {
        match self.hook_result() {
            (result, why) if why.is_empty() => result.to_string(),
            (HookResult::Failed, why) => why,
            (result, why) => format!("{result}: {why}"),
        }
    }
}

/// Names keys that are to be in a file and are nowhere.
fn missing(absent: &[String]) -> String {
    let names = absent.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    match &names[..] {
        [one] => format!("no secret has the key {one}"),
        many => format!("no secret has the keys {}", many.join(", ")),
    }
}

/// Returns the alarms of one target: about its file, about its hook, and about its age.
fn alarms(slot: &Slot) -> impl Iterator<Item = (&'static str, String)> {
    let path = slot.target.path.display();
    let file = match &slot.state {
        _ if slot.hung => Some(("E_TARGET", format!(" (hint: {MOUNT})"))),
        State::Failed(fault) => {
            let is_foreign = fault.state == TargetState::Foreign;
            let code = if is_foreign { Code::TargetForeign.as_str() } else { "E_TARGET" };
            let hint = &fault.hint;
            Some((code, if hint.is_empty() { String::new() } else { format!(" (hint: {hint})") }))
        }
        State::Drifted | State::Contested => Some(("E_DRIFT", String::new())),
        State::Held(TargetState::TooOld, _) => Some(("E_MAX_STALE", String::new())),
        State::Held(TargetState::Missing, _) => Some((MISSING, LOOK.to_owned())),
        State::Right if !slot.absent.is_empty() => Some((MISSING, LOOK.to_owned())),
        State::New | State::Right | State::Held(..) => None,
    };
    let file = file.map(|(code, hint)| (code, format!("`{path}` {}{hint}", slot.show())));
    let hook = slot.hook_has_failed().then(|| {
        let why = slot.show_hook();
        // Where the copy of an older file is stands in the notes alone.
        let notes: String = slot.notes.iter().map(|note| format!("; {note}")).collect();
        let text = format!(
            "the hook of `{path}` failed: {why}{notes} (hint: the agent's log has what it printed; \
             once that is mended, `vault-agent hook run {}`)",
            quoted(&slot.target.path.to_string_lossy())
        );
        ("E_HOOK", text)
    });
    let is_stale = slot.target.max_stale.is_some()
        && slot.reach == Reach::Lost
        && slot.target.on_stale.unwrap_or_default() == OnStale::Alarm;
    let stale = is_stale.then(|| ("E_MAX_STALE", format!("`{path}` is kept, though {SILENT}")));
    file.into_iter().chain(hook).chain(stale)
}

/// Makes one alarm of all with the same code: the first, and how many more there are.
fn gathered(
    alarms: impl Iterator<Item = (&'static str, String)>,
) -> BTreeMap<&'static str, String> {
    let mut counted: BTreeMap<&'static str, (String, usize)> = BTreeMap::new();
    for (code, text) in alarms {
        counted.entry(code).or_insert((text, 0)).1 += 1;
    }
    let shown = counted.into_iter().map(|(code, (text, count))| match count {
        1 => (code, text),
        _ => (code, format!("{text}; and {} more", count - 1)),
    });
    shown.collect()
}

/// Makes one row per secret of each target, and one per master file: what is wrong first, then by
/// path. Rows past the limit of a report are left out from the end, where all is well.
fn rows<'a>(
    slots: impl Iterator<Item = &'a Slot>,
    masters: impl Iterator<Item = TargetReport>,
) -> Vec<TargetReport> {
    let mut rows: Vec<TargetReport> = slots.flat_map(of).chain(masters).collect();
    rows.sort_by_cached_key(|row| {
        let is_fine = row.state == TargetState::Ok
            && matches!(row.hook, HookResult::Ok | HookResult::None)
            && row.detail.is_empty();
        (is_fine, row.name.clone())
    });
    let mut bytes = 0;
    // A row and its comma; how much escaping adds to the texts, only writing them tells.
    let written = |row: &TargetReport| serde_json::to_string(row).map_or(MOST_BYTES, |it| it.len());
    let fit = rows.iter().take_while(|row| {
        bytes += written(row) + 1;
        bytes <= MOST_BYTES
    });
    let (fit, all) = (fit.count(), rows.len());
    if fit < all {
        tracing::warn!("{} of {all} target rows do not fit into the report", all - fit);
        rows.truncate(fit);
    }
    rows
}

fn of(slot: &Slot) -> impl Iterator<Item = TargetReport> {
    let (state, matter) = slot.standing();
    let (hook, failure) = slot.hook_result();
    let detail = match (matter.is_empty(), failure.is_empty()) {
        (_, true) => matter,
        (true, false) => failure,
        (false, false) if state == TargetState::Ok => {
            format!("{}; {matter}", Text::<MOST_OF_A_HOOK>::lossy(&failure))
        }
        (false, false) => format!("{matter}; hook: {failure}"),
    };
    // The whole texts are in the log.
    let (name, detail) = (Text::lossy(&slot.name), Text::lossy(&detail));
    slot.target.secrets.iter().zip(slot.versions()).map(move |(path, ver)| TargetReport {
        name: name.clone(),
        path: path.clone(),
        ver: ver.unwrap_or_default(),
        state,
        since: slot.since,
        hook,
        detail: detail.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use shared::hash::Hash;
    use shared::scan::{Scan, SealedFindings};

    use super::*;
    use machine::config::Config;

    fn slots(count: usize) -> Vec<Slot> {
        let target = |n| {
            format!(
                "[[target]]\npath = \"/srv/app-{n:04}/.env\"\nsecrets = [\"secret/app/{n:04}\", \"secret/all\"]\n"
            )
        };
        let text: String = (0..count).map(target).collect();
        let config = Config::parse(&text, Path::new("t")).unwrap();
        config.targets.iter().map(|target| Slot::new(Arc::clone(target), None)).collect()
    }

    #[test]
    fn each_secret_has_a_row() {
        let rows = rows(slots(1).iter(), std::iter::empty());
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.path.as_str(), row.ver, row.state, row.hook))
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "/srv/app-0000/.env",
                    "secret/app/0000",
                    0,
                    TargetState::Starting,
                    HookResult::None
                ),
                ("/srv/app-0000/.env", "secret/all", 0, TargetState::Starting, HookResult::None),
            ]
        );
    }

    #[test]
    fn a_report_never_grows_past_its_limit() {
        let rows = rows(slots(2_000).iter(), std::iter::empty());
        assert!(rows.len() > 1_000);
        // Texts that JSON makes twice as long.
        let mut long = slots(2_000);
        for slot in &mut long {
            slot.state = State::Held(TargetState::Waiting, "\"".repeat(200));
        }
        let long = self::rows(long.iter(), std::iter::empty());
        for rows in [rows, long] {
            let agent = "x".repeat(64).parse().unwrap();
            let replaced = Some(clock::now());
            let sealed = SealedFindings { commit: Hash::ZERO, age: vec![7; limits::SCAN] };
            let scan = Some(Scan { running: replaced, sealed: Some(sealed) });
            shared::report::Targets { agent, replaced, targets: rows, scan }.write().unwrap();
        }
    }

    #[test]
    fn alarms_of_one_code_are_one() {
        let alarms = [("E_A", "one"), ("E_B", "two"), ("E_A", "three"), ("E_A", "four")];
        let shown = gathered(alarms.into_iter().map(|(code, text)| (code, text.to_owned())));
        assert_eq!(
            Vec::from_iter(shown),
            [("E_A", "one; and 2 more".to_owned()), ("E_B", "two".to_owned())]
        );
    }

    #[test]
    fn a_secret_or_a_key_that_does_not_exist_is_told_and_an_alarm() {
        let mut slot = slots(1).remove(0);
        let told = |slot: &Slot| {
            let row = of(slot).next().unwrap();
            let alarms = alarms(slot).map(|(code, _)| code).collect::<Vec<_>>();
            (row.state, row.detail.to_string(), alarms)
        };
        slot.state = State::Right;
        assert_eq!(told(&slot), (TargetState::Ok, String::new(), vec![]));
        slot.absent = vec!["A".to_owned()];
        let one = "no secret has the key `A`".to_owned();
        assert_eq!(told(&slot), (TargetState::Missing, one, vec!["E_TARGET_MISSING"]));
        slot.absent.push("B".to_owned());
        assert_eq!(told(&slot).1, "no secret has the keys `A`, `B`");
        let why = "no secret `secret/a`".to_owned();
        slot.state = State::Held(TargetState::Missing, why.clone());
        assert_eq!(told(&slot), (TargetState::Missing, why, vec!["E_TARGET_MISSING"]));
        slot.state = State::Held(TargetState::Kept, String::new());
        assert_eq!(told(&slot).2, [""; 0]);
    }

    #[test]
    fn file_and_hook_share_one_bounded_text() {
        let mut slot = slots(1).remove(0);
        slot.hook = HookEnd::Failed("exit 1".to_owned());
        let told = |slot: &Slot| of(slot).next().unwrap();
        assert_eq!((told(&slot).hook, told(&slot).detail.as_str()), (HookResult::Failed, "exit 1"));
        (slot.state, slot.notes) = (State::Right, vec!["a note".to_owned()]);
        assert_eq!(told(&slot).detail.as_str(), "exit 1; a note");
        let alarm = |slot: &Slot| alarms(slot).map(|(_, text)| text).collect::<String>();
        let both = "failed: exit 1; a note (hint: the agent's log has what it printed; ";
        assert!(alarm(&slot).contains(both), "{}", alarm(&slot));
        slot.hook = HookEnd::Failed("x".repeat(500));
        assert!(told(&slot).detail.as_str().ends_with("x…; a note"), "{}", told(&slot).detail);
        slot.hook = HookEnd::Failed("exit 1".to_owned());
        slot.state = State::Drifted;
        assert_eq!(told(&slot).detail.as_str(), "changed by somebody else; hook: exit 1");
        slot.hook = HookEnd::Failed("x\n".repeat(500));
        let detail = told(&slot).detail;
        assert!(detail.as_str().len() <= 256 && detail.as_str().ends_with('…'), "{detail}");
    }
}
