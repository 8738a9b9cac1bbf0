//! A renewal between the new kit and its end: what makes a second attempt safe. Public keys alone:
//! the kit itself is on paper.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use shared::keys::{Recipient, VerifyKey};
use shared::signed::VaultId;
use shared::time::Time;

use crate::owner::signing::kit::Kit;
use host::files::{self, Access};
use machine::identity::load_json;
use machine::paths::Paths;

/// The kit to come, and the one that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) old_root: VerifyKey,
    pub(super) root: VerifyKey,
    pub(super) recovery: Recipient,
}

impl Renewal {
    fn place(paths: &Paths) -> PathBuf {
        paths.state.join("renewal.json")
    }

    /// Tells whether it is the kit to come.
    pub(super) fn is(&self, kit: &Kit) -> bool {
        (kit.root.verify_key(), kit.recovery.recipient())
            == (self.root.clone(), self.recovery.clone())
    }

    /// Reads what an earlier attempt left for this vault, if it left something.
    pub(super) fn load(paths: &Paths, vault: VaultId) -> Result<Option<Self>> {
        let read: Option<Self> = load_json(&Self::place(paths))?;
        Ok(read.filter(|read| read.vault == vault))
    }

    pub(super) fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing a renewal as JSON")?;
        files::replace_trusted(&Self::place(paths), &text, Access::PRIVATE)?;
        Ok(())
    }

    /// Forgets it: the renewal is finished, or will not be.
    pub(super) fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&Self::place(paths))?;
        Ok(())
    }
}
