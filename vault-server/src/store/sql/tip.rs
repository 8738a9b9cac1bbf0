//! Where log and audit chain end in a database that several servers write.

use shared::audit::AuditHead;
use shared::hash::Hash;

/// The end of all that is chained, and how often what lies beside the chains was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last entry and its hash; `None` without a vault.
    pub log: Option<(u64, Hash)>,
    /// The last audit record.
    pub audit: AuditHead,
    /// Changes of what a database lacks that was set back.
    pub marks: u64,
}
