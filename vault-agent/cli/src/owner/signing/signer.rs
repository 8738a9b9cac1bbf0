//! Who signs: an admin, whose key a passphrase opens, or root, by the recovery kit.

use anyhow::Result;
use shared::keys::SignKey;
use shared::log::Op;
use shared::name::Actor;
use shared::signed::{Envelope, Purpose, VaultId};

use super::admin::{AdminFile, AdminKey};
use super::check::Checked;
use super::passphrase::Source;

/// Who signs, and how their key is had.
#[derive(Debug)]
pub enum Signer {
    /// An admin.
    Admin(AdminFile, Source),
    /// Root.
    Root {
        /// The key of the kit.
        key: Box<SignKey>,
        /// The key that is root's as soon as an entry of this act has made it so.
        next: Option<Box<SignKey>>,
    },
}

impl Signer {
    /// Returns who it is.
    pub fn by(&self) -> Actor {
        match self {
            Self::Admin(file, _) => Actor::Admin(file.name.clone()),
            Self::Root { .. } => Actor::Root,
        }
    }

    /// Returns what people call them.
    pub fn name(&self) -> &str {
        match self {
            Self::Admin(file, _) => file.name.as_str(),
            Self::Root { .. } => "root",
        }
    }

    /// Opens the key.
    ///
    /// # Errors
    /// If it does not unlock.
    pub fn open(&self, vault: VaultId) -> Result<Opened> {
        let (key, next) = match self {
            Self::Admin(file, passphrase) => {
                let AdminKey { key, .. } = file.unlock(passphrase, vault)?;
                (key, None)
            }
            Self::Root { key, next } => (copy(key), next.as_ref().map(|next| copy(next))),
        };
        Ok(Opened { by: self.by(), vault, key, next })
    }
}

fn copy(key: &SignKey) -> SignKey {
    SignKey::from_seed(&key.seed())
}

/// An opened key, for one vault.
#[derive(Debug)]
pub struct Opened {
    by: Actor,
    vault: VaultId,
    key: SignKey,
    next: Option<SignKey>,
}

impl Opened {
    /// Signs an entry of this vault; show it to the signer first.
    pub fn sign(&self, checked: &Checked) -> Envelope {
        let purpose = Purpose::Entry(self.vault);
        Envelope::sign_body(&self.key, self.by.clone(), purpose, checked.body.clone())
    }

    /// Takes note that an entry is in the log: one may have replaced the key.
    pub fn passed(&mut self, checked: &Checked) {
        let is_set = |op: &Op| matches!(op, Op::RootSet { .. });
        if checked.entry.ops.iter().any(is_set)
            && let Some(next) = self.next.take()
        {
            self.key = next;
        }
    }
}
