//! Getting back what this server has lost, from any machine that has verified it: entries first,
//! then the blobs of the versions still kept (design/trust, *Life cycle*, heal). The signatures
//! decide, not the messenger.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::audit;
use shared::hash::Hash;
use shared::log::{Entry, Put, State};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::wire::v1::log::{HealReply, HealRequest};
use shared::wire::v1::shares::Share;

use crate::store::{Transaction, blob};

use super::append::{Brought, keep, publish, put_of, refused_fact, stored};
use super::hub::Hub;
use super::{Caller, Outcome, Refusal, Vault, admitted, refuse};

/// Blobs asked for at once; whoever has given them back asks again.
const WANTED: usize = 10_000;

impl Vault {
    /// Appends lost entries and returns what is still wanted.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for the first entry that `apply` refuses; those before it count.
    pub async fn heal(&self, caller: Caller, request: HealRequest) -> Result<HealReply, Refusal> {
        let (hub, meter, number) = (self.0.hub.clone(), Arc::clone(&self.0.meter), caller.number);
        let shared = Arc::new((caller, request));
        let work = move |tx: &mut Transaction| {
            let mut caller = shared.0.clone();
            admitted(tx, &mut caller)?;
            if let Some(until) = meter.barred(number, false) {
                return Ok(Err(until));
            }
            for envelope in &shared.1.entries {
                take_back(tx, &hub, &caller, envelope)?;
            }
            tx.record(caller.fact(audit::Op::Heal))?;
            let wanted = missing(tx)?;
            let state = tx.state().ok_or(Refusal::Stranger)?;
            let (seq, head) = (state.seq(), state.head());
            let reply = HealReply { seq, head, wanted: wanted.keys().copied().collect() };
            tx.want(wanted);
            Ok(Ok(reply))
        };
        loop {
            match self.call(number, work.clone()).await? {
                Ok(reply) => return Ok(reply),
                Err(until) => self.0.meter.passed(until).await,
            }
        }
    }
}

/// Appends one entry without its blobs, unless it is in the log already.
fn take_back(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    caller: &Caller,
    envelope: &Envelope,
) -> Outcome<()> {
    let (entry, dropped) = match tx.apply(envelope).ok_or(Refusal::Stranger)? {
        Ok(applied) => applied,
        Err(_) if stored(tx, envelope)?.is_some() => return Ok(()),
        Err(why) => return refuse(tx, refused_fact(caller, envelope, why.op), why.error),
    };
    let brought = parked(tx, &entry, &dropped)?;
    keep(tx, caller, envelope, &entry, &brought, &dropped)?;
    tx.charge(Share::Log, envelope.body.len());
    publish(tx, hub, envelope, &entry, &brought, None)?;
    tracing::info!(seq = entry.seq, machine = %caller.name, "lost entry given back");
    Ok(())
}

/// Finds those of an entry's blobs that were uploaded before it.
fn parked<'e>(
    tx: &Transaction,
    entry: &'e Entry,
    dropped: &[Hash],
) -> rusqlite::Result<Vec<Brought<'e>>> {
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

/// Lists the blobs of kept versions that are not here.
fn missing(tx: &Transaction) -> rusqlite::Result<HashMap<Hash, (SecretPath, u64)>> {
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
    let (path, ver) = tx.wanted(id)?;
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
