//! Getting back what this server has lost, from any machine that has verified it: entries while the
//! database is set back, and blobs of the versions still kept at any time (design/trust, *Life
//! cycle*, heal). The signatures decide, not the messenger.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::audit;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log::{Entry, Put, Refused, State};
use shared::signed::Envelope;
use shared::wire::v1::log::{HealReply, HealRequest};
use shared::wire::v1::shares::Share;

use crate::store::{Result, Transaction, Wanted, blob};

use super::append::{Brought, keep, publish, put_of, refused_fact, stored};
use super::hub::Hub;
use super::restored;
use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

/// Blobs asked for at once; a machine that has given them back asks again.
const WANTED: usize = 10_000;

impl Vault {
    /// Appends lost entries, all or none, and returns what is still wanted.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for entries that are no unbroken run to a head that this server has
    /// signed, or while the database is not set back.
    pub async fn heal(&self, caller: Caller, request: HealRequest) -> Result<HealReply, Refusal> {
        if request.entries.is_empty()
            && let Some(end) = self.0.store.end().filter(|end| end.whole && !end.restored)
        {
            return Ok(HealReply { head: end.head, restored: false, wanted: Vec::new() });
        }
        let (hub, code, own) = (self.0.hub.clone(), self.0.code.clone(), self.0.key.verify_key());
        let (meter, number) = (Arc::clone(&self.0.meter), caller.number);
        let shared = Arc::new((caller, request));
        let work = move |tx: &mut Transaction| {
            let (mut caller, request) = (shared.0.clone(), &shared.1);
            admitted(tx, &mut caller)?;
            if let Some(until) = meter.barred(number, false) {
                return Ok(Err(until));
            }
            if !request.entries.is_empty() {
                give_back(tx, &hub, own.clone(), &caller, request)?;
                restored::healed(tx, &code)?;
            }
            let wanted = wanted(tx)?;
            let head = tx.head().ok_or(Refusal::Stranger)?;
            Ok(Ok(HealReply { head, restored: tx.restored().is_some(), wanted }))
        };
        loop {
            match self.call(number, work.clone()).await? {
                Ok(reply) => return Ok(reply),
                Err(until) => self.0.meter.passed(until).await,
            }
        }
    }
}

/// Appends lost entries without their blobs; those that the log has already are passed over.
fn give_back(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    own: VerifyKey,
    caller: &Caller,
    request: &HealRequest,
) -> Outcome<()> {
    let mut lost = &request.entries[..];
    while let [first, rest @ ..] = lost
        && stored(tx, first)?.is_some()
    {
        lost = rest;
    }
    if lost.is_empty() {
        return Ok(());
    }
    let run = match run(tx, own, lost, request) {
        Ok(run) => run,
        Err((at, why)) => {
            let fact = match at {
                Some(envelope) => refused_fact(caller, envelope, why.op),
                None => caller.fact(audit::Op::Heal),
            };
            return refuse(tx, fact, why.error);
        }
    };
    for (envelope, (entry, dropped)) in lost.iter().zip(&run) {
        let brought = parked(tx, entry, dropped)?;
        let head = keep(tx, caller, envelope, entry, &brought, dropped)?;
        tx.charge(Share::Log, envelope.body.len());
        // Followers ask for the blobs once the database is whole again.
        publish(tx, hub, envelope, entry, head, &[], None)?;
    }
    tx.want(None);
    tx.record(caller.fact(audit::Op::Heal))?;
    let entries = run.len();
    tracing::info!(entries, machine = %caller.name, "lost entries given back");
    Ok(())
}

/// Applies a run of entries that ends at a head which this server has signed, or for which the
/// one-time code vouches; returns them with the blobs they drop. If it is refused, the state is as
/// before.
#[expect(clippy::type_complexity, reason = "what `apply` returns, for each entry")]
fn run<'e>(
    tx: &mut Transaction,
    own: VerifyKey,
    lost: &'e [Envelope],
    HealRequest { head, code, .. }: &HealRequest,
) -> Result<Vec<(Entry, Vec<Hash>)>, (Option<&'e Envelope>, Refused)> {
    let whole = |why: Error| (None, Refused::from(why));
    let Some(restored) = tx.restored() else {
        return Err(whole(
            Code::Moved.because("the server takes lost entries only while restored"),
        ));
    };
    if code.is_some_and(|code| !restored.opens(&code)) {
        return Err(whole(Code::Claim.because("the one-time code of this server's host")));
    }
    let Some(head) = head else {
        return Err(whole(Code::BadSig.because("lost entries without a head of this server")));
    };
    // The keys before the run: what it brings vouches for nothing, unless somebody on this host
    // does for what brings it.
    let Some(state) = tx.state() else { return Ok(Vec::new()) };
    let keys: Vec<VerifyKey> = std::iter::once(own).chain(state.server().iter().cloned()).collect();
    let known = head.verify(&keys, state.vault());
    if code.is_none() {
        known.clone().map_err(whole)?;
    }
    let mut run = Vec::with_capacity(lost.len());
    let mut refused = None;
    for envelope in lost {
        match tx.apply(envelope) {
            Some(Ok(applied)) => run.push(applied),
            Some(Err(why)) => {
                refused = Some((Some(envelope), why));
                break;
            }
            None => break,
        }
    }
    if let Some(state) = tx.state().filter(|_| refused.is_none()) {
        let signed = known.or_else(|_| head.verify(state.server(), state.vault()));
        if state.place() != head.place() {
            let why = format!("the entries do not end at head {} {}", head.seq, head.head.short());
            refused = Some(whole(Code::Prev.because(why)));
        } else if let Err(why) = signed {
            refused = Some(whole(why));
        }
    }
    let Some(refused) = refused else { return Ok(run) };
    for _ in run {
        tx.take_back();
    }
    Err(refused)
}

/// Finds those of an entry's blobs that were uploaded before it.
fn parked<'e>(tx: &Transaction, entry: &'e Entry, dropped: &[Hash]) -> Result<Vec<Brought<'e>>> {
    let dropped: HashSet<&Hash> = dropped.iter().collect();
    let mut parked = Vec::new();
    for put in entry.ops.iter().filter_map(put_of).filter(|put| !dropped.contains(&put.blob)) {
        let known = blob::look(tx.conn(), &put.blob)?;
        if known.is_some_and(|known| known.place.is_none() && known.size == put.size) {
            parked.push(Brought { put, inline: None });
        }
    }
    Ok(parked)
}

/// Returns the blobs of kept versions that are not here. Once none is missing, none can be until
/// entries are given back: others bring their blobs.
fn wanted(tx: &mut Transaction) -> Result<Vec<Hash>> {
    let mut still = Wanted::new();
    for (id, (path, ver)) in tx.wanted().into_iter().flatten() {
        let secret = tx.state().and_then(|state| state.secret(path));
        let version = secret.and_then(|secret| secret.version(*ver));
        let kept = version.is_some_and(|version| version.blob == *id && !version.destroyed);
        if kept && blob::look(tx.conn(), id)?.is_none() {
            still.insert(*id, (path.clone(), *ver));
        }
    }
    let known = tx.wanted().is_some_and(|wanted| wanted.is_empty() || !still.is_empty());
    let wanted = if known { still } else { missing(tx)? };
    let ids = wanted.keys().copied().collect();
    tx.want(Some(wanted));
    Ok(ids)
}

/// Looks for the blobs of kept versions that are not here.
fn missing(tx: &Transaction) -> Result<Wanted> {
    let mut missing = HashMap::new();
    let secrets = tx.state().into_iter().flat_map(State::secrets);
    for (path, secret) in secrets {
        for (ver, version) in secret.versions().filter(|(_, version)| !version.destroyed) {
            if blob::look(tx.conn(), &version.blob)?.is_none() {
                missing.insert(version.blob, (path.clone(), ver));
                if missing.len() == WANTED {
                    return Ok(missing);
                }
            }
        }
    }
    Ok(missing)
}

/// Returns the version that a blob was lost for, if it is still kept and the blob is its own.
pub(super) fn lost(tx: &Transaction, id: &Hash, size: u64) -> Option<Put> {
    let (path, ver) = tx.wanted()?.get(id)?;
    let version = tx.state()?.secret(path)?.version(*ver)?;
    let own = version.blob == *id && version.size == size && !version.destroyed;
    own.then(|| Put {
        path: path.clone(),
        ver: *ver,
        blob: *id,
        size,
        commit: version.commit,
        readers: version.readers,
    })
}
