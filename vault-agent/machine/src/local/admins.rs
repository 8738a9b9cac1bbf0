//! Who may sign for the vault.

use serde::{Deserialize, Serialize};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;

/// `GET`: [`Admins`].
pub const ADMINS: &str = "agent/admins";

/// Every admin that ever was, and root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admins {
    /// The vault.
    pub vault: VaultId,
    /// Root's key, which is on the recovery kit.
    pub root: VerifyKey,
    /// By name, those of one name in the order in which they came.
    pub admins: Vec<AdminRow>,
}

/// One admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminRow {
    /// The name.
    pub name: Name,
    /// The key, which no other admin ever has.
    pub key: VerifyKey,
    /// When they were appointed, by the clock of who signed it.
    pub since: Time,
    /// When they were removed, if they were.
    pub until: Option<Time>,
}

impl Admins {
    /// Returns the admins there are now.
    pub fn active(&self) -> impl Iterator<Item = &AdminRow> {
        self.admins.iter().filter(|row| row.until.is_none())
    }
}
