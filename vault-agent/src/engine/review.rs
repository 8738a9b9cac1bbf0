//! The engine's doors for a review: entries of the log in words, what somebody has signed, which
//! machines are out, which secrets hold a key, what a recovery kit must open, and who asks to join;
//! who may sign; how far the audit chain is vouched for.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};

use shared::name::Name;
use shared::path::SecretPath;
use shared::wire::v1::audit::{AuditPage, AuditQuery};

use super::chain::stands;
use super::{
    Engine, acts, admins, audit, checkpoint, entries, exposure, holders, kept, removed, unfollowed,
};
use crate::state::peers;
use machine::local::{
    Acts, ActsQuery, Admins, Blast, Borne, Compaction, Entries, EntriesQuery, Exposure,
    GiveRequest, Holders, JoinList, Kept, PastVersion, Removed, Sealed, VerifyFrom, VerifyStep,
    Vouched,
};

impl Engine {
    /// Asks the server for audit records.
    ///
    /// # Errors
    /// If there is no connection, or this machine has no read grant on `sys/audit`.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage> {
        audit::page(&self.parts, query).await
    }

    /// Recomputes a piece of the audit chain and compares it with every head anchored in verified
    /// reports.
    pub async fn audit_verify(&self, from: VerifyFrom) -> Result<VerifyStep> {
        audit::verify(&self.parts, from).await
    }

    /// Tells entries of the verified log in words; numbers that there are none of are passed over.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn entries(&self, query: EntriesQuery) -> Result<Entries> {
        entries::tell(&self.parts, query).await
    }

    /// Tells how each machine went that is in the vault no more, oldest first.
    pub fn removed(&self) -> Vec<Removed> {
        removed::all(&self.parts)
    }

    /// Looks for the secrets that hold a key, in which `*` stands for any text, without asking the
    /// server for any content.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn holders(&self, name: &str) -> Result<Holders> {
        holders::of(&self.parts, name).await
    }

    /// Tells what a checkpoint of the log as it is now would name, and how the newest one stands.
    ///
    /// # Errors
    /// If the engine is closing.
    pub async fn compaction(&self) -> Result<Compaction> {
        checkpoint::tell(&self.parts).await
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

    /// Returns each name that a machine bore, oldest first; it is named by one of them, or by its
    /// number.
    ///
    /// # Errors
    /// `E_MISSING`, or if the database fails.
    pub async fn names(&self, asked: String) -> Result<Vec<Borne>> {
        exposure::names(&self.parts, asked).await
    }

    /// Tells the versions of a secret, and which keys changed from one to the next, oldest first.
    ///
    /// # Errors
    /// `E_MISSING`, or if the database fails.
    pub async fn past(&self, path: &SecretPath) -> Result<Vec<PastVersion>> {
        exposure::past::of(&self.parts, path).await
    }

    /// Tells what a value has reached: of a key or of all that is in a version, the newest if none
    /// is named.
    ///
    /// # Errors
    /// `E_MISSING`, or if the database fails.
    pub async fn blast(
        &self,
        path: SecretPath,
        ver: Option<u64>,
        key: Option<String>,
    ) -> Result<Blast> {
        exposure::blast::of(&self.parts, exposure::blast::Asked { path, ver, key }).await
    }

    /// Tells what a key has signed, and what takes back what still holds of it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn acts(&self, query: ActsQuery) -> Result<Acts> {
        acts::tell(&self.parts, query).await
    }

    /// Lists the keys that hold now, and every version that a recovery kit must open.
    ///
    /// # Errors
    /// Before the vault is known.
    pub fn kept(&self) -> Result<Kept> {
        kept::list(&self.parts)
    }

    /// Returns a version's ciphertext.
    ///
    /// # Errors
    /// If there is no such version, or it is neither here nor to be had from the server.
    pub async fn sealed(&self, path: &SecretPath, ver: u64) -> Result<Sealed> {
        kept::sealed(&self.parts, path, ver).await
    }

    /// Takes a version that the recovery kit has opened, encrypted to this machine alone: what it
    /// does not open itself is re-encrypted from that.
    ///
    /// # Errors
    /// If there is no such version, this machine may not read it, or it is another content.
    pub fn give(&self, given: GiveRequest) -> Result<()> {
        kept::give(&self.parts, given)
    }

    /// Tells how far this machine has followed the audit chain, and up to where others have signed
    /// it: nothing of that is checked anew.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn vouched(&self) -> Result<Vouched> {
        let parts = &*self.parts;
        let anchors = parts.store.read(|conn| peers::anchors(conn, 0, u64::MAX)).await?;
        let known = parts.reports.audit().chain;
        Ok(self.state(|state| {
            let own = parts.own.name(state).clone();
            let mut signed: BTreeMap<Name, u64> = BTreeMap::new();
            for anchor in anchors.iter().filter(|it| stands(state, it.epoch, it.audit.n)) {
                if let Some(machine) = state.machine_numbered(anchor.machine) {
                    let n = signed.entry(machine.name.clone()).or_default();
                    *n = anchor.audit.n.max(*n);
                }
            }
            signed.remove(&own);
            let known = known.filter(|chain| stands(state, chain.epoch, chain.followed.n));
            let followed = known.map_or(0, |chain| chain.followed.n);
            Vouched { own, followed, signed }
        }))
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

    /// Returns up to which record this machine has followed the audit chain, if it has.
    pub fn audit_followed(&self) -> Option<u64> {
        self.parts.reports.audit().chain.map(|chain| chain.followed.n)
    }
}
