//! How long things stay: when audit records leave the database for sealed files and when these are
//! deleted, and when replaced blobs go. How segments are written lives in `store::segment`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use host::clock;
use rusqlite::Connection;
use shared::time::Time;

use crate::config;
use crate::meter::STRANGERS;
use crate::store::segment::{self, Draft, Segment};
use crate::store::{audit, blob};

use super::{Refusal, Vault};

/// Most bytes of one segment.
const SEGMENT: u64 = 4 << 20;
/// Most segments with a file.
const SEGMENTS: u64 = 4096;
/// Segments made in one minute: other work comes in between.
const SEGMENTS_AT_ONCE: usize = 16;
/// How long a replaced blob stays, in microseconds.
const REPLACED_FOR: u64 = 7 * 86_400_000_000;
/// Bytes of replaced blobs that one machine brought; of more the oldest go.
const REPLACED_BYTES: u64 = 64 << 20;
/// Bytes of replaced blobs that go in a minute, the oldest first, while the disk is nearly full.
const ROOM_AT_ONCE: u64 = 64 << 20;

/// What bounds the audit.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Folder of the sealed files.
    pub folder: PathBuf,
    /// The bounds.
    pub audit: config::Audit,
}

impl Retention {
    /// Writes the next segment if one is due, and returns it for the table.
    fn seal(&self, conn: &Connection, now: Time) -> Result<Option<Segment>> {
        segment::sweep(conn, &self.folder)?;
        let Some((bytes, oldest)) = audit::extent(conn)? else { return Ok(None) };
        let config::Audit { keep, database_bytes, .. } = self.audit;
        let before = |age: u64| Time::from_micros(now.as_micros().saturating_sub(age));
        // Not a segment a minute: they come together for a while first.
        let late = before(keep.saturating_add((keep / 8).max(config::DAY)));
        let draft = if bytes > database_bytes {
            Draft::of_oldest(conn, SEGMENT.min(database_bytes / 8), |_| true)?
        } else if keep > 0 && oldest < late {
            Draft::of_oldest(conn, SEGMENT, |time| time < before(keep))?
        } else {
            None
        };
        draft.map(|draft| draft.write(&self.folder).map(|()| draft.segment)).transpose()
    }

    /// Deletes the file of the oldest segment if there are too many, and returns it for the table.
    fn delete(&self, conn: &Connection) -> Result<Option<Segment>> {
        let surplus = segment::surplus(conn, self.audit.archive_bytes, SEGMENTS)?;
        let Some(oldest) = surplus else { return Ok(None) };
        let file = self.folder.join(oldest.file_name());
        match std::fs::remove_file(&file) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(why).with_context(|| format!("cannot remove `{}`", file.display()))
            }
            Ok(()) | Err(_) => Ok(Some(oldest)),
        }
    }
}

impl Vault {
    /// Moves audit records that are old, or too many, into sealed files, and deletes the oldest of
    /// these past their bound. Stopped at any point, it goes on from there.
    pub(super) async fn seal_audit(&self) {
        if let Err(why) = self.tend_audit().await {
            tracing::error!("audit records not archived: {why:#}");
        }
    }

    async fn tend_audit(&self) -> Result<()> {
        let store = &self.0.store;
        while store.call(|tx| segment::trim(tx.conn())).await? {}
        for _ in 0..SEGMENTS_AT_ONCE {
            let retention = self.0.retention.clone();
            let sealed = self.0.reader.ask(move |conn| Ok(retention.seal(conn, clock::now())));
            let Some(sealed) = sealed.await?? else { break };
            let (first, last) = (sealed.before.n + 1, sealed.after.n);
            store.call(move |tx| segment::insert(tx.conn(), &sealed)).await?;
            tracing::info!(first, last, "audit records moved into a sealed file");
            while store.call(|tx| segment::trim(tx.conn())).await? {}
        }
        loop {
            let retention = self.0.retention.clone();
            let deleted = self.0.reader.ask(move |conn| Ok(retention.delete(conn)));
            let Some(deleted) = deleted.await?? else { return Ok(()) };
            let (first, last) = (deleted.before.n + 1, deleted.after.n);
            store.call(move |tx| segment::forget(tx.conn(), &deleted)).await?;
            tracing::warn!(first, last, "oldest audit records deleted: the archive is full");
        }
    }

    /// Drops replaced blobs whose time is over, and the oldest of too many; more of them while the
    /// disk is nearly full.
    pub(super) async fn drop_replaced(&self) -> Result<(), Refusal> {
        let room = self.room();
        self.call(STRANGERS, move |tx| {
            let then = tx.now().as_micros().saturating_sub(REPLACED_FOR);
            let mut dropped = blob::drop_replaced(tx.conn(), Time::from_micros(then))?;
            dropped += blob::drop_surplus_replaced(tx.conn(), REPLACED_BYTES)?;
            if room.is_nearly_full() {
                dropped += blob::drop_first_replaced(tx.conn(), ROOM_AT_ONCE)?;
            }
            if dropped > 0 {
                tracing::info!(dropped, "replaced blobs dropped");
            }
            Ok(())
        })
        .await
    }
}
