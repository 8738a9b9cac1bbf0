//! A recovery between the passphrase and the last re-encryption: what makes a second attempt safe.
//! No secret but what the passphrase protects.

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

/// A host that is becoming a machine, and an admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recovering {
    pub(super) begun: Time,
    pub(super) vault: VaultId,
    pub(super) machine: Name,
    pub(super) admin: Name,
    pub(super) admin_key: VerifyKey,
    /// The content of the admin file.
    pub(super) admin_file: Inline,
}

impl Recovering {
    fn place(paths: &Paths) -> PathBuf {
        paths.state.join("recovering.json")
    }

    /// Reads what an earlier attempt left, if it left something.
    pub(super) fn load(paths: &Paths) -> Result<Option<Self>> {
        load_json(&Self::place(paths))
    }

    pub(super) fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing a recovery as JSON")?;
        files::replace_trusted(&Self::place(paths), &text, Access::PRIVATE)?;
        Ok(())
    }

    /// Forgets it: all is recovered, or will not be.
    pub(super) fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&Self::place(paths))?;
        Ok(())
    }
}
