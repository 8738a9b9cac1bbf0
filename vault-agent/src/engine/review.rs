//! The engine's doors for a review: entries of the log in words, which machines are out, which
//! secrets hold a key, and who asks to join; who may sign.

use anyhow::{Result, anyhow};

use super::{Engine, admins, entries, exposure, holders, removed, unfollowed};
use machine::local::{
    Admins, Entries, EntriesQuery, Exposure, Holders, JoinList, Removed,
};

impl Engine {
    /// Tells entries of the verified log in words; numbers that there are none of are passed over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn entries(&self, query: EntriesQuery) -> Result<Entries> {
        entries::tell(&self.parts, query).await
    }

    /// Tells how each machine went that is in the vault no more, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn removed(&self) -> Result<Vec<Removed>> {
        removed::all(&self.parts).await
    }

    /// Looks for the secrets that hold a key, in which `*` stands for any text, without asking the
    /// server for any content.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn holders(&self, name: &str) -> Result<Holders> {
        holders::of(&self.parts, name).await
    }

    /// Tells every admin that ever was.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn admins(&self) -> Result<Admins> {
        admins::list(&self.parts).await
    }

    /// Tells what was ever encrypted to a machine, named by a name that it bore or by its number,
    /// and what has become of each key of that.
    ///
    /// # Errors
    /// `E_MISSING`, or if the database fails.
    pub async fn exposure(&self, asked: String) -> Result<Exposure> {
        exposure::of(&self.parts, asked).await
    }

    /// Asks the server which hosts want to join; nothing of it is verified here.
    ///
    /// # Errors
    /// If there is no connection, or it fails.
    pub async fn waiting(&self) -> Result<JoinList> {
        self.parts.link.try_now().await;
        let client = self.parts.link.client();
        let client = client.map_err(|reason| anyhow!("{}", unfollowed(&reason)))?;
        Ok(client.waiting().await?)
    }
}
