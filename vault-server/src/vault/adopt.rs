//! Giving a vault to a server that was made anew: its first record and entries, from a machine that
//! has verified them, with the one-time claim code. It is then as one that was restored (design/
//! trust, *Life cycle*, adopt): the rest comes by `heal`, and an owner resumes it.

use std::sync::Arc;

use shared::audit::{self, Fact};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::keys::random;
use shared::log::{Entry, Owners, State, StateReader, apply, start};
use shared::name::Actor;
use shared::signed::Purpose;
use shared::wire::v1::log::{AdoptRequest, Before};

use crate::store::restored::{Cause, Restored};
use crate::store::{Transaction, checkpoint, claim, log};

use super::append::{admit, keep, publish};
use super::caller::Peer;
use super::code::CodeFile;
use super::hub::Hub;
use super::restored::keep_code;
use super::{Caller, Outcome, Refusal, Vault, signer};

impl Vault {
    /// Stores a vault's first records; the very same vault again is a success too.
    ///
    /// # Errors
    /// [`Refusal::Claim`] for a wrong or used code, [`Refusal::Rule`] for the records.
    pub async fn adopt(&self, peer: &Peer, request: AdoptRequest) -> Result<(), Refusal> {
        let (hub, code, caller) = (self.0.hub.clone(), self.0.code.clone(), *peer);
        self.found(peer, move |tx| adopt(tx, &hub, &code, &caller, &request)).await
    }
}

fn adopt(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    code: &CodeFile,
    peer: &Peer,
    request: &AdoptRequest,
) -> Outcome<()> {
    if let Some(state) = tx.state() {
        let founded = log::at(tx.conn(), 0)?.map(|stored| stored.envelope);
        let same = founded.as_ref() == Some(&request.genesis);
        // Sent again it is on record already.
        return machine(state, peer).filter(|_| same).map(drop).ok_or(Refusal::Claim.into());
    }
    if !claim::matches(tx.conn(), &request.claim)? {
        return Err(Refusal::Claim.into());
    }
    let (founded, caller, dropped) = fold(peer, request).map_err(Refusal::Rule)?;
    let vault = founded.vault();
    log::insert(tx.conn(), 0, &vault, &request.genesis)?;
    if let Some(Before { owners, .. }) = &request.before {
        for envelope in owners {
            let entry = envelope.parse::<Entry>().map_err(Refusal::Rule)?;
            log::insert(tx.conn(), entry.seq, &envelope.hash(Purpose::Entry(vault)), envelope)?;
        }
        checkpoint::adopt(tx.conn(), &founded)?;
    }
    tx.found(founded);
    claim::use_up(tx.conn())?;
    let fact = Fact { who: Some(signer(&Actor::Root)), ..caller.fact(audit::Op::Genesis) };
    tx.record(fact)?;
    for (envelope, (entry, dropped)) in request.entries.iter().zip(&dropped) {
        tx.apply(envelope).ok_or(Refusal::Stranger)?.map_err(|why| Refusal::Rule(why.error))?;
        let head = keep(tx, &caller, envelope, entry, &[], dropped)?;
        publish(tx, hub, envelope, entry, head, &[], None)?;
    }
    // No entry tells of those whom the state of a checkpoint holds.
    admit(tx, hub);
    let lacks = tx.head().ok_or(Refusal::Stranger)?;
    let unknown = Hash::from_bytes(*random::<32>());
    tx.set_restored(Some(Restored { cause: Cause::Caller, lacks, code: unknown }))?;
    keep_code(tx, code)?;
    let entries = request.entries.len();
    tracing::warn!(%vault, entries, machine = %caller.name, "a vault was taken over: it waits for an owner");
    Ok(())
}

/// Returns the active machine that holds the peer's key.
fn machine(state: &State, peer: &Peer) -> Option<Caller> {
    state.machine_by_key(&peer.key).map(|(number, machine)| peer.named(number, &machine.name))
}

/// Returns the state that the entries begin after: the genesis', or that of a checkpoint which one
/// of the owners vouches for.
fn founded(request: &AdoptRequest) -> Result<State, Error> {
    let founded = start(&request.genesis)?;
    let Some(Before { owners: changes, state }) = &request.before else { return Ok(founded) };
    let mut owners = Owners::of(&founded);
    for envelope in changes {
        owners.follow(envelope)?;
    }
    let entry = request.entries.first();
    let entry = entry.ok_or_else(|| Code::Checkpoint.because("a state without its entry"))?;
    let mut reader = StateReader::new(owners.vouched(entry)?);
    reader.take(state.as_bytes())?;
    let state = reader.finish()?;
    if state.vault() != founded.vault() {
        return Err(Code::Checkpoint.because("the state of another vault"));
    }
    Ok(state)
}

/// Folds the records once; returns the state at their beginning, the machine that sends them, which
/// is active at their end, and what each entry is and drops.
#[expect(clippy::type_complexity, reason = "what `apply` returns, for each entry")]
fn fold(
    peer: &Peer,
    request: &AdoptRequest,
) -> Result<(State, Caller, Vec<(Entry, Vec<Hash>)>), Error> {
    let founded = founded(request)?;
    let mut state = founded.clone();
    let mut entries = Vec::with_capacity(request.entries.len());
    for envelope in &request.entries {
        let applied = apply(&mut state, envelope)?;
        entries.push((applied.entry, applied.dropped));
    }
    let caller = machine(&state, peer).ok_or_else(|| {
        Code::Missing.because("the entries do not add the machine that sends them")
    })?;
    Ok((founded, caller, entries))
}
