//! Giving a server back what it has lost: the entries that this machine has verified, and the
//! blobs that it keeps; what nobody can give back is named (design/trust, *Life cycle*, heal).
//! Nothing here is believed of the server; it checks every signature as well.

pub(super) mod adopt;

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail};
use host::hint::Failure;
use rusqlite::Connection;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::Signature;
use shared::signed::Envelope;
use shared::wire::v1::audit::LeavesQuery;
use shared::wire::v1::log::{Frame, HealReply, HealRequest, LogQuery};

use super::fleet::Judged;
use super::intake;
use super::ledger::unsigned;
use super::parts::Parts;
use super::reach::beside;
use crate::state;
use machine::local::{Healed, Unreadable};
use machine::remote::Client;

/// Bytes of entries in one request, before base64; one entry may go over it.
const BATCH: usize = 1 << 20;

/// Gives the server back what it lacks and this machine has; with `code` its owner vouches for
/// heads by keys that it has lost.
pub(super) async fn heal(parts: &Parts, code: Option<Hash>) -> Result<Healed> {
    // The stream has ended where the server was found behind: a connection of its own.
    let client = beside(parts).await?;
    let entries = push_entries(parts, &client, code).await?;
    let (mut blobs, mut tried) = (0, HashSet::new());
    let (absent, restored) = loop {
        let HealReply { head, restored, wanted } = client.heal(&HealRequest::default()).await?;
        intake::shown(parts, &head).await?;
        let fresh: Vec<Hash> = wanted.iter().copied().filter(|id| tried.insert(*id)).collect();
        let before = blobs;
        for id in fresh {
            let bytes = parts.store.read(move |conn| state::blobs::by_hash(conn, id)).await?;
            // A damaged copy is not worth sending: the server would refuse it.
            let Some(bytes) = bytes.filter(|bytes| Hash::of(&[bytes]) == id) else { continue };
            client.put_blob(id, bytes).await.context("giving a blob back")?;
            blobs += 1;
        }
        // What this machine has not, it is asked for in vain, however often.
        if blobs == before {
            break (wanted, restored);
        }
    };
    parts.link.restored(restored);
    if !restored {
        look_at_audit(parts, &client).await?;
    }
    let rewritten = parts.alarms.stands(Code::AuditRewritten);
    Ok(Healed { entries, blobs, absent: places(parts, &absent), restored, rewritten })
}

/// Raises the alarm now, not at the next report, if the audit log does not lead to the head that
/// this machine was shown last: nobody can give lost records back.
async fn look_at_audit(parts: &Parts, client: &Client) -> Result<()> {
    let shown = {
        let folded = parts.ledger.read();
        parts.reports.audit().anchored(&folded.state)
    };
    let page = client.leaves(LeavesQuery { after: shown.n }).await?;
    // Nothing can be said of records that are kept no longer.
    if page.until.is_none() && page.from != shown {
        let why = format!("record {} is lost, or was another", shown.n);
        parts.alarms.raise(Code::AuditRewritten.as_str(), "", why);
    }
    Ok(())
}

/// Sends the entries after the server's head; returns how many. It takes runs up to a head that it
/// has signed, each as a whole.
async fn push_entries(parts: &Parts, client: &Client, code: Option<Hash>) -> Result<u64> {
    let (own, last) = {
        let folded = parts.ledger.read();
        (folded.state.seq(), folded.signed)
    };
    let mut frames = client.log(LogQuery { after: own, ..LogQuery::default() }, last).await?;
    let head = loop {
        let batch = frames.next().await?;
        if batch.is_empty() {
            bail!("the server does not say where its log ends");
        }
        // A newer server may say something before it.
        let head = batch.into_iter().find_map(|frame| match frame {
            Frame::Head(head) => Some(head),
            Frame::Genesis(_) | Frame::Entry { .. } | Frame::Beat => None,
        });
        if let Some(head) = head {
            break head;
        }
    };
    match parts.ledger.judge(&head).await?? {
        Judged::Held => {}
        Judged::Unsigned => return Err(unsigned(&head).into()),
        Judged::Ahead | Judged::Left if head.seq > own => return Ok(0),
        Judged::Ahead | Judged::Left => {
            let why = format!("the server's log ends at {}, in another epoch", head.place());
            return Err(Code::Prev.because(why).into());
        }
    }
    let begins = parts.ledger.read().begins;
    if head.seq < begins {
        let why = format!(
            "the server's log ends at entry {}, and a checkpoint stands for those up to {begins}: no \
             machine can give them back",
            head.seq
        );
        bail!(Failure::remote(why).hint(
            "restore a newer backup; or make the server anew, with `vault-server init --adopt` and \
             `vault server adopt`"
        ));
    }
    let mut last = head.seq;
    while last < own {
        let Some((entries, head)) = parts.store.read(move |conn| run(conn, last, own)).await?
        else {
            return Err(Code::Missing.because(format!("a signed head after entry {last}")).into());
        };
        last += entries.len() as u64;
        let head = {
            let folded = parts.ledger.read();
            let (seq, head, sig) = head;
            SignedHead { epoch: folded.state.epoch_at(seq), seq, head, sig }
        };
        let request = HealRequest { entries, head: Some(head), code };
        client.heal(&request).await.context("giving entries back")?;
    }
    Ok(last - head.seq)
}

/// A run of entries, and place and signature of the head that the last of them made.
type Run = (Vec<Envelope>, (u64, Hash, Signature));

/// Reads the entries after `last`, some megabyte of them, up to one whose head the server signed.
fn run(conn: &Connection, last: u64, own: u64) -> rusqlite::Result<Option<Run>> {
    let (mut entries, mut bytes, mut head) = (Vec::new(), 0, None);
    for seq in last + 1..=own {
        let Some((entry, hash, sig)) = state::log::signed_entry(conn, seq)? else { break };
        bytes += entry.body.len();
        if bytes > BATCH && head.is_some() {
            break;
        }
        entries.push(entry);
        head = sig.map(|sig| (entries.len(), (seq, hash, sig))).or(head);
    }
    Ok(head.map(|(count, head)| {
        entries.truncate(count);
        (entries, head)
    }))
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
