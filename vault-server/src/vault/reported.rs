//! The newest report of each machine, in memory: kept, exchanged in turn, listed, and saved later.
//! What a report must hold to be kept is decided in `report`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

use super::hub::{Directory, Presence};

/// Room for witnesses in one exchange; where there are more of them, they take turns as well.
const WITNESSES: usize = EXCHANGED / 2;
/// Soft end of a page of targets in bytes: with the last machine's, the page fits an answer.
const PAGE: usize = 512 << 10;

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
    /// Whether its audit head was found in the chain.
    proven: bool,
    /// Grows with each report that is kept.
    revision: u64,
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
    pub proven: bool,
}

/// To whom reports are shown.
pub struct View<'a> {
    /// The active machines.
    pub machines: &'a Directory,
    /// Whether the database is set back. Nothing is judged then, so that a report may name an audit
    /// record that it has lost; once it goes on, such a report could only accuse others.
    pub restored: bool,
}

impl View<'_> {
    fn shows(&self, number: Number, report: &Report) -> bool {
        (report.proven || self.restored) && is_active(self.machines, number, &report.key)
    }
}

/// A report that is to be saved.
pub struct Unsaved {
    pub number: Number,
    pub key: [u8; 32],
    pub at: Time,
    pub signed: Envelope,
    pub targets: Option<Arc<str>>,
    pub revision: u64,
}

impl From<Accepted> for Report {
    fn from(accepted: Accepted) -> Self {
        let Accepted { key, seen, signed, targets, at, audit, proven } = accepted;
        let targets = targets.map(Arc::from);
        let (revision, unsaved, targets_unsaved) = (0, false, false);
        Self { key, seen, signed, targets, at, audit, proven, revision, unsaved, targets_unsaved }
    }
}

impl Reported {
    /// Starts with the reports of a database.
    pub fn new(kept: Vec<Kept>, state: Option<&State>) -> Self {
        let read = |Kept { number, at, seen: signed, targets }: Kept| {
            let key = *state?.machine_numbered(number)?.sign.as_bytes();
            let seen: Seen = signed.parse().ok()?;
            let targets = targets.filter(|text| Hash::of(&[text.as_bytes()]) == seen.targets);
            let (audit, proven) = (AuditHead::EMPTY, true);
            let kept = Accepted { key, seen, signed, targets, at, audit, proven };
            Some((number, kept.into()))
        };
        Self(Mutex::new(kept.into_iter().filter_map(read).collect()))
    }

    /// Takes over newer reports that other servers have saved, of active machines; where an older
    /// one was saved over what is here, that is saved again.
    pub fn take_over(&self, kept: Vec<Kept>, machines: &Directory) {
        let keys: BTreeMap<Number, [u8; 32]> =
            machines.iter().map(|(key, (number, _))| (*number, *key)).collect();
        let mut reports = self.lock();
        for Kept { number, at, seen: signed, targets } in kept {
            let Some(key) = keys.get(&number).copied() else { continue };
            let Ok(seen) = signed.parse::<Seen>() else { continue };
            match reports.get_mut(&number) {
                Some(known) if known.key == key && known.seen.n > seen.n => {
                    (known.unsaved, known.targets_unsaved) = (true, known.targets.is_some());
                }
                Some(known) if known.key == key && known.seen.n == seen.n => {}
                Some(_) | None => {
                    let targets =
                        targets.filter(|text| Hash::of(&[text.as_bytes()]) == seen.targets);
                    let (audit, proven) = (AuditHead::EMPTY, true);
                    let other = Accepted { key, seen, signed, targets, at, audit, proven };
                    reports.insert(number, other.into());
                }
            }
        }
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
        let mut report = Report::from(accepted);
        let number = report.seen.machine;
        let mut reports = self.lock();
        // Asked under the lock: a report of a machine that goes meanwhile is not kept after it.
        if !active() {
            return Ok(None);
        }
        (report.unsaved, report.targets_unsaved) = (true, report.targets.is_some());
        if let Some(before) = reports.get(&number).filter(|before| before.key == report.key) {
            if before.signed == report.signed {
                report.at = before.at;
            } else if report.seen.n <= before.seen.n {
                let (n, last) = (report.seen.n, before.seen.n);
                return Err(Code::Seq.because(format!("report {n}, but the last one was {last}")));
            }
            if report.targets.is_none() && before.seen.targets == report.seen.targets {
                report.targets.clone_from(&before.targets);
            }
            report.targets_unsaved |= before.targets_unsaved;
            report.revision = before.revision + 1;
        }
        let wants_targets = report.targets.is_none();
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
        view: &View<'_>,
    ) -> (Vec<Envelope>, Number) {
        let reports = self.lock();
        // The caller may not know yet that nothing is judged: an unproven report goes to nobody.
        let shown = |(number, report): &(&Number, &Report)| {
            **number != own && report.proven && view.shows(**number, report)
        };
        let mut taken = BTreeSet::new();
        let mut seen = Vec::new();
        let later = witnesses.partition_point(|number| *number <= after);
        for number in witnesses[later..].iter().chain(&witnesses[..later]) {
            if seen.len() == WITNESSES {
                break;
            }
            if let Some(found) = reports.get_key_value(number).filter(shown) {
                taken.insert(*number);
                seen.push(found.1.signed.clone());
            }
        }
        let mut next = 0;
        for (number, report) in reports.range((Excluded(after), Unbounded)).filter(shown) {
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

    /// Returns the reports of machines numbered above `after`, a page of them, as of now by the
    /// calendar and since the boot.
    pub fn page(
        &self,
        after: Number,
        view: &View<'_>,
        presence: &Presence,
        (now, up): (Time, Duration),
    ) -> TargetsPage {
        let (mut page, mut room) = (TargetsPage::default(), PAGE);
        page.up = Some(presence.up(up).as_secs());
        for (number, report) in self.lock().range((Excluded(after), Unbounded)) {
            if !view.shows(*number, report) {
                continue;
            }
            if room == 0 {
                page.more = true;
                break;
            }
            let targets = report.targets.as_deref().unwrap_or_default().to_owned();
            room = room.saturating_sub(targets.len() + report.signed.body.len());
            let (seen, at) = (report.signed.clone(), report.at);
            let reported = Duration::from_secs(now.seconds_since(at));
            let quiet = Some(presence.quiet(*number, reported, up).as_secs());
            let online = presence.following.contains(number);
            page.machines.push(Standing { seen, targets, at, online, quiet });
        }
        page
    }

    /// Returns what is to be saved, and drops the reports of machines that are gone. One that names
    /// an unknown audit head is in memory alone.
    pub fn unsaved(&self, machines: &Directory) -> Vec<Unsaved> {
        let mut reports = self.lock();
        reports.retain(|number, report| is_active(machines, *number, &report.key));
        let unsaved = reports.iter().filter(|(_, report)| report.unsaved && report.proven);
        let copy = |(number, report): (&Number, &Report)| {
            let Report { key, signed, at, revision, .. } = report;
            let targets = report.targets.clone().filter(|_| report.targets_unsaved);
            let (signed, revision) = (signed.clone(), *revision);
            Unsaved { number: *number, key: *key, at: *at, signed, targets, revision }
        };
        unsaved.map(copy).collect()
    }

    /// Notes which reports were saved, by the revision that was.
    pub fn saved(&self, saved: &[(Number, u64)]) {
        let mut reports = self.lock();
        for (number, revision) in saved {
            if let Some(report) = reports.get_mut(number).filter(|it| it.revision == *revision) {
                (report.unsaved, report.targets_unsaved) = (false, false);
            }
        }
    }
}

fn is_active(machines: &Directory, number: Number, key: &[u8; 32]) -> bool {
    machines.get(key).is_some_and(|(of, _)| *of == number)
}

#[cfg(test)]
mod tests {
    use shared::keys::SignKey;

    use super::*;

    /// Machines 1 to `count` that have reported, each with targets of `len` bytes.
    fn reported(count: u64, len: usize) -> (Reported, Directory) {
        let (reported, mut machines) = (Reported::default(), std::collections::HashMap::new());
        for number in 1..=count {
            let accepted = accepted(number, 1, Some("x".repeat(len)));
            machines.insert(accepted.key, (number, "m".parse().unwrap()));
            assert_eq!(reported.keep(accepted, || true), Ok(Some(false)));
        }
        (reported, Arc::new(machines))
    }

    fn accepted(number: Number, n: u64, targets: Option<String>) -> Accepted {
        let key = SignKey::from_seed(&[1; 32]);
        let head = shared::head::Head { epoch: Hash::ZERO, seq: 1, head: Hash::ZERO };
        let server_sig = head.sign(&key, Hash::ZERO).unwrap().sig;
        let seen = Seen {
            machine: number,
            n,
            time: Time::default(),
            epoch: Hash::ZERO,
            seq: 1,
            head: Hash::ZERO,
            server_sig,
            audit_n: 0,
            audit_head: Hash::ZERO,
            targets: Hash::ZERO,
            wish: None,
        };
        let signed = seen.sign("m".parse().unwrap(), &key, Hash::ZERO).unwrap();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let (at, audit, proven) = (Time::default(), AuditHead::EMPTY, true);
        Accepted { key, seen, signed, targets, at, audit, proven }
    }

    const fn view(machines: &Directory) -> View<'_> {
        View { machines, restored: false }
    }

    fn numbers(seen: &[Envelope]) -> Vec<Number> {
        seen.iter().map(|one| one.parse::<Seen>().unwrap().machine).collect()
    }

    #[test]
    fn witnesses_come_first_and_the_others_in_turn() {
        let (reported, machines) = reported(200, 1);
        let ask = |after| {
            let (seen, next) = reported.exchange(7, after, &[3, 7, 150], &view(&machines));
            (numbers(&seen), next)
        };
        let (mut after, mut others) = (0, Vec::new());
        for turn in 1.. {
            let (mut seen, next) = ask(after);
            assert!(seen.len() <= EXCHANGED);
            let mut first: Vec<Number> = seen.drain(..2).collect();
            first.sort_unstable();
            assert_eq!(first, [3, 150], "the witnesses but itself");
            others.extend(seen);
            after = next;
            if after == 0 {
                assert_eq!(turn, 4);
                break;
            }
        }
        let all: Vec<Number> = (1..=200).filter(|number| ![3, 7, 150].contains(number)).collect();
        assert_eq!(others, all);
    }

    fn now() -> (Time, Duration) {
        (Time::default(), Duration::from_secs(1))
    }

    #[test]
    fn many_witnesses_take_turns() {
        let (reported, machines) = reported(100, 1);
        let witnesses: Vec<Number> = (1..=100).collect();
        let (first, next) = reported.exchange(1, 0, &witnesses, &view(&machines));
        let (second, end) = reported.exchange(1, next, &witnesses, &view(&machines));
        assert_eq!((first.len(), end), (EXCHANGED, 0));
        let mut all = [numbers(&first), numbers(&second)].concat();
        all.sort_unstable();
        assert_eq!(all, (2..=100).collect::<Vec<_>>());
    }

    #[test]
    fn targets_come_in_pages() {
        let (reported, machines) = reported(40, 200 << 10);
        let (mut after, mut sizes) = (0, Vec::new());
        loop {
            let page = reported.page(after, &view(&machines), &Presence::of(&[40]), now());
            let seen: Vec<Envelope> = page.machines.iter().map(|one| one.seen.clone()).collect();
            after = *numbers(&seen).last().unwrap();
            sizes.push(seen.len());
            if !page.more {
                assert!(page.machines.last().unwrap().online);
                break;
            }
        }
        assert_eq!((after, sizes), (40, [vec![3; 13], vec![1]].concat()));
    }

    #[test]
    fn who_is_gone_has_no_report() {
        let (reported, machines) = reported(3, 1);
        let mut left = (*machines).clone();
        left.retain(|_, (number, _)| *number != 2);
        let left = Arc::new(left);
        assert_eq!(numbers(&reported.exchange(1, 0, &[2], &view(&left)).0), [3]);
        assert_eq!(reported.page(0, &view(&left), &Presence::of(&[]), now()).machines.len(), 2);
        assert_eq!(reported.keep(accepted(2, 9, None), || false), Ok(None), "nor gets one");
        assert_eq!(reported.unsaved(&left).len(), 2);
        assert!(reported.last(2).is_none());
    }

    #[test]
    fn what_names_a_lost_audit_record_is_shown_and_kept_only_while_nothing_is_judged() {
        let (reported, machines) = reported(2, 1);
        let unproven = Accepted { proven: false, ..accepted(2, 2, None) };
        assert_eq!(reported.keep(unproven, || true), Ok(Some(false)));
        let shown = |restored| {
            let view = View { machines: &machines, restored };
            let page = reported.page(1, &view, &Presence::of(&[]), now());
            (numbers(&reported.exchange(1, 0, &[2], &view).0), page.machines.len())
        };
        assert_eq!((shown(true), shown(false)), ((vec![], 1), (vec![], 0)));
        assert_eq!(reported.unsaved(&machines).len(), 1, "the other one");
        assert_eq!(reported.keep(accepted(2, 3, None), || true), Ok(Some(false)));
        assert_eq!(shown(false), (vec![2], 1));
        let unsaved = reported.unsaved(&machines);
        assert!(unsaved.iter().all(|one| one.targets.is_some()), "those that it sent before, too");
    }

    #[test]
    fn what_came_while_it_was_saved_is_saved_again() {
        let (reported, machines) = reported(2, 1);
        let saved = |unsaved: &[Unsaved]| -> Vec<(Number, u64)> {
            unsaved.iter().map(|one| (one.number, one.revision)).collect()
        };
        let first = reported.unsaved(&machines);
        assert!(first.len() == 2 && first.iter().all(|one| one.targets.is_some()));
        assert_eq!(reported.keep(accepted(2, 2, None), || true), Ok(Some(false)));
        reported.saved(&saved(&first));
        let second = reported.unsaved(&machines);
        assert_eq!(second.iter().map(|one| one.number).collect::<Vec<_>>(), [2]);
        reported.saved(&saved(&second));
        assert!(reported.unsaved(&machines).is_empty());
        assert_eq!(reported.keep(accepted(2, 1, None), || true).unwrap_err().code, Code::Seq);
    }
}
