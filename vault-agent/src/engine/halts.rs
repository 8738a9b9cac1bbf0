//! The engine's doors to the ways out of a halt: how its log stands as a whole, what it has set
//! aside, accepting a head, resuming a restored server, and giving the vault to another one.

use anyhow::Result;
use shared::blob::Blob;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::Head;
use shared::path::SecretPath;
use shared::signed::Envelope;

use super::aside::SET_ASIDE;
use super::blob::Due;
use super::heal::adopt;
use super::types::{Branch, Content};
use super::{Engine, over, resume, server};
use crate::state::set_aside;
use machine::local::{Accepted, Restored, ServerView, SetAside, Submitted, Trust};

/// Entries that are listed: the newest.
const LISTED: usize = 500;

impl Engine {
    /// Returns how the log stands as a whole.
    pub fn branch(&self) -> Branch {
        let halted = self.parts.link.look(|link| link.halted);
        Branch { overs: self.parts.ledger.read().overs, halted }
    }

    /// Tells whether versions of a secret were set aside.
    pub fn was_set_aside(&self, path: &SecretPath) -> bool {
        self.parts.ledger.read().aside.contains_key(path)
    }

    /// Tells whether versions of a secret were set aside, and the vault has none newer since.
    pub fn is_set_aside(&self, path: &SecretPath) -> bool {
        let folded = self.parts.ledger.read();
        folded.aside.get(path).is_some_and(|base| folded.state.due_version(path) <= base + 1)
    }

    /// Lists what was set aside.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn set_aside(&self) -> Result<SetAside> {
        let read = self
            .parts
            .store
            .read(|conn| Ok((set_aside::count(conn)?, set_aside::list(conn, LISTED)?)));
        let (count, entries) = read.await?;
        let line = |entry: &set_aside::SetAside| {
            resume::line(&self.parts, entry.seq, &entry.envelope, None)
        };
        Ok(SetAside { count, entries: entries.iter().map(line).collect() })
    }

    /// Opens the newest version of a secret that was set aside.
    ///
    /// # Errors
    /// `E_MISSING` if there is none whose ciphertext was here; or if it does not open.
    pub async fn open_set_aside(&self, path: &SecretPath) -> Result<Content> {
        let wanted = path.clone();
        let found = self.parts.store.read(move |conn| set_aside::newest(conn, &wanted)).await?;
        let missing = || Code::Missing.because(format!("no version of `{path}` was kept aside"));
        let version = found.ok_or_else(missing)?;
        let due = Due {
            path: version.path,
            ver: version.ver,
            blob: version.hash,
            newest: false,
            vault: self.parts.own.pins.vault,
            size: version.size,
            commit: version.promise,
            readers: Some(version.readers).filter(|(count, _)| *count > 0),
        };
        let blob = Blob::new(version.bytes.ok_or_else(missing)?);
        due.check(&blob)?;
        Ok(due.content(&self.parts.own.keys, &blob)?)
    }

    /// Drops what was set aside, and the alarm about it: somebody has looked.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn clear_set_aside(&self) -> Result<()> {
        self.parts.ledger.clear_set_aside().await?;
        self.parts.alarms.clear(SET_ASIDE);
        self.parts.ticks.send_replace(());
        Ok(())
    }

    /// Ends `E_FORK`: the history that holds this head is the true one.
    ///
    /// # Errors
    /// If nothing is halted, the server is not reached, or its history does not hold the head.
    pub async fn accept(&self, head: Head) -> Result<Accepted> {
        over::accept(&self.parts, head).await
    }

    /// Shows where a restored server stands, and what is lost if an owner resumes it there.
    ///
    /// # Errors
    /// If the server is not reached, or what it shows does not verify.
    pub async fn restored(&self) -> Result<Restored> {
        resume::look(&self.parts).await
    }

    /// Sends the entry with which an owner resumes a restored server, and goes over to it.
    ///
    /// # Errors
    /// If the server refuses it or does not answer.
    pub async fn resume(&self, envelope: Envelope, code: Hash) -> Result<Submitted> {
        resume::submit(&self.parts, envelope, code).await
    }

    /// Returns what the log says of the server.
    pub fn server(&self) -> ServerView {
        server::view(&self.parts)
    }

    /// Accepts a server that somebody on this host vouches for.
    ///
    /// # Errors
    /// If this machine's log contradicts them, or the database fails.
    pub async fn trust(&self, trust: Trust) -> Result<()> {
        server::trust(&self.parts, trust).await
    }

    /// Gives the vault to the server that is vouched for on this host.
    ///
    /// # Errors
    /// If it does not answer, or does not take it.
    pub async fn adopt(&self, claim: Hash) -> Result<()> {
        adopt::adopt(&self.parts, claim).await
    }
}
