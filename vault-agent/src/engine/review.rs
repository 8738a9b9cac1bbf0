//! The engine's doors for a review: entries of the log in words, and which secrets hold a key.

use anyhow::Result;

use super::{Engine, entries, holders};
use machine::local::{Entries, EntriesQuery, Holders};

impl Engine {
    /// Tells entries of the verified log in words; numbers that there are none of are passed over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn entries(&self, query: EntriesQuery) -> Result<Entries> {
        entries::tell(&self.parts, query).await
    }

    /// Looks for the secrets that hold a key, in which `*` stands for any text, without asking the
    /// server for any content.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn holders(&self, name: &str) -> Result<Holders> {
        holders::of(&self.parts, name).await
    }
}
