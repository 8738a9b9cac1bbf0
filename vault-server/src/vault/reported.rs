//! What machines have reported last, in memory: kept, exchanged in turn, listed for whoever asks, and
//! saved behind. What a report must hold to be kept is `report`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::audit::AuditHead;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::{Number, State};
use shared::report::Seen;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::report::{EXCHANGED, Standing, TargetsPage};

use crate::store::report::Kept;

use super::hub::Directory;

/// Room for witnesses in one exchange; where there are more of them, they take turns as well.
const WITNESSES: usize = EXCHANGED / 2;
/// Soft end of a page of targets in bytes.
const PAGE: usize = 4 << 20;

/// The latest report of every machine, by number.
#[derive(Default)]
pub struct Reported(Mutex<BTreeMap<Number, Report>>);

struct Report {
    /// The machine's key: once it is nobody's, the report is none any more.
    key: [u8; 32],
    seen: Seen,
    signed: Envelope,
    /// The text that the record names, once it was sent.
    targets: Option<Arc<str>>,
    at: Time,
    /// What the machine was told of the audit chain last.
    audit: AuditHead,
    unsaved: bool,
    targets_unsaved: bool,
}

/// A report that was just accepted.
pub struct Accepted {
    pub key: [u8; 32],
    pub seen: Seen,
    pub signed: Envelope,
    pub targets: Option<String>,
    pub at: Time,
    pub audit: AuditHead,
}

/// A report that is to be saved.
pub struct Unsaved {
    pub number: Number,
    pub key: [u8; 32],
    pub at: Time,
    pub signed: Envelope,
    pub targets: Option<Arc<str>>,
}

impl Reported {
    /// Starts with the reports of a database.
    pub fn new(kept: Vec<Kept>, state: Option<&State>) -> Self {
        let read = |Kept { number, at, seen: signed, targets }: Kept| {
            let key = *state?.machine_numbered(number)?.sign.as_bytes();
            let seen: Seen = signed.parse().ok()?;
            let targets = targets.filter(|text| Hash::of(&[text.as_bytes()]) == seen.targets);
            let targets = targets.map(Arc::from);
            let (audit, unsaved, targets_unsaved) = (AuditHead::EMPTY, false, false);
            Some((
                number,
                Report { key, seen, signed, targets, at, audit, unsaved, targets_unsaved },
            ))
        };
        Self(Mutex::new(kept.into_iter().filter_map(read).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Number, Report>> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the head that a machine's last record named, and what it was then told of the audit
    /// chain: what was in the log and the chain once stays there.
    pub fn last(&self, number: Number) -> Option<(SignedHead, AuditHead)> {
        self.lock().get(&number).map(|report| (report.seen.signed_head(), report.audit))
    }

    /// Keeps a report instead of the machine's last one, unless it is that very one; tells whether
    /// its targets are still to be sent. `None` if the machine is not active any more.
    ///
    /// # Errors
    /// `E_SEQ` for a record that is not newer.
    pub fn keep(
        &self,
        accepted: Accepted,
        active: impl FnOnce() -> bool,
    ) -> Result<Option<bool>, Error> {
        let Accepted { key, seen, signed, targets, at, audit } = accepted;
        let mut reports = self.lock();
        // Asked under the lock: a report of a machine that goes meanwhile is not kept after it.
        if !active() {
            return Ok(None);
        }
        let before = reports.get(&seen.machine).filter(|report| report.key == key);
        let same = before.is_some_and(|before| before.signed == signed);
        if let Some(last) = before.filter(|_| !same).map(|before| before.seen.n)
            && seen.n <= last
        {
            let why = format!("report {}, but the last one was {last}", seen.n);
            return Err(Code::Seq.because(why));
        }
        let sent = targets.map(Arc::from);
        let targets_unsaved = sent.is_some() || before.is_some_and(|one| one.targets_unsaved);
        let known = before.filter(|before| before.seen.targets == seen.targets);
        let targets = sent.or_else(|| known.and_then(|known| known.targets.clone()));
        let at = if same { before.map_or(at, |before| before.at) } else { at };
        let wants_targets = targets.is_none();
        let (number, unsaved) = (seen.machine, true);
        let report = Report { key, seen, signed, targets, at, audit, unsaved, targets_unsaved };
        reports.insert(number, report);
        Ok(Some(wants_targets))
    }

    /// Returns records of others than `own`: of witnesses first, then of those numbered above
    /// `after`, and where the next exchange goes on.
    pub fn exchange(
        &self,
        own: Number,
        after: Number,
        witnesses: &[Number],
        machines: &Directory,
    ) -> (Vec<Envelope>, Number) {
        let reports = self.lock();
        let active = |(number, report): &(&Number, &Report)| {
            **number != own && is_active(machines, **number, &report.key)
        };
        let mut taken = BTreeSet::new();
        let mut seen = Vec::new();
        let later = witnesses.partition_point(|number| *number <= after);
        for number in witnesses[later..].iter().chain(&witnesses[..later]) {
            if seen.len() == WITNESSES {
                break;
            }
            if let Some(found) = reports.get_key_value(number).filter(active) {
                taken.insert(*number);
                seen.push(found.1.signed.clone());
            }
        }
        let mut next = 0;
        for (number, report) in reports.range((Excluded(after), Unbounded)).filter(active) {
            if taken.contains(number) {
                continue;
            }
            if seen.len() == EXCHANGED {
                return (seen, next);
            }
            seen.push(report.signed.clone());
            next = *number;
        }
        (seen, 0)
    }

    /// Returns the reports of machines numbered above `after`, a page of them.
    pub fn page(
        &self,
        after: Number,
        machines: &Directory,
        following: &BTreeSet<Number>,
    ) -> TargetsPage {
        let (mut page, mut room) = (TargetsPage::default(), PAGE);
        for (number, report) in self.lock().range((Excluded(after), Unbounded)) {
            if !is_active(machines, *number, &report.key) {
                continue;
            }
            if room == 0 {
                page.more = true;
                break;
            }
            let targets = report.targets.as_deref().unwrap_or_default().to_owned();
            room = room.saturating_sub(targets.len() + report.signed.body.len());
            let (seen, at) = (report.signed.clone(), report.at);
            page.machines.push(Standing { seen, targets, at, online: following.contains(number) });
        }
        page
    }

    /// Returns what is to be saved, and drops the reports of machines that are gone.
    pub fn take_unsaved(&self, machines: &Directory) -> Vec<Unsaved> {
        let mut reports = self.lock();
        reports.retain(|number, report| is_active(machines, *number, &report.key));
        let unsaved = reports.iter_mut().filter(|(_, report)| report.unsaved);
        let take = |(number, report): (&Number, &mut Report)| {
            report.unsaved = false;
            let send = std::mem::take(&mut report.targets_unsaved);
            let targets = report.targets.clone().filter(|_| send);
            let (key, signed) = (report.key, report.signed.clone());
            Unsaved { number: *number, key, at: report.at, signed, targets }
        };
        unsaved.map(take).collect()
    }

    /// Notes that reports were not saved after all.
    pub fn not_saved(&self, numbers: &[Number]) {
        let mut reports = self.lock();
        for number in numbers {
            if let Some(report) = reports.get_mut(number) {
                (report.unsaved, report.targets_unsaved) = (true, report.targets.is_some());
            }
        }
    }
}

fn is_active(machines: &Directory, number: Number, key: &[u8; 32]) -> bool {
    machines.get(key).is_some_and(|(of, _)| *of == number)
}
