//! The first record, and with it the first machine: by whoever holds the one-time claim code.

use shared::audit::{self, Fact};
use shared::error::{Code, Error};
use shared::keys::VerifyKey;
use shared::log::{Entry, Op, State, start};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::wire::v1::log::GenesisRequest;

use crate::store::{Transaction, claim, log};

use super::append::{insert_entry, record_ops};
use super::{Caller, Outcome, Outlets, Peer, Refusal, Vault, directory, signer};

impl Vault {
    /// Stores the genesis and entry 1; the very same request again is a success too.
    ///
    /// # Errors
    /// [`Refusal::Claim`] for a wrong or used code, [`Refusal::Rule`] for the records.
    pub async fn genesis(&self, peer: &Peer, request: GenesisRequest) -> Result<(), Refusal> {
        let (outlets, own, caller) = (self.0.outlets.clone(), self.0.key.clone(), *peer);
        let done = self.call(move |tx| genesis(tx, &outlets, &own, &caller, &request)).await;
        if matches!(done, Err(Refusal::Claim | Refusal::Rule(_))) {
            self.count_stranger(peer);
        }
        done
    }
}

fn genesis(
    tx: &mut Transaction,
    outlets: &Outlets,
    own: &VerifyKey,
    peer: &Peer,
    request: &GenesisRequest,
) -> Outcome<()> {
    if tx.state().is_some() {
        let same = is_stored(tx, 0, &request.genesis)? && is_stored(tx, 1, &request.entry)?;
        let known = tx.state().and_then(|state| state.machine_by_key(&peer.key));
        let (true, Some((name, _))) = (same, known) else { return Ok(Err(Refusal::Claim)) };
        let caller = Caller { name: name.clone(), key: peer.key, addr: peer.ip() };
        tx.record(caller.fact(audit::Op::Genesis))?;
        return Ok(Ok(()));
    }
    if !claim::matches(tx.conn(), &request.claim)? {
        return Ok(Err(Refusal::Claim));
    }
    let (state, entry, caller) = match fold(tx, own, peer, request) {
        Ok(folded) => folded,
        Err(why) => return Ok(Err(Refusal::Rule(why))),
    };
    log::insert(tx.conn(), 0, &state, &request.genesis)?;
    insert_entry(tx, &request.entry, &entry)?;
    claim::use_up(tx.conn())?;
    let fact = Fact { who: Some(signer(&Actor::Root)), ..caller.fact(audit::Op::Genesis) };
    tx.record(fact)?;
    record_ops(tx, &caller, &request.entry, &entry)?;
    tracing::info!(vault = %state, machine = %caller.name, "vault founded");
    let (machines, directory_of) = (directory(tx.state()), outlets.directory.clone());
    tx.after_commit(move || {
        directory_of.send_replace(machines);
    });
    Ok(Ok(()))
}

fn is_stored(tx: &Transaction, seq: u64, envelope: &Envelope) -> rusqlite::Result<bool> {
    Ok(log::at(tx.conn(), seq)?.is_some_and(|stored| stored.envelope == *envelope))
}

/// Folds both records; on an error all is as before. Returns the vault id, entry 1 and the
/// machine it adds for the caller.
fn fold(
    tx: &mut Transaction,
    own: &VerifyKey,
    peer: &Peer,
    request: &GenesisRequest,
) -> Result<(shared::signed::VaultId, Entry, Caller), Error> {
    let state = start(&request.genesis)?;
    if !state.server().contains(own) {
        return Err(Code::Key.because("the genesis does not pin this server's key"));
    }
    let vault = state.vault();
    tx.found(state);
    let checked = match tx.apply(&request.entry) {
        Some(Ok((entry, _))) => check_first(tx, peer, &entry)
            .map(|caller| (vault, entry, caller))
            .inspect_err(|_| tx.take_back()),
        Some(Err(why)) => Err(why.error),
        None => Err(Code::Missing.because("the vault")),
    };
    if checked.is_err() {
        tx.take_back();
    }
    checked
}

fn check_first(tx: &Transaction, peer: &Peer, entry: &Entry) -> Result<Caller, Error> {
    if let Some(id) = entry.ops.iter().find_map(Op::blob) {
        let why = format!("blob {}: entry 1 cannot bring one", id.short());
        return Err(Code::BlobAbsent.because(why));
    }
    let found = tx.state().and_then(|state: &State| state.machine_by_key(&peer.key));
    let (name, _) = found
        .ok_or_else(|| Code::Missing.because("entry 1 does not add the machine that sends it"))?;
    Ok(Caller { name: name.clone(), key: peer.key, addr: peer.ip() })
}
