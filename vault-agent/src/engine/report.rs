//! Reports on their way: this machine's seen-record against some of the others', what both say of
//! the audit chain, and the alarms that follow (design/trust, *Reports*). Coalesced, and never in
//! the way of a change's delivery.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rusqlite::Connection;
use shared::audit::AuditHead;
use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::log::Number;
use shared::name::Name;
use shared::report::{Seen, TargetReport};
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::log::{HealReply, HealRequest};
use shared::wire::v1::report::{EXCHANGED, ReportReply, ReportRequest};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::access::Accesses;
use super::alarms::{Alarms, clones_told};
use super::anchors;
use super::chain::Audit;
use super::connected::Connected;
use super::debounced::Debounced;
use super::fleet::{Fleet, Judged, Peer, Silence, Source, Taken};
use super::ledger::Ledger;
use super::link::Link;
use super::posting::{Due, Posting};
use super::stored::{self, Stored};
use super::timing;
use super::types::{Own, Ticks};
use crate::state::peers::{self, Anchor};
use crate::state::{Failure, Store, facts};
use host::clock;
use machine::remote::{Client, RemoteError};

/// How long after a change its report is sent: its delivery goes first, and later ones join in.
const AFTER: Duration = Duration::from_millis(200);
/// Least time between two reports.
const APART: Duration = Duration::from_millis(300);
/// Longest time until a report is tried again.
const LONGEST: Duration = Duration::from_mins(1);
/// How often silence and withheld entries are judged, whatever the server says: one that takes no
/// reports, or hands none out, must not keep them from being noticed.
const LOOK: Duration = Duration::from_mins(1);
/// How often the connected time is written down.
const NOTE: Duration = Duration::from_mins(10);

/// This machine's reports and everybody's. The ledger's lock is taken before any lock of these.
pub(super) struct Reports {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) link: Arc<Link>,
    accesses: Arc<Accesses>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) ticks: Ticks,
    fleet: Mutex<Fleet>,
    posting: Mutex<Posting>,
    audit: Mutex<Audit>,
    pub(super) connected: Connected,
    pub(super) reporting: Debounced,
    /// Says that the audit chain may have to be followed.
    pub(super) named: Notify,
}

/// This machine, as it reports.
struct Member {
    number: Number,
    name: Name,
    head: SignedHead,
    audit: AuditHead,
    others: usize,
}

/// Reports whenever it is due, until the connection ends.
pub(super) async fn run(reports: Arc<Reports>, client: Client) {
    let _connection = reports.connected.begin();
    let mut delay = AFTER;
    loop {
        let ticket = reports.reporting.next(delay, reports.idle()).await;
        let sent = Instant::now();
        if reports.link.is_caught_up() {
            match reports.post(&client).await {
                Ok(()) => {
                    delay = AFTER;
                    reports.reporting.done(ticket);
                }
                Err(fault) => {
                    tracing::warn!(fault = format!("{fault:#}"), "report not taken");
                    if fault.downcast_ref().is_some_and(RemoteError::is_full) {
                        reports.alarms.server_full(true);
                    }
                    delay = (delay * 4).min(LONGEST);
                    reports.reporting.soon();
                }
            }
        }
        sleep_until(sent + APART).await;
    }
}

/// Judges the others once in a while, connected or not.
pub(super) async fn watch(reports: Arc<Reports>) {
    let mut noted = reports.connected.so_far();
    loop {
        sleep(LOOK).await;
        reports.look_at_program();
        if let Err(fault) = reports.judge().await {
            tracing::warn!(%fault, "the other machines' records are not judged");
        }
        if reports.connected.so_far() >= noted + NOTE {
            noted = reports.connected.so_far();
            reports.flush().await;
        }
    }
}

impl Reports {
    pub(super) fn new(
        own: Arc<Own>,
        store: Arc<Store>,
        alarms: Arc<Alarms>,
        accesses: Arc<Accesses>,
        ledger: Arc<Ledger>,
        ticks: Ticks,
        stored: Stored,
    ) -> Self {
        let Stored { fleet, posting, chain, connected } = stored;
        Self {
            own,
            store,
            alarms,
            link: accesses.link.clone(),
            accesses,
            ledger,
            ticks,
            fleet: fleet.into(),
            posting: posting.into(),
            audit: Audit::new(chain).into(),
            connected: Connected::new(connected),
            reporting: Debounced::default(),
            named: Notify::new(),
        }
    }

    /// Replaces what this machine reports of its targets.
    pub(super) fn set_targets(&self, targets: Vec<TargetReport>) {
        let set = self.posting().set_targets(targets);
        match set {
            Ok(true) => self.reporting.soon(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the targets are not reported"),
        }
    }

    /// Returns what this machine reports of its targets.
    pub(super) fn targets(&self) -> Vec<TargetReport> {
        self.posting().targets().to_vec()
    }

    /// Takes the audit chain as it is shown next: a person has looked at it.
    pub(super) fn forget_audit(&self) {
        *self.audit() = Audit::default();
    }

    /// Returns the newest records of the others, by what their machines are called now.
    pub(super) fn peers(&self) -> Vec<(Name, Peer)> {
        let folded = self.ledger.read();
        let fleet = self.fleet();
        let named = |(number, peer): (&Number, &Peer)| {
            Some((folded.state.machine_numbered(*number)?.name.clone(), peer.clone()))
        };
        let mut peers: Vec<_> = fleet.peers().iter().filter_map(named).collect();
        peers.sort_by(|a, b| a.0.cmp(&b.0));
        peers
    }

    /// Notes a signed head past the log's end that the stream has shown.
    pub(super) fn ahead(&self, head: SignedHead) {
        let now = self.connected.so_far();
        let seq = self.ledger.read().state.seq();
        self.fleet().judged((Source::Stream, head), Judged::Ahead, seq, now);
    }

    /// Notes whether entries have come without a signed head after them.
    pub(super) fn unsigned(&self, unsigned: bool) {
        let now = self.connected.so_far();
        self.fleet().unsigned(unsigned, now);
    }

    /// Reports where the log ends now that it has gone over to another branch, and judges what is
    /// open anew.
    pub(super) async fn gone_over(&self) -> Result<(), Failure> {
        self.reporting.soon();
        self.judge().await
    }

    /// Posts this machine's record, and takes some of the others' if they are due.
    async fn post(self: &Arc<Self>, client: &Client) -> Result<()> {
        // Without a signed head there is nothing to say yet.
        let Some(member) = self.member() else { return Ok(()) };
        let due = self.posting().next(member.others, Instant::now())?;
        self.write_before(&due).await?;
        let SignedHead { epoch, seq, head, sig } = member.head;
        let seen = Seen {
            machine: member.number,
            n: due.n,
            time: clock::now(),
            epoch,
            seq,
            head,
            server_sig: sig,
            audit_n: member.audit.n,
            audit_head: member.audit.hash,
            targets: due.hash,
            wish: self.posting().wish(clock::now()),
        };
        let along = self.accesses.along().await?;
        let request = ReportRequest {
            accesses: along.request(),
            seen: seen.sign(member.name, &self.own.keys.sign, self.own.pins.vault)?,
            targets: due.text.clone(),
            exchange: due.exchange,
        };
        let asked = clock::since_boot();
        match client.report(&request).await {
            Ok(reply) => {
                let took = clock::since_boot().saturating_sub(asked);
                self.alarms.clock_off(timing::off(clock::now(), took, reply.now));
                self.alarms.clear(Code::Report.as_str());
                self.alarms.server_full(reply.full);
                self.accesses.went_along(along, reply.accesses).await?;
                if self.posting().accepted(&due, &reply) {
                    self.reporting.soon();
                }
                self.take(client, &seen, &due, reply).await
            }
            Err(fault) => {
                if let RemoteError::Refused(error) = &fault {
                    self.refused(error);
                }
                self.accesses.went_along(along, None).await?;
                Err(fault.into())
            }
        }
    }

    /// Writes down what must not be forgotten once the record is sent.
    async fn write_before(&self, due: &Due) -> Result<(), Failure> {
        let (reserve, store) = (due.reserve, due.store.clone());
        if reserve.is_none() && store.is_none() {
            return Ok(());
        }
        let written = self.store.write(move |conn| {
            if let Some(reserve) = reserve {
                facts::set(conn, facts::REPORT_N, &reserve)?;
            }
            store.map_or(Ok(()), |text| facts::set(conn, facts::TARGETS, &text))
        });
        written.await?;
        self.posting().written(due);
        Ok(())
    }

    /// Finds a way on from a refused record.
    fn refused(&self, error: &Error) {
        if error.code == Code::Seq {
            // The database that counted the records is gone: no count can be past the clock.
            self.posting().jump(clock::now().as_secs());
        }
        // A server that does not know the audit head that it has named takes the next record
        // without one, and has to name one again.
        if error.code == Code::Report && !self.audit().refuse() {
            self.alarms.raise(error.code.as_str(), "", error.detail.clone());
        }
    }

    async fn take(
        self: &Arc<Self>,
        client: &Client,
        own: &Seen,
        due: &Due,
        reply: ReportReply,
    ) -> Result<()> {
        let clones = clones_told(&self.ledger.read().state, &reply.clones);
        self.alarms.clones(&clones);
        if !self.link.is_restored() {
            self.name_audit(client, reply.audit).await?;
        }
        let is_restored = self.link.is_restored();
        if due.exchange.is_none() {
            return Ok(());
        }
        let mut newer = Vec::new();
        let mut audits = vec![(own.machine, own.epoch, own.audit())];
        let records = reply.seen.into_iter().take(EXCHANGED).map(|envelope| (envelope, ()));
        for (Taken { seen, newer: is_newer }, envelope, ()) in self.take_seen(records) {
            audits.push((seen.machine, seen.epoch, seen.audit()));
            if is_newer {
                newer.push((seen.machine, envelope));
            }
        }
        // Believed up to the record that the server has confirmed in the same answer; and what was
        // named in another epoch may be from before a restore.
        let confirmed = if is_restored { 0 } else { reply.audit.n };
        let present = self.ledger.read().state.epoch();
        let anchors = audits.into_iter().filter_map(|(machine, epoch, audit)| {
            let is_anchor = epoch == present && (1..=confirmed).contains(&audit.n);
            is_anchor.then_some(Anchor { epoch, machine, audit })
        });
        let anchors: Vec<Anchor> = anchors.collect();
        // Before they are stored: what is found in the database is not judged as news.
        self.judge().await?;
        let at = clock::now();
        let reports = Arc::clone(self);
        let kept = self.store.write(move |conn| reports.keep(conn, newer, &anchors, at));
        for (machine, why) in kept.await.context("storing the records")? {
            if !self.accuse(client, &machine, why).await? {
                break;
            }
        }
        self.ticks.send_replace(());
        Ok(())
    }

    /// Takes records up that verify, each with what came along; the others are passed over.
    pub(super) fn take_seen<T>(
        &self,
        records: impl IntoIterator<Item = (Envelope, T)>,
    ) -> Vec<(Taken, Envelope, T)> {
        let folded = self.ledger.read();
        let own = self.own.find(&folded.state).map(|(number, _)| number);
        let (mut all, mut passed_over) = (Vec::new(), None);
        let (at, mut fleet) = (clock::now(), self.fleet());
        for (envelope, along) in records {
            match fleet.take(&folded.state, &envelope, own, at) {
                Ok(taken) => all.push((taken, envelope, along)),
                Err(error) => drop(passed_over.get_or_insert(error)),
            }
        }
        fleet.prune(&folded.state);
        drop(fleet);
        if let Some(error) = passed_over {
            tracing::warn!(%error, "records that do not verify are passed over");
        }
        // Somebody counts with this machine's key: its own records would be taken for older ones.
        let of_own = all.iter().filter(|(taken, ..)| Some(taken.seen.machine) == own);
        if let Some(used) = of_own.map(|(taken, ..)| taken.seen.n).max() {
            self.posting().jump(used);
        }
        all
    }

    /// Stores what an exchange has brought; returns who contradicts what others have anchored.
    fn keep(
        &self,
        conn: &Connection,
        newer: Vec<(Number, Envelope)>,
        anchors: &[Anchor],
        at: Time,
    ) -> rusqlite::Result<Vec<(String, String)>> {
        let folded = self.ledger.read();
        let state = &folded.state;
        peers::retain(conn, |number| state.machine_numbered(number).is_some())?;
        for (number, envelope) in newer {
            peers::keep(conn, number, &envelope, at)?;
        }
        if let Some(chain) = self.audit().chain {
            facts::set(conn, facts::AUDIT, &chain)?;
        }
        anchors::keep(conn, state, anchors)
    }

    /// Takes up the audit head that the server names.
    async fn name_audit(&self, client: &Client, now: AuditHead) -> Result<()> {
        let named = {
            let folded = self.ledger.read();
            self.audit().named(&folded.state, now)
        };
        match named {
            Ok(()) => self.named.notify_one(),
            Err(error) => drop(self.accuse(client, "", error.detail).await?),
        }
        Ok(())
    }

    /// Says that the audit log was rewritten, unless the server says that it was restored, or has
    /// signed entries that are not here yet and may resume it: it is asked before it is accused.
    /// Tells whether it is.
    ///
    /// # Errors
    /// If the connection ends: it may be just then that the server is restored.
    pub(super) async fn accuse(&self, client: &Client, about: &str, why: String) -> Result<bool> {
        match client.heal(&HealRequest::default()).await {
            Ok(HealReply { restored: true, .. }) => {
                self.link.restored(true);
                return Ok(false);
            }
            Ok(HealReply { head, .. }) => match self.ledger.judge(&head).await? {
                Ok(Judged::Ahead) => {
                    self.ahead(head);
                    return Ok(false);
                }
                Ok(Judged::Held | Judged::Left | Judged::Unsigned) => {}
                Err(error) => self.link.refuse(&error),
            },
            Err(fault @ RemoteError::Lost(_)) => return Err(fault.into()),
            Err(_) => {}
        }
        self.alarms.raise(Code::AuditRewritten.as_str(), about, why);
        Ok(true)
    }

    /// Compares the signed heads that are still open with the log, and raises what follows.
    pub(super) async fn judge(&self) -> Result<(), Failure> {
        let seq = self.ledger.read().state.seq();
        let due = self.fleet().to_judge(seq);
        for (source, head) in due {
            let judged = match self.ledger.judge(&head).await? {
                Ok(judged) => judged,
                Err(error) => {
                    if self.fleet().proven((source, head)) {
                        self.link.refuse(&error);
                    }
                    continue;
                }
            };
            let now = self.connected.so_far();
            self.fleet().judged((source, head), judged, seq, now);
        }
        let (frozen, silence) = {
            let folded = self.ledger.read();
            let own = self.own.find(&folded.state).map(|(number, _)| number);
            let (now, mut fleet) = (self.connected.so_far(), self.fleet());
            (fleet.frozen(&folded.state, now), fleet.silence(&folded.state, own, now))
        };
        let silent = match silence {
            Silence::Silent(who) => Some(who),
            Silence::Heard | Silence::NotJudged => None,
        };
        for (code, found) in [(Code::Frozen.as_str(), frozen), (Code::Stale.as_str(), silent)] {
            match found {
                Some(detail) => self.alarms.raise(code, "", detail),
                None => self.alarms.clear_if(|of, about| of == code && about.is_empty()),
            }
        }
        Ok(())
    }

    /// Writes down how long this machine was connected, when it last heard whom, the number of its
    /// last record, and how far it knows the audit chain.
    pub(super) async fn flush(&self) {
        let (heard, seen) = {
            let fleet = self.fleet();
            (fleet.heard().clone(), fleet.seen().clone())
        };
        let used = self.posting().used();
        let (chain, connected) = (self.audit().chain, self.connected.so_far());
        let written =
            self.store.write(move |conn| stored::save(conn, used, chain, connected, &heard, &seen));
        match written.await {
            Ok(()) => self.posting().flushed(used),
            Err(fault) => tracing::warn!(%fault, "when the others were heard is not written down"),
        }
    }

    /// Returns this machine, while it is an active one that holds a signed head.
    fn member(&self) -> Option<Member> {
        let folded = self.ledger.read();
        let head = folded.signed?;
        let audit = self.audit().anchored(&folded.state);
        let (number, machine) = self.own.find(&folded.state)?;
        let active = folded.state.machines().values().filter(|machine| machine.active).count();
        let (name, others) = (machine.name.clone(), active.saturating_sub(1));
        Some(Member { number, name, head, audit, others })
    }

    /// Returns how long to wait if nothing happens.
    fn idle(&self) -> Duration {
        let others = self.member().map_or(0, |member| member.others);
        self.posting().idle(others, Instant::now())
    }

    pub(super) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn audit(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn posting(&self) -> MutexGuard<'_, Posting> {
        self.posting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
