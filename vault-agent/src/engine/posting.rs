//! What this machine posts, and when: the number of its next record, its targets, whether the
//! server has their text, and when others' records are due. No network; that is `report`'s.

use std::time::Duration;

use host::version;
use shared::error::Result;
use shared::hash::Hash;
use shared::log::Number;
use shared::report::{TargetReport, Targets};
use shared::scan::{Scan, Wish};
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::report::ReportReply;
use tokio::time::Instant;

/// How often others' records are exchanged at most.
const APART: Duration = Duration::from_mins(1);
/// Each other machine adds so much to that, from 3,000 on: the server answers 50 exchanges a second
/// at most.
const EACH: Duration = Duration::from_millis(20);
/// How often a record is posted at least.
const ALIVE: Duration = Duration::from_mins(50);
/// Numbers that are noted as used at once: a record costs no write to the disk.
const RESERVED: u64 = 256;
/// Microseconds for which a wish is told: a host that comes later scans when it is its turn.
pub(super) const WISHED: u64 = 3_600 * 1_000_000;

/// What this machine reports of its targets, and of its program.
struct Reported {
    rows: Vec<TargetReport>,
    replaced: Option<Time>,
    scan: Option<Scan>,
    hash: Hash,
}

/// Returns program and version, as reported.
pub(super) fn agent() -> String {
    format!("vault-agent {}", version::own())
}

/// The numbers, the targets, and the turn of the exchange.
pub(super) struct Posting {
    /// Number of the last record.
    last: u64,
    /// Number up to which the database says that they may have been used.
    reserved: u64,
    reported: Reported,
    /// Hash of the targets that are in the database.
    stored: Option<Hash>,
    /// Hash of the targets that the server has, or has just been sent.
    delivered: Option<Hash>,
    /// After which number others' records go on.
    after: Number,
    exchange_at: Option<Instant>,
    /// What this machine last wished of the others' scans.
    wish: Option<Wish>,
}

/// What the next request carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) n: u64,
    pub(super) hash: Hash,
    /// The text behind the hash, unless the server has it.
    pub(super) text: Option<String>,
    /// The same, where the database has not got it.
    pub(super) store: Option<String>,
    /// Number to be noted as used before the record is sent.
    pub(super) reserve: Option<u64>,
    pub(super) exchange: Option<Number>,
}

impl Posting {
    /// Goes on after the numbers that may have been used, with the targets that were reported last:
    /// a command that looks at no target must not say that there are none.
    ///
    /// # Errors
    /// `E_PARSE` if the targets cannot be written as JSON.
    pub(super) fn new(reserved: u64, stored: Option<&str>) -> Result<Self> {
        let stored = stored.map(|text| (text, Hash::of(&[text.as_bytes()])));
        let known = stored.and_then(|(text, hash)| Targets::open(text, hash).ok());
        let (rows, scan) = known.map(|known| (known.targets, known.scan)).unwrap_or_default();
        let reported = Reported::new(rows, None, scan)?;
        let stored = stored.map(|(_, hash)| hash);
        Ok(Self {
            last: reserved,
            reserved,
            reported,
            stored,
            // A server that lacks them says so.
            delivered: stored,
            after: 0,
            exchange_at: None,
            wish: None,
        })
    }

    /// Replaces what is reported of the targets; tells whether it has changed.
    ///
    /// # Errors
    /// `E_LIMITS` if the rows do not fit into a report: the last ones stay.
    pub(super) fn set_targets(&mut self, rows: Vec<TargetReport>) -> Result<bool> {
        if self.reported.rows == rows {
            return Ok(false);
        }
        self.reported = Reported::new(rows, self.reported.replaced, self.reported.scan.clone())?;
        Ok(true)
    }

    /// Replaces what is reported of the program: since when it is no longer the file on its disk;
    /// tells whether that has changed.
    ///
    /// # Errors
    /// `E_LIMITS` if that does not fit into a report: what was said before stays.
    pub(super) fn set_replaced(&mut self, replaced: Option<Time>) -> Result<bool> {
        if self.reported.replaced == replaced {
            return Ok(false);
        }
        let Reported { rows, scan, .. } = &self.reported;
        self.reported = Reported::new(rows.clone(), replaced, scan.clone())?;
        Ok(true)
    }

    /// Replaces what is reported of scans; tells whether that has changed.
    ///
    /// # Errors
    /// `E_LIMITS` if that does not fit into a report: what was said before stays.
    pub(super) fn set_scan(&mut self, scan: Option<Scan>) -> Result<bool> {
        if self.reported.scan == scan {
            return Ok(false);
        }
        let Reported { rows, replaced, .. } = &self.reported;
        self.reported = Reported::new(rows.clone(), *replaced, scan)?;
        Ok(true)
    }

    /// Returns what is reported of scans.
    pub(super) const fn scan(&self) -> Option<&Scan> {
        self.reported.scan.as_ref()
    }

    /// Wishes for scans, from the next record on.
    pub(super) fn set_wish(&mut self, wish: Wish) {
        self.wish = Some(wish);
    }

    /// Returns what is wished of the others' scans.
    pub(super) fn wish(&self, now: Time) -> Option<Wish> {
        self.wish.clone().filter(|wish| wish.at.apart(now) < WISHED)
    }

    /// Returns the targets as they are reported.
    pub(super) fn targets(&self) -> &[TargetReport] {
        &self.reported.rows
    }

    /// Makes up the next request.
    ///
    /// # Errors
    /// `E_LIMITS` if the targets do not fit into a report.
    pub(super) fn next(&mut self, others: usize, now: Instant) -> Result<Due> {
        let hash = self.reported.hash;
        let (is_stored, is_delivered) = (self.stored == Some(hash), self.delivered == Some(hash));
        let wanted = !is_stored || !is_delivered;
        let text = wanted.then(|| self.reported.write()).transpose()?;
        self.last = self.last.saturating_add(1);
        let reserve = (self.last > self.reserved).then(|| self.last.saturating_add(RESERVED - 1));
        let is_due = self.exchange_at.is_none_or(|at| now >= at);
        let exchange = (is_due && others > 0).then_some(self.after);
        if exchange.is_some() {
            self.exchange_at = Some(now + jittered(apart(others)));
        }
        let store = text.clone().filter(|_| !is_stored);
        let text = text.filter(|_| !is_delivered);
        Ok(Due { n: self.last, hash, text, store, reserve, exchange })
    }

    /// Notes that the database has what the request wanted written before it is sent.
    pub(super) fn written(&mut self, due: &Due) {
        self.reserved = due.reserve.unwrap_or(self.reserved);
        self.stored = Some(due.hash).filter(|_| due.store.is_some()).or(self.stored);
    }

    /// Takes up what the server says of an accepted record; tells whether it waits for the targets.
    pub(super) fn accepted(&mut self, due: &Due, reply: &ReportReply) -> bool {
        self.delivered = Some(due.hash).filter(|_| !reply.wants_targets);
        if due.exchange.is_some() {
            self.after = reply.next;
        }
        // One that always wants them gets them with each record, and no more records for it.
        reply.wants_targets && due.text.is_none()
    }

    /// Goes past a number that is known to be used.
    pub(super) fn jump(&mut self, used: u64) {
        self.last = self.last.max(used);
    }

    /// Returns the number up to which numbers were used.
    pub(super) const fn used(&self) -> u64 {
        self.last
    }

    /// Notes that the database says that numbers up to this one are used.
    pub(super) const fn flushed(&mut self, used: u64) {
        self.reserved = used;
    }

    /// Returns how long to wait if nothing happens.
    pub(super) fn idle(&self, others: usize, now: Instant) -> Duration {
        let exchange = self.exchange_at.map(|at| at.saturating_duration_since(now));
        if others == 0 { ALIVE } else { exchange.unwrap_or(Duration::ZERO).min(ALIVE) }
    }

    /// Has the next request ask for others' records.
    #[cfg(test)]
    pub(super) const fn exchange_now(&mut self) {
        self.exchange_at = None;
    }
}

impl Reported {
    fn new(rows: Vec<TargetReport>, replaced: Option<Time>, scan: Option<Scan>) -> Result<Self> {
        let mut reported = Self { rows, replaced, scan, hash: Hash::ZERO };
        reported.hash = Hash::of(&[reported.write()?.as_bytes()]);
        Ok(reported)
    }

    fn write(&self) -> Result<String> {
        let (agent, replaced) = (Text::lossy(&agent()), self.replaced);
        let (targets, scan) = (self.rows.clone(), self.scan.clone());
        let (text, _) = Targets { agent, replaced, targets, scan }.write()?;
        Ok(text)
    }
}

/// Returns the least time between two exchanges with so many others.
fn apart(others: usize) -> Duration {
    APART.max(EACH.saturating_mul(u32::try_from(others).unwrap_or(u32::MAX)))
}

/// Returns `time` and up to half of it more, so that machines do not ask together.
fn jittered(time: Duration) -> Duration {
    let [byte] = *shared::keys::random::<1>();
    time.mul_f64(1.0 + f64::from(byte) / 512.0)
}

#[cfg(test)]
mod tests {
    use shared::audit::AuditHead;
    use shared::report::{HookResult, TargetState};

    use super::*;

    fn row(ver: u64) -> TargetReport {
        TargetReport {
            name: "/srv/app/.env".parse().unwrap(),
            path: "secret/a".parse().unwrap(),
            ver,
            state: TargetState::Ok,
            since: Time::default(),
            hook: HookResult::None,
            detail: Text::default(),
        }
    }

    fn reply(wants_targets: bool, next: Number) -> ReportReply {
        let (now, audit) = (Time::default(), AuditHead::EMPTY);
        ReportReply {
            now,
            audit,
            wants_targets,
            seen: Vec::new(),
            next,
            clones: Vec::new(),
            full: false,
            accesses: None,
        }
    }

    #[test]
    fn others_are_asked_for_once_a_minute_and_in_turn() {
        let mut posting = Posting::new(0, None).unwrap();
        let now = Instant::now();
        let first = posting.next(1, now).unwrap();
        assert_eq!((first.n, first.exchange, first.reserve), (1, Some(0), Some(256)));
        posting.written(&first);
        posting.accepted(&first, &reply(false, 64));
        let second = posting.next(1, now + Duration::from_secs(59)).unwrap();
        assert_eq!((second.n, second.exchange, second.reserve), (2, None, None));
        assert!((APART..=APART * 3 / 2).contains(&posting.idle(1, now)));
        let third = posting.next(1, now + APART * 3 / 2).unwrap();
        assert_eq!(third.exchange, Some(64));
        // In a vault of thousands they take turns that are longer.
        posting.exchange_now();
        assert_eq!(posting.next(9_999, now).unwrap().exchange, Some(64));
        let wait = Duration::from_secs(199)..Duration::from_secs(300);
        assert!(wait.contains(&posting.idle(9_999, now)), "{:?}", posting.idle(9_999, now));
        // Nobody is there to be heard.
        posting.exchange_now();
        assert_eq!(posting.next(0, now).unwrap().exchange, None);
        assert_eq!(posting.idle(0, now), ALIVE);
    }

    #[test]
    fn the_text_of_targets_travels_only_where_the_server_lacks_it() {
        let mut posting = Posting::new(0, None).unwrap();
        let now = Instant::now();
        assert!(posting.set_targets(vec![row(1)]).unwrap());
        let first = posting.next(0, now).unwrap();
        assert!(first.text.is_some() && first.store == first.text);
        posting.written(&first);
        assert!(!posting.accepted(&first, &reply(false, 0)));
        assert!(!posting.set_targets(vec![row(1)]).unwrap());
        let same = posting.next(0, now).unwrap();
        assert_eq!((same.text, same.store, same.hash), (None, None, first.hash));
        assert!(posting.set_targets(vec![row(2)]).unwrap());
        let changed = posting.next(0, now).unwrap();
        assert!(changed.text.is_some() && changed.hash != first.hash);
        posting.accepted(&changed, &reply(false, 0));
        // A restarted server has forgotten them: the next record brings them, at once.
        let bare = posting.next(0, now).unwrap();
        assert!(posting.accepted(&bare, &reply(true, 0)));
        let again = posting.next(0, now).unwrap();
        assert_eq!(again.text, changed.text);
        assert!(!posting.accepted(&again, &reply(true, 0)), "asking on brings no more records");
    }

    #[test]
    fn a_program_that_was_replaced_is_reported_once_and_until_it_is_not() {
        let mut posting = Posting::new(0, None).unwrap();
        assert!(posting.set_targets(vec![row(1)]).unwrap());
        let before = posting.next(0, Instant::now()).unwrap();
        let at = Time::from_micros(7);
        assert!(posting.set_replaced(Some(at)).unwrap());
        assert!(!posting.set_replaced(Some(at)).unwrap());
        let due = posting.next(0, Instant::now()).unwrap();
        let said = Targets::open(&due.text.unwrap(), due.hash).unwrap();
        assert_eq!((said.replaced, said.targets), (Some(at), vec![row(1)]));
        assert_eq!(said.agent.to_string(), agent());
        assert!(posting.set_targets(vec![row(2)]).unwrap());
        assert!(posting.set_replaced(None).unwrap());
        assert!(posting.set_targets(vec![row(1)]).unwrap());
        assert_eq!(posting.next(0, Instant::now()).unwrap().hash, before.hash);
    }

    #[test]
    fn a_wish_is_told_for_an_hour_and_scans_are_reported_beside_targets() {
        let mut posting = Posting::new(0, None).unwrap();
        let at = Time::from_micros(5);
        posting.set_wish(Wish { at, machines: vec![3] });
        assert_eq!(posting.wish(at.plus(WISHED - 1)).map(|wish| wish.machines), Some(vec![3]));
        assert_eq!(posting.wish(at.plus(WISHED)), None);
        let scan = Some(Scan { running: Some(at), sealed: None });
        assert!(
            posting.set_scan(scan.clone()).unwrap() && !posting.set_scan(scan.clone()).unwrap()
        );
        assert!(posting.set_targets(vec![row(1)]).unwrap());
        let due = posting.next(0, Instant::now()).unwrap();
        let said = Targets::open(&due.text.unwrap(), due.hash).unwrap();
        assert_eq!((said.scan.clone(), said.targets), (scan, vec![row(1)]));
        let again = Posting::new(0, due.store.as_deref()).unwrap();
        assert_eq!(again.scan().cloned(), said.scan);
    }

    #[test]
    fn numbers_go_on_after_a_crash_and_targets_are_remembered() {
        let mut posting = Posting::new(0, None).unwrap();
        posting.set_targets(vec![row(7)]).unwrap();
        let due = posting.next(0, Instant::now()).unwrap();
        let text = due.store.unwrap();
        let mut again = Posting::new(due.reserve.unwrap(), Some(&text)).unwrap();
        let next = again.next(0, Instant::now()).unwrap();
        assert_eq!((next.n, next.hash, next.store), (257, due.hash, None));
        assert_eq!(again.targets(), [row(7)]);
        assert_eq!(again.scan(), None);
        again.jump(1_000);
        assert_eq!(again.next(0, Instant::now()).unwrap().n, 1_001);
    }
}
