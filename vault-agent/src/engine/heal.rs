//! Giving a server back what it has lost: the entries that this machine has verified, and the
//! blobs that it keeps (design/trust, *Life cycle*, heal). Nothing here is believed of the server;
//! it checks every signature as well.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use rusqlite::Connection;
use shared::error::Code;
use shared::hash::Hash;
use shared::signed::Envelope;
use shared::wire::v1::log::{Frame, HealReply, HealRequest, LogQuery};

use super::follow;
use super::parts::Parts;
use crate::state;
use machine::local::{Healed, Unreadable};
use machine::remote::Client;

/// Bytes of entries in one request, before base64; one entry may go over it.
const BATCH: usize = 1 << 20;

/// Gives the server back what it lacks and this machine has.
pub(super) async fn heal(parts: &Parts) -> Result<Healed> {
    // The stream has ended where the server was found behind: a connection of its own.
    let known = parts.link.now().address;
    let client = match follow::reach(parts, known.as_slice()).await {
        Some(client) => client,
        None => follow::reach(parts, &[]).await.with_context(|| parts.link.now().reason())?,
    };
    let entries = push_entries(parts, &client).await?;
    let (mut blobs, mut tried) = (0, HashSet::new());
    let absent = loop {
        let HealReply { wanted, .. } = client.heal(&HealRequest::default()).await?;
        let fresh: Vec<Hash> = wanted.iter().copied().filter(|id| tried.insert(*id)).collect();
        if fresh.is_empty() {
            break wanted;
        }
        for id in fresh {
            let bytes = parts.store.read(move |conn| state::blobs::by_hash(conn, id)).await?;
            // A damaged copy is not worth sending: the server would refuse it.
            let Some(bytes) = bytes.filter(|bytes| Hash::of(&[bytes]) == id) else { continue };
            client.put_blob(id, bytes).await.context("giving a blob back")?;
            blobs += 1;
        }
    };
    Ok(Healed { entries, blobs, absent: places(parts, &absent) })
}

/// Sends the entries after the server's head; returns how many.
async fn push_entries(parts: &Parts, client: &Client) -> Result<u64> {
    let own = parts.ledger.read().state.seq();
    let mut frames = client.log(LogQuery { after: own, ..LogQuery::default() }).await?;
    let head = frames.next().await?.into_iter().find_map(|frame| match frame {
        Frame::Head { seq, hash } => Some((seq, hash)),
        Frame::Genesis(_) | Frame::Entry { .. } | Frame::Beat => None,
    });
    let (seq, hash) = head.context("the server does not say where its log ends")?;
    parts.ledger.is_known(seq, hash).await??;
    let mut last = seq;
    while last < own {
        let entries = parts.store.read(move |conn| batch(conn, last, own)).await?;
        let count = entries.len() as u64;
        if count == 0 {
            return Err(Code::Missing.because(format!("entry {}", last + 1)).into());
        }
        client.heal(&HealRequest { entries }).await.context("giving entries back")?;
        last += count;
    }
    Ok(last - seq)
}

/// Reads the entries after `last`, some megabyte of them.
fn batch(conn: &Connection, last: u64, own: u64) -> rusqlite::Result<Vec<Envelope>> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for seq in last + 1..=own {
        let Some(entry) = state::log::entry(conn, seq)? else { break };
        bytes += entry.body.len();
        if bytes > BATCH && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns the versions that blobs belong to.
fn places(parts: &Parts, blobs: &[Hash]) -> Vec<Unreadable> {
    let wanted: HashSet<&Hash> = blobs.iter().collect();
    let folded = parts.ledger.read();
    let secrets = folded.state.secrets().iter();
    let versions = secrets.flat_map(|(path, secret)| {
        secret.versions().map(move |(ver, version)| (path, ver, &version.blob))
    });
    let wanted = versions.filter(|(_, _, blob)| wanted.contains(blob));
    wanted.map(|(path, ver, _)| Unreadable { path: path.clone(), ver }).collect()
}
