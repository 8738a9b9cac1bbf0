//! What is due once a minute: looking how full the disk is, dropping blobs that were replaced long
//! ago, moving audit records into sealed files.

use anyhow::Result;
use host::clock;
use shared::time::Time;
use shared::wire::v1::health::Room;

use crate::meter::STRANGERS;
use crate::store::{Connection, Transaction, blob, schema, segment};

use super::room::of_disk;
use super::{Refusal, Vault};

/// Segments made in one minute: other work comes in between.
const SEGMENTS_AT_ONCE: usize = 16;
/// How long a replaced blob stays, in microseconds.
const REPLACED_FOR: u64 = 7 * 86_400_000_000;
/// Bytes of replaced blobs that one machine brought; of more the oldest go.
const REPLACED_BYTES: u64 = 64 << 20;
/// Bytes of replaced blobs that go in a minute, the oldest first, while the disk is nearly full.
const ROOM_AT_ONCE: u64 = 64 << 20;

impl Vault {
    /// Returns the room on the disk of the data directory, as of the last look.
    pub fn room(&self) -> Room {
        self.0.room.now()
    }

    /// Looks how full the disk is.
    pub(super) async fn look_at_room(&self) {
        let folder = self.0.retention.folder.clone();
        let look = move || {
            let database = folder.with_file_name(schema::FILE).metadata();
            (of_disk(&folder), database.map(|found| found.len()))
        };
        let Ok((room, file)) = tokio::task::spawn_blocking(look).await else { return };
        let metrics = &self.0.metrics;
        let elsewhere = if self.0.reader.is_shared() {
            self.0.reader.ask(Connection::size).await.ok().flatten()
        } else {
            None
        };
        if let Some(bytes) = elsewhere.or_else(|| file.ok()) {
            metrics.database.set(bytes);
        }
        let Some(room) = room else { return };
        metrics.disk_used.set(room.used_percent);
        metrics.disk_free.set(room.free_bytes);
        let Room { used_percent, free_bytes } = room;
        match self.0.room.take(room) {
            Some(true) => tracing::warn!(used_percent, free_bytes, "the disk is getting full"),
            Some(false) => tracing::info!(used_percent, free_bytes, "the disk has room again"),
            None => {}
        }
    }

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
            let (first, last) = (sealed.segment.before.n + 1, sealed.segment.after.n);
            let list = move |tx: &mut Transaction| match tx.conn().holds_archive() {
                true => segment::pack(tx.conn(), &sealed),
                false => segment::insert(tx.conn(), &sealed.segment),
            };
            store.call(list).await?;
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
