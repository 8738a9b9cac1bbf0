//! Signed reports: each machine posts its own, gets some of the others' in turn, and everybody's
//! when somebody asks how the fleet stands. Verified beside the writer; only a refusal is on
//! record, and the local accesses that come along.

use std::collections::HashSet;

use host::clock;
use shared::audit::{AuditHead, Op};
use shared::error::{Code, Error};
use shared::head::SignedHead;
use shared::keys::VerifyKey;
use shared::log::Number;
use shared::report::{Seen, Targets};
use shared::time::Time;
use shared::wire::v1::clone::CloneNotice;
use shared::wire::v1::report::{ReportReply, ReportRequest, TargetsPage, TargetsQuery};
use shared::wire::v1::shares::Share;

use crate::meter::STRANGERS;
use crate::store::{End, audit, checkpoint, log, report};

use super::reported::{Accepted, Unsaved, View};
use super::{Caller, Refusal, Vault, admitted, refuse};

/// Reports that others saved are looked for so far back, in microseconds: more than clocks differ.
const SAVED_WITHIN: u64 = 60_000_000;

impl Vault {
    /// Keeps the caller's report; returns records of others if it asks for some.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for a record that does not verify, is another's, names what this server
    /// has not given out, or is not newer than the last one.
    pub async fn report(
        &self,
        mut caller: Caller,
        mut request: ReportRequest,
    ) -> Result<ReportReply, Refusal> {
        let (number, exchange) = (caller.number, request.exchange);
        let accesses = request.accesses.take();
        match self.accept(&caller, request).await {
            Ok(reply) => {
                let mut reply = self.exchange(number, exchange, reply);
                reply.clones = self.clones(number);
                if let Some(accesses) = accesses {
                    // Refused, they come again in a request of their own, which is told why.
                    reply.accesses = self.access(caller, accesses).await.ok();
                }
                Ok(reply)
            }
            Err(Refusal::Rule(why)) => {
                self.call(number, move |tx| {
                    admitted(tx, &mut caller)?;
                    refuse(tx, caller.fact(Op::Report), why)
                })
                .await
            }
            Err(why) => Err(why),
        }
    }

    async fn accept(
        &self,
        caller: &Caller,
        request: ReportRequest,
    ) -> Result<ReportReply, Refusal> {
        let end = self.0.store.end().ok_or(Refusal::Stranger)?;
        let ReportRequest { seen: signed, targets, .. } = request;
        let opened = VerifyKey::from_bytes(&caller.key).and_then(|key| {
            let seen = Seen::open(&signed, caller.number, &key, end.listed.vault)?;
            if let Some(text) = &targets {
                Targets::open(text, seen.targets)?;
            }
            Ok(seen)
        });
        let seen = opened.map_err(Refusal::Rule)?;
        let proven = self.check(caller.number, &seen, &end).await?;
        let (now, audit, key) = (clock::now(), *self.0.store.audit().borrow(), caller.key);
        let accepted = Accepted { key, seen, signed, targets, at: now, audit, proven };
        let active = || self.active(caller);
        let kept = self.0.reported.keep(accepted, active).map_err(Refusal::Rule)?;
        let wants_targets = kept.ok_or(Refusal::Stranger)?;
        let (seen, clones, full) = (Vec::new(), Vec::new(), self.had_no_room());
        let accesses = None;
        Ok(ReportReply { now, audit, wants_targets, seen, next: 0, clones, full, accesses })
    }

    /// Returns which copied hosts a machine is told of.
    fn clones(&self, reader: Number) -> Vec<CloneNotice> {
        let (now, mut clones) = (clock::since_boot(), self.lock_clones());
        let Some(end) = self.0.store.end().filter(|_| !clones.is_empty(now)) else {
            return Vec::new();
        };
        let may_audit = end.listed.auditors.contains(&reader);
        let machines = self.0.hub.directory();
        let active: HashSet<Number> =
            machines.borrow().values().map(|(number, _)| *number).collect();
        clones.told(reader, may_audit, |number| active.contains(&number), now)
    }

    fn active(&self, caller: &Caller) -> bool {
        let machines = self.0.hub.directory();
        machines.borrow().get(&caller.key).is_some_and(|(number, _)| *number == caller.number)
    }

    fn exchange(&self, own: Number, after: Option<Number>, mut reply: ReportReply) -> ReportReply {
        if let (Some(after), Some(end)) = (after, self.0.store.end()) {
            let machines = self.0.hub.directory().borrow().clone();
            let view = View { machines: &machines, restored: end.restored };
            let witnesses = &end.listed.witnesses;
            (reply.seen, reply.next) = self.0.reported.exchange(own, after, witnesses, &view);
        }
        reply
    }

    /// Refuses a record whose head is not one that this server has signed and its log holds, or
    /// whose audit head is not in its chain. The latter is taken while the database is set back;
    /// tells whether it is in the chain.
    async fn check(&self, number: Number, seen: &Seen, end: &End) -> Result<bool, Refusal> {
        let (head, anchored) = (seen.signed_head(), seen.audit());
        let last = self.0.reported.last(number);
        let head_known = head == end.head || last.is_some_and(|(last, _)| last == head);
        if !head_known && !self.has_signed(end, &head) {
            return Err(unknown("this server has not signed", &head));
        }
        let audit_known =
            anchored == AuditHead::EMPTY || last.is_some_and(|(_, told)| told == anchored);
        let audit_known = audit_known || self.0.store.had(anchored);
        if head_known && audit_known {
            return Ok(true);
        }
        let folder = self.0.retention.folder.clone();
        let asked = self.ask(number, move |conn| {
            let hash = if head_known { None } else { log::hash_at(conn, head.seq)? };
            // Which of two signed ones it was is not known of an entry that was dropped.
            let head_known = head_known || head.seq <= checkpoint::dropped(conn)?;
            // What was sealed meanwhile is known to its file.
            let (chain, read) =
                if audit_known { (None, 0) } else { audit::chain(conn, &folder, anchored.n)? };
            Ok((head_known, hash, chain, read))
        });
        let (head_known, hash, chain, read) = asked.await?;
        self.0.meter.take(number, Share::Bytes, read);
        let epoch = end.listed.epoch_at(head.seq);
        if !head_known && (hash != Some(head.head) || epoch != head.epoch) {
            return Err(unknown("the log does not hold", &head));
        }
        let proven = audit_known || chain == Some(anchored);
        if !proven && !end.restored {
            let why = format!("audit head {}, which is not in the chain", anchored.n);
            return Err(Refusal::Rule(Code::Report.because(why)));
        }
        Ok(proven)
    }

    /// Tells whether a head bears the signature of a listed key or of this server's own.
    pub(super) fn has_signed(&self, end: &End, head: &SignedHead) -> bool {
        let own = std::iter::once(self.0.key.verify_key());
        let keys: Vec<VerifyKey> = end.listed.keys.iter().cloned().chain(own).collect();
        head.verify(&keys, end.listed.vault).is_ok()
    }

    /// Returns who reported what last, a page of it.
    pub async fn targets(
        &self,
        mut caller: Caller,
        query: TargetsQuery,
    ) -> Result<TargetsPage, Refusal> {
        self.call(caller.number, move |tx| {
            admitted(tx, &mut caller)?;
            Ok(tx.record(caller.fact(Op::Targets))?)
        })
        .await?;
        let machines = self.0.hub.directory().borrow().clone();
        let restored = self.0.store.end().is_some_and(|end| end.restored);
        let view = View { machines: &machines, restored };
        let now = (clock::now(), clock::since_boot());
        Ok(self.0.reported.page(query.after, &view, &self.0.hub.presence(), now))
    }

    /// Saves the reports that came in since the last time, and takes over those that other servers
    /// have saved.
    pub async fn save_reports(&self) {
        let machines = self.0.hub.directory().borrow().clone();
        if self.0.reader.is_shared() {
            let now = clock::now().as_micros();
            let since = Time::from_micros(now.saturating_sub(SAVED_WITHIN));
            if let Ok(saved) = self.0.reader.ask(move |conn| report::since(conn, since)).await {
                self.0.reported.take_over(saved, &machines);
            }
        }
        let unsaved = self.0.reported.unsaved(&machines);
        if unsaved.is_empty() {
            return;
        }
        let numbers: Vec<_> = unsaved.iter().map(|one| (one.number, one.revision)).collect();
        let saved = self.call(STRANGERS, move |tx| {
            for Unsaved { number, key, at, signed, targets, .. } in unsaved {
                let machine = tx.state().and_then(|state| state.machine_numbered(number));
                if machine.is_none_or(|machine| *machine.sign.as_bytes() != key) {
                    continue;
                }
                report::keep(tx.conn(), number, at, &signed)?;
                if let Some(text) = targets {
                    report::keep_targets(tx.conn(), number, &text)?;
                }
            }
            Ok(())
        });
        // A failure is in the log; the next time tries again.
        if saved.await.is_ok() {
            self.0.reported.saved(&numbers);
        }
    }
}

fn unknown(why: &str, head: &SignedHead) -> Refusal {
    let why: Error = Code::Report.because(format!("{why} head {} {}", head.seq, head.head.short()));
    Refusal::Rule(why)
}
