//! The engine's doors for those who tell others of alarms and audit records: what they keep over a
//! restart, their own alarms, and how far the audit log is known.

use anyhow::Result;

use super::Engine;
use crate::state::facts;

impl Engine {
    /// Returns what was kept for the one of that name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forwarded(&self, name: &str) -> Result<Option<String>> {
        let name = format!("{}{name}", facts::FORWARD);
        Ok(self.parts.store.read(move |conn| facts::get(conn, &name)).await?)
    }

    /// Keeps a text for the one of that name; it is on disk when this returns.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn keep_forwarded(&self, name: &str, text: String) -> Result<()> {
        let name = format!("{}{name}", facts::FORWARD);
        Ok(self.parts.store.write(move |conn| facts::set(conn, &name, &text)).await?)
    }

    /// Drops what was kept for all but those of these names.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_forwarded_but(&self, names: &[&str]) -> Result<()> {
        let kept: Vec<String> =
            names.iter().map(|name| format!("{}{name}", facts::FORWARD)).collect();
        let dropped =
            self.parts.store.write(move |conn| facts::unset_others(conn, facts::FORWARD, &kept));
        Ok(dropped.await?)
    }

    /// Raises an alarm about one of several; it stands until cleared.
    pub fn alarm_about(&self, code: &str, subject: &str, detail: impl Into<String>) {
        self.parts.alarms.raise(code, subject, detail);
    }

    /// Clears the alarm of that code about one of several.
    pub fn clear_alarm_about(&self, code: &str, subject: &str) {
        self.parts.alarms.clear_if(|of, about| (of, about) == (code, subject));
    }

    /// Returns how many audit records there are, as far as the server has named a head that is to
    /// be believed.
    pub fn audit_records(&self) -> Option<u64> {
        self.parts.reports.audit().chain.as_ref().map(|chain| chain.named.n)
    }
}
