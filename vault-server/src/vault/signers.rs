//! Who may sign entries, as of the last commit: what is badly signed is refused before it reaches
//! the writer, which checks again.

use std::collections::HashMap;

use shared::error::Result;
use shared::keys::VerifyKey;
use shared::limits;
use shared::log::State;
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose, VaultId};

/// The keys of a vault's actors.
#[derive(Debug)]
pub struct Signers {
    vault: VaultId,
    keys: HashMap<Actor, VerifyKey>,
}

impl Signers {
    /// Returns those of a state.
    pub fn of(state: &State) -> Self {
        let machines = state.machines().values().filter(|machine| machine.active);
        let actors = machines.map(|machine| Actor::Machine(machine.name.clone()));
        let admins = state.admins().keys().map(|name| Actor::Admin(name.clone()));
        let actors = actors.chain(admins).chain([Actor::Root]);
        let known = |actor: Actor| state.key(&actor).cloned().map(|key| (actor, key));
        Self { vault: state.vault(), keys: actors.filter_map(known).collect() }
    }

    /// Returns the vault.
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// Returns the name of the owner whose own key this is.
    pub fn owner(&self, key: &[u8; 32]) -> Option<Name> {
        let is_it = |(actor, own): &(&Actor, &VerifyKey)| {
            own.as_bytes() == key && !matches!(actor, Actor::Machine(_))
        };
        match self.keys.iter().find(is_it)?.0 {
            Actor::Root => "root".parse().ok(),
            Actor::Admin(name) | Actor::Machine(name) => Some(name.clone()),
        }
    }

    /// Checks size and signature of an entry; tells whether an owner has signed it. One by an actor
    /// who is not known is for the writer: it may be in the log already, under a name of before.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_BADSIG`.
    pub fn check(&self, envelope: &Envelope) -> Result<bool> {
        envelope.check_size(limits::BODY, "body")?;
        let Some(key) = self.keys.get(&envelope.by) else { return Ok(false) };
        envelope.verify(key, Purpose::Entry(self.vault))?;
        Ok(!matches!(envelope.by, Actor::Machine(_)))
    }
}
