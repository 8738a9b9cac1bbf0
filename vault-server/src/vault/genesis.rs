//! Founding the vault: the first record and the first machine, with the one-time claim code.

use std::sync::Arc;

use shared::audit::{self, Fact};
use shared::error::{Code, Error};
use shared::keys::VerifyKey;
use shared::log::{Applied, Entry, Op, State, apply, start};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::wire::v1::log::GenesisRequest;
use shared::wire::v1::shares::Share;

use crate::meter::STRANGERS;
use crate::store::{Result, Transaction, claim, log};

use super::append::{keep, publish};
use super::caller::Peer;
use super::hub::Hub;
use super::{Caller, Outcome, Refusal, Stop, Vault, give_up, signer};

impl Vault {
    /// Stores the genesis and entry 1; the very same request again is a success too.
    ///
    /// # Errors
    /// [`Refusal::Claim`] for a wrong or used code, [`Refusal::Rule`] for the records.
    pub async fn genesis(&self, peer: &Peer, request: GenesisRequest) -> Result<(), Refusal> {
        let (hub, own, caller) = (self.0.hub.clone(), self.0.key.verify_key(), *peer);
        self.found(peer, move |tx| genesis(tx, &hub, &own, &caller, &request)).await
    }

    /// Runs what gives the server its vault. Once it has one, the turn and the record of a refusal
    /// are those of the caller's machine.
    pub(super) async fn found<F>(&self, peer: &Peer, work: F) -> Result<(), Refusal>
    where
        F: FnOnce(&mut Transaction) -> Outcome<()> + Send + 'static,
    {
        let Some(machine) = self.caller(peer).filter(|caller| !caller.is_owner()) else {
            let done = self.call(STRANGERS, work).await;
            if matches!(done, Err(Refusal::Claim | Refusal::Rule(_))) {
                self.count_stranger(peer);
            }
            return done;
        };
        self.afford(&machine, &[Share::Audit])?;
        let fact = machine.fact(audit::Op::Genesis);
        let turn = move |tx: &mut Transaction| match work(tx) {
            Err(Stop::Refused(Refusal::Claim)) => {
                give_up(tx, fact, audit::Outcome::Refused(Code::Claim), Refusal::Claim)
            }
            done => done,
        };
        self.call(machine.number, turn).await
    }
}

fn genesis(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    own: &VerifyKey,
    peer: &Peer,
    request: &GenesisRequest,
) -> Outcome<()> {
    if let Some(state) = tx.state() {
        let same = is_stored(tx, 0, &request.genesis)? && is_stored(tx, 1, &request.entry)?;
        // Sent again it is on record already.
        return machine(state, peer).filter(|_| same).map(drop).ok_or(Refusal::Claim.into());
    }
    if !claim::matches(tx.conn(), &request.claim)? {
        return Err(Refusal::Claim.into());
    }
    let (state, entry, caller) = fold(own, peer, request).map_err(Refusal::Rule)?;
    let vault = state.vault();
    tx.found(state);
    log::insert(tx.conn(), 0, &vault, &request.genesis)?;
    claim::use_up(tx.conn())?;
    let fact = Fact { who: Some(signer(&Actor::Root)), ..caller.fact(audit::Op::Genesis) };
    tx.record(fact)?;
    let head = keep(tx, &caller, &request.entry, &entry, &[], &[])?;
    publish(tx, hub, &request.entry, &entry, head, &[], None)?;
    tracing::info!(%vault, machine = %caller.name, "vault founded");
    Ok(())
}

fn is_stored(tx: &Transaction, seq: u64, envelope: &Envelope) -> Result<bool> {
    Ok(log::at(tx.conn(), seq)?.is_some_and(|stored| stored.envelope == *envelope))
}

/// Returns the active machine that holds the peer's key.
fn machine(state: &State, peer: &Peer) -> Option<Caller> {
    state.machine_by_key(&peer.key).map(|(number, machine)| peer.named(number, &machine.name))
}

/// Folds both records; returns the state after them, entry 1, and the machine that it adds for the
/// peer.
fn fold(
    own: &VerifyKey,
    peer: &Peer,
    request: &GenesisRequest,
) -> Result<(State, Entry, Caller), Error> {
    let mut state = start(&request.genesis)?;
    if !state.server().contains(own) {
        return Err(Code::Key.because("the genesis does not pin this server's key"));
    }
    let Applied { entry, .. } = apply(&mut state, &request.entry)?;
    if let Some(id) = entry.ops.iter().find_map(Op::blob) {
        let why = format!("blob {}: entry 1 cannot bring one", id.short());
        return Err(Code::BlobAbsent.because(why));
    }
    let caller = machine(&state, peer)
        .ok_or_else(|| Code::Missing.because("entry 1 does not add the machine that sends it"))?;
    Ok((state, entry, caller))
}
