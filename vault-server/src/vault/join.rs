//! Requests of strangers to join: checked, kept in memory, listed for the owners. No right comes
//! of them: only an entry that an owner signs makes a machine.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use host::clock;
use shared::audit::{Fact, Op, Outcome as AuditOutcome};
use shared::error::{Code, Error};
use shared::log::{Machine, State};
use shared::token::{Line as _, MachineLine};
use shared::wire::v1::join::{HELD_SECONDS, JoinList, JoinReply, JoinRequest, Waiting};
use shared::words::VaultWords;

use crate::meter::STRANGERS;

use super::joining::{Asking, Joining, Site};
use super::{Peer, Refusal, Vault};

impl Vault {
    /// Takes a request to join; the very same one again only asks how it stands.
    ///
    /// # Errors
    /// [`Refusal::Stranger`] if it means another vault, [`Refusal::Often`] if too many ask already,
    /// [`Refusal::Rule`] for the line.
    pub async fn ask_to_join(
        &self,
        peer: &Peer,
        request: JoinRequest,
    ) -> Result<JoinReply, Refusal> {
        if self.caller(peer).is_some() {
            return Ok(JoinReply { joined: true, left: 0 });
        }
        let again = self.joining().again(&peer.key, &request.line, clock::since_boot());
        if let Some(left) = again {
            return Ok(JoinReply { joined: false, left: left.as_secs() });
        }
        let taken = self.take_request(peer, request).await;
        if matches!(taken, Err(Refusal::Stranger | Refusal::Often(_))) {
            self.count_stranger(peer);
        }
        taken
    }

    async fn take_request(&self, peer: &Peer, request: JoinRequest) -> Result<JoinReply, Refusal> {
        let JoinRequest { vault, line: text } = request;
        let signers = self.0.hub.signers().ok_or(Refusal::Stranger)?;
        if VaultWords::of(&signers.vault()) != vault {
            return Err(Refusal::Stranger);
        }
        let of = Site::from(peer.addr.ip());
        let tried = self.joining().try_from(of, &peer.key, clock::since_boot());
        tried.map_err(Refusal::Often)?;
        let checked = self.check_line(peer, &text).await;
        let result = match &checked {
            Ok(_) => AuditOutcome::Ok,
            Err(Refusal::Rule(why)) => AuditOutcome::Refused(why.code),
            Err(_) => AuditOutcome::Unavailable,
        };
        self.0.metrics.strangers.add(1);
        self.0.store.folded().count(&Fact { result, ..peer.fact(Op::Join) });
        let line = checked?;
        let name = line.name.clone();
        let (at, now) = (clock::now(), clock::since_boot());
        let addr = peer.ip();
        let mut joining = self.joining();
        let asking = Asking { line, text: text.clone(), of, addr, at, since: now, heard: now };
        joining.take(asking).map_err(Refusal::Often)?;
        let left = joining.again(&peer.key, &text, now).unwrap_or_default();
        drop(joining);
        tracing::info!(%name, addr = %peer.ip(), "a host asks to join");
        Ok(JoinReply { joined: false, left: left.as_secs() })
    }

    /// Verifies a line: its proof, whose connection it came by, and that an owner could add it.
    async fn check_line(&self, peer: &Peer, text: &str) -> Result<MachineLine, Refusal> {
        let line = MachineLine::from_line(text).map_err(Refusal::Rule)?;
        if *line.sign.as_bytes() != peer.key {
            let why = format!("the line of `{}` came by another key's connection", line.name);
            return Err(Refusal::Rule(Code::BadSig.because(why)));
        }
        let checked = line.clone();
        let free = self.call(STRANGERS, move |tx| {
            let state = tx.state().ok_or(Refusal::Stranger)?;
            Ok(is_free(state, &checked).map_err(Refusal::Rule)?)
        });
        free.await?;
        Ok(line)
    }

    /// Tells whether a stranger with this line waits already.
    pub fn is_asking(&self, peer: &Peer, line: &str) -> bool {
        self.joining().again(&peer.key, line, clock::since_boot()).is_some()
    }

    /// Waits until the stranger has become a machine, for as long as an answer is held; not at all
    /// while many wait so: the places among strangers are for handshakes, too.
    pub async fn has_joined(&self, peer: &Peer) -> bool {
        let Ok(_held) = self.0.held.try_acquire() else { return false };
        let mut machines = self.directory();
        let joined = machines.wait_for(|machines| machines.contains_key(&peer.key));
        let held = tokio::time::timeout(Duration::from_secs(HELD_SECONDS), joined);
        matches!(held.await, Ok(Ok(_)))
    }

    /// Returns who asks to join; those who have, or whose name another machine bears by now, ask no
    /// more.
    pub fn asking_to_join(&self) -> JoinList {
        let machines = self.directory();
        let machines = machines.borrow();
        let is_over = |line: &MachineLine| {
            machines
                .iter()
                .any(|(key, (_, name))| line.sign.as_bytes() == key || line.name == *name)
        };
        let mut joining = self.joining();
        let waiting = joining.waiting(is_over, clock::since_boot()).iter();
        let shown = waiting.map(|Asking { text, addr, at, .. }| Waiting {
            line: text.clone(),
            addr: addr.clone(),
            at: *at,
        });
        JoinList { waiting: shown.collect() }
    }

    fn joining(&self) -> MutexGuard<'_, Joining> {
        // Every change under the lock is a single step: a panic elsewhere leaves it whole.
        self.0.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells why no owner could add the machine: keys are never used twice, and a stranger never gets
/// the place of a machine.
fn is_free(state: &State, line: &MachineLine) -> Result<(), Error> {
    if state.machine(&line.name).is_some() {
        return Err(Code::Exists.because(format!("machine `{}`", line.name)));
    }
    let is_used = |known: &Machine| known.sign == line.sign || known.recipient == line.recipient;
    if state.machines().values().any(is_used) {
        return Err(Code::Key.because(format!("the keys of `{}` were used before", line.name)));
    }
    Ok(())
}
