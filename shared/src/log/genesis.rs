//! The first record of a vault: who is root, who reads everything, who administers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::keys::{Recipient, VerifyKey};
use crate::name::Name;
use crate::path::Mount;
use crate::time::Time;

/// Body of the genesis, signed by root under `vault-genesis/v1`; its hash is the vault id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Format, 1.
    pub v: u32,
    /// The vault's name, for people.
    pub name: Name,
    /// 32 random bytes in hex: two vaults of one name differ.
    pub nonce: crate::hash::Hash,
    /// When it was made, by the maker's clock.
    pub time: Time,
    /// Key of the recovery kit.
    pub root: VerifyKey,
    /// Recipient of the recovery kit: reads every secret.
    pub recovery: Recipient,
    /// First admins.
    pub admins: BTreeMap<Name, VerifyKey>,
    /// TLS keys of the server, one or two.
    pub server: Vec<VerifyKey>,
    /// First mounts.
    pub mounts: Vec<Mount>,
}

impl Genesis {
    /// Checks what the grammar of the fields does not.
    ///
    /// # Errors
    /// `E_PARSE` for another format, `E_LIMITS` for counts, `E_KEY` for a key that stands twice.
    pub fn check(&self) -> Result<()> {
        if self.v != 1 {
            return Err(Code::Parse.because(format!("genesis has format {}", self.v)));
        }
        if self.server.is_empty() || self.server.len() > 2 {
            return Err(Code::Limits.because(format!("{} server keys", self.server.len())));
        }
        if self.admins.len() > 64 || self.mounts.len() > 64 {
            return Err(Code::Limits.because("more than 64 admins or mounts in the genesis"));
        }
        let mut keys: Vec<&[u8; 32]> = vec![self.root.as_bytes(), self.recovery.as_bytes()];
        keys.extend(self.admins.values().map(VerifyKey::as_bytes));
        keys.extend(self.server.iter().map(VerifyKey::as_bytes));
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Code::Key.because("one key stands twice in the genesis"));
        }
        Ok(())
    }
}
