//! An admin between the passphrase and the log: what makes a second attempt safe. No secret but
//! what the passphrase protects.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use shared::wire::v1::blob::Inline;

use host::files::{self, Access};
use machine::identity::load_json;
use machine::paths::Paths;

/// An admin who is being appointed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Appointing {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) name: Name,
    pub(super) key: VerifyKey,
    /// The one who goes.
    pub(super) old: Option<Replaced>,
    /// The content of the admin file.
    pub(super) admin_file: Inline,
}

/// An admin who is being replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    pub(super) name: Name,
    pub(super) key: VerifyKey,
}

impl Appointing {
    fn place(paths: &Paths) -> PathBuf {
        paths.state.join("appointing.json")
    }

    /// Reads what an earlier attempt left for this vault, if it left something.
    pub(super) fn load(paths: &Paths, vault: VaultId) -> Result<Option<Self>> {
        let read: Option<Self> = load_json(&Self::place(paths))?;
        Ok(read.filter(|read| read.vault == vault))
    }

    pub(super) fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing an admin as JSON")?;
        files::replace_trusted(&Self::place(paths), &text, Access::PRIVATE)?;
        Ok(())
    }

    /// Forgets it: the admin is appointed, or will not be.
    pub(super) fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&Self::place(paths))?;
        Ok(())
    }
}
