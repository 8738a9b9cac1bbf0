//! What other servers write to the same database, taken over here.

use super::Vault;

impl Vault {
    /// Waits until this server has to begin anew with what the database holds; returns why.
    pub async fn broken(&self) -> String {
        self.0.store.broken().await
    }

    /// Takes over what others have written up to an entry and an audit record, unless that is
    /// known.
    pub async fn catch_up(&self, seq: u64, audit: u64) {
        let known = self.0.store.end().map_or(0, |end| end.head.seq);
        if known < seq || self.0.store.audit().borrow().n < audit {
            // A failure is in the log; the next notice, or the next request, tries again.
            let _ = self.ping().await;
        }
    }
}
