//! Telling people what the vault went on without: the log names all of it, an alarm what this
//! machine itself wrote.

use shared::log::{Entry, Op};

use super::alarms::Alarms;
use super::told::told;
use crate::state::set_aside::SetAside;

/// The alarm while entries that this machine wrote are set aside.
pub(super) const SET_ASIDE: &str = "set-aside";
/// Entries that the alarm names, and that are looked at for it.
const NAMED: usize = 5;
pub(super) const ALARMED: usize = 1000;

/// Says what was set aside: to the log all of it, to people what this machine itself wrote.
pub(super) fn say(alarms: &Alarms, common: u64, entries: &[SetAside]) {
    for SetAside { seq, own, envelope, .. } in entries {
        let entry = envelope.parse::<Entry>();
        let (what, time) =
            entry.map(|entry| (told(&entry, None).join(", "), entry.time)).unwrap_or_default();
        let by = &envelope.by;
        tracing::warn!(seq, own, %by, %time, what, "set aside: the vault went on without it");
    }
    tracing::warn!(entries = entries.len(), after = common, "went over to the vault's new branch");
    raise(alarms, entries);
}

/// Raises the alarm about what this machine wrote and the vault went on without, if there is any.
pub(super) fn raise(alarms: &Alarms, entries: &[SetAside]) {
    let written = |entry: &Entry| {
        entry.ops.iter().any(|op| op.path().is_some() && !matches!(op, Op::Rewrap(_)))
    };
    let own = entries.iter().filter(|entry| entry.own);
    let own: Vec<Entry> =
        own.filter_map(|entry| entry.envelope.parse().ok()).filter(written).collect();
    if own.is_empty() {
        return;
    }
    let named: Vec<String> = own
        .iter()
        .rev()
        .take(NAMED)
        .map(|entry| format!("{} ({})", told(entry, None).join(", "), entry.time))
        .collect();
    let more = own.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    alarms.raise(
        SET_ASIDE,
        "",
        format!(
            "the vault went on from an older copy without what this machine wrote: {}{more}; \
             `vault-agent set-aside` lists it, with --show PATH the content; write again what is \
             still wanted, then `vault-agent set-aside --clear`",
            named.join("; ")
        ),
    );
}
