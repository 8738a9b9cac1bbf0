//! Resuming a restored server, on this machine's side: showing an owner where the server stands and
//! what is lost there, and sending the entry that they sign (design/trust, *Life cycle*, restore).
//! Admin keys never come here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::audit::AuditHead;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::VerifyKey;
use shared::log::{self, Entry, Op, State};
use shared::name::{Actor, Name};
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::audit::LeavesQuery;
use shared::wire::v1::log::{AppendRequest, HealReply, HealRequest};
use tokio::time::{Instant, sleep};

use super::chain::Chain;
use super::ledger::rebase::{after, fold};
use super::ledger::unsigned;
use super::over::{self, Right};
use super::pages;
use super::parts::Parts;
use super::reach::beside;
use super::told::told;
use crate::state::{self, facts};
use machine::local::{LostEntry, MachineRow, Restored, Submitted};
use machine::remote::{Client, RemoteError};

/// Entries that are told one by one: the newest.
const SHOWN: usize = 50;
/// How long the same bytes are sent again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before that.
const AGAIN: Duration = Duration::from_millis(300);

/// Shows where the server stands.
pub(super) async fn look(parts: &Arc<Parts>) -> Result<Restored> {
    let client = beside(parts).await?;
    let HealReply { head, restored, .. } = client.heal(&HealRequest::default()).await?;
    let own = parts.ledger.read().state.place();
    let common = over::common(parts, &client, own.seq).await.map_err(over::fault)?;
    let branch = pages::entries(&client, common, head.seq).await.map_err(over::fault)?;
    let folded = parts
        .store
        .read(move |conn| Ok(fold(conn, common).map(|state| (state, after(conn, common)))));
    let (mut state, lost) = folded.await??;
    let lost = lost.context("reading the own log")?;
    // What the server says of its entries may be less than what it has in common.
    let same = branch.iter().zip(&lost).take_while(|(there, here)| there.body == here.body).count();
    let (common, lost) = (common + same as u64, &lost[same..]);
    for envelope in &branch {
        log::apply(&mut state, envelope).map_err(Error::from)?;
    }
    if state.place() != head.place() {
        bail!(Code::Prev.because("the server's log does not lead to the head that it has signed"));
    }
    let (vault, known) = (parts.own.pins.vault, parts.ledger.read().server_keys());
    let signed = |key: &VerifyKey| head.verify(std::slice::from_ref(key), vault).is_ok();
    let listed = state.server().iter().any(signed);
    let unlisted = known.into_iter().find(signed).filter(|_| !listed);
    if !listed && unlisted.is_none() {
        return Err(unsigned(&head).into());
    }
    let ahead = ahead(parts, own);
    let known = ahead.iter().map(|(_, seq)| *seq).fold(own.seq, u64::max);
    Ok(Restored {
        restored,
        head: head.place(),
        unlisted,
        was_server: state.was_server(),
        addresses: state.addresses().to_vec(),
        was_addresses: state.was_addresses(),
        audit: audited(parts, &client).await?,
        root: state.key(&Actor::Root).cloned(),
        admins: state.admins().keys().cloned().collect(),
        machines: machines(&state),
        own: parts.own.find(&state).map(|(number, _)| number),
        lost: known - common,
        entries: shown(parts, common, lost),
        ahead,
    })
}

/// Returns who has shown a head that the server signed past the own log's end, and how far.
fn ahead(parts: &Parts, own: Head) -> Vec<(Name, u64)> {
    let keys = parts.ledger.read().server_keys();
    let is_past = |head: &SignedHead| {
        head.epoch == own.epoch
            && head.seq > own.seq
            && head.verify(&keys, parts.own.pins.vault).is_ok()
    };
    let heads = parts.reports.peers().into_iter();
    let heads = heads.map(|(name, peer)| (name, peer.seen.signed_head()));
    heads.filter(|(_, head)| is_past(head)).map(|(name, head)| (name, head.seq)).collect()
}

/// Returns the machines that are active in a state, by name.
fn machines(state: &State) -> Vec<MachineRow> {
    let active = state.machines().iter().filter(|(_, machine)| machine.active);
    let row = active.map(|(number, machine)| MachineRow {
        name: machine.name.clone(),
        number: *number,
        active: true,
        sleeps: machine.sleeps,
        sign: machine.sign.clone(),
        read: machine.read.clone(),
        write: machine.write.clone(),
        seen_at: None,
        agent: None,
    });
    let mut rows: Vec<MachineRow> = row.collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Tells the newest of some entries of the own log, which stand after `common`.
pub(super) fn shown(parts: &Parts, common: u64, entries: &[Envelope]) -> Vec<LostEntry> {
    let skipped = entries.len().saturating_sub(SHOWN);
    let numbered = (common + 1..).zip(entries).skip(skipped);
    let folded = parts.ledger.read();
    numbered.map(|(seq, envelope)| line(parts, seq, envelope, Some(&folded.state))).collect()
}

/// Tells one entry, which `state` holds if it is given.
pub(super) fn line(
    parts: &Parts,
    seq: u64,
    envelope: &Envelope,
    state: Option<&State>,
) -> LostEntry {
    let own = parts.own.keys.sign.verify_key();
    let own = envelope.verify(&own, Purpose::Entry(parts.own.pins.vault)).is_ok();
    let (what, time) = match envelope.parse::<Entry>() {
        Ok(entry) => (told(&entry, state), entry.time),
        // It was verified before it was stored.
        Err(_) => {
            (vec!["an entry that this program does not understand".to_owned()], <_>::default())
        }
    };
    LostEntry { seq, time, by: envelope.by.clone(), own, what }
}

/// Returns the last audit head known here that the server's audit log still leads to: what came
/// after it, nobody can vouch for.
async fn audited(parts: &Parts, client: &Client) -> Result<AuditHead> {
    let known = parts.store.read(|conn| {
        let chain = facts::get::<Chain>(conn, facts::AUDIT)?;
        let own = chain.into_iter().flat_map(|chain| [chain.followed, chain.named]);
        let anchors = state::peers::anchors(conn, 0, u64::MAX)?;
        let mut known: Vec<_> = own.chain(anchors.into_iter().map(|anchor| anchor.audit)).collect();
        known.sort_by_key(|head| head.n);
        Ok(known)
    });
    let known = known.await?;
    let most = known.last().map_or(0, |head| head.n);
    let (mut chain, mut agreed) = (AuditHead::EMPTY, AuditHead::EMPTY);
    let mut waiting = known.into_iter().peekable();
    while chain.n < most {
        let page = client.leaves(LeavesQuery { after: chain.n }).await?;
        let end = page.head.n;
        if page.leaves.is_empty() {
            break;
        }
        for leaf in page.leaves {
            chain = chain.then(leaf);
            while let Some(head) = waiting.next_if(|head| head.n <= chain.n) {
                if head == chain {
                    agreed = chain;
                }
            }
        }
        // Asking puts a record into the chain: there would always be one more, up to a head that
        // was lost, or that a hostile machine has made up.
        if chain.n >= end {
            break;
        }
    }
    Ok(agreed)
}

/// Sends the entry that resumes, and goes over to it: its signer sits at this host and has seen
/// what goes.
///
/// # Errors
/// If the server refuses it, does not answer, or this machine does not come to stand on it.
pub(super) async fn submit(
    parts: &Arc<Parts>,
    envelope: Envelope,
    code: Hash,
) -> Result<Submitted> {
    let entry: Entry = envelope.parse()?;
    if !matches!(entry.ops.first(), Some(Op::Resume(_))) {
        bail!(Code::Parse.because("the entry does not resume anything"));
    }
    let hash = envelope.hash(Purpose::Entry(parts.own.pins.vault));
    let request = AppendRequest { envelope, blobs: Vec::new(), code: Some(code) };
    let body = serde_json::to_vec(&request).context("writing the request")?;
    let head = send(parts, body).await?;
    if (head.seq, head.head) != (entry.seq, hash) {
        bail!(Code::Prev.because("the server acknowledges another entry than was sent"));
    }
    let deadline = Instant::now() + PATIENCE;
    while parts.ledger.hash_at(entry.seq).await? != Some(hash) {
        let client = beside(parts).await?;
        match over::go(parts, &client, Right::Accepted(head.place())).await.map_err(over::fault) {
            Ok(Some(_)) => break,
            // The stream has brought entries meanwhile.
            Err(fault) if Instant::now() > deadline || !is_passing(&fault) => {
                let why = format!(
                    "the vault is resumed by entry {}, but this machine does not follow",
                    entry.seq
                );
                return Err(fault.context(why));
            }
            Ok(None) if Instant::now() > deadline => {
                bail!(
                    "the vault is resumed by entry {}, but the server does not show it",
                    entry.seq
                )
            }
            Ok(None) | Err(_) => sleep(AGAIN).await,
        }
    }
    parts.link.try_now().await;
    Ok(Submitted { seq: entry.seq, head: hash })
}

fn is_passing(fault: &anyhow::Error) -> bool {
    fault.downcast_ref::<Error>().is_none_or(|error| error.code == Code::Prev)
}

/// Sends the same bytes until the server answers.
async fn send(parts: &Parts, body: Vec<u8>) -> Result<SignedHead> {
    let body = bytes::Bytes::from(body);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let client = beside(parts).await?;
        match client.append(body.clone(), None).await {
            Ok(head) => return Ok(head),
            Err(RemoteError::Conflict(_)) => {
                bail!(Code::Prev.because("the server's log has moved on since this was signed"))
            }
            Err(RemoteError::Refused(error)) => return Err(error.into()),
            Err(fault) if !fault.is_unresolved() || Instant::now() > deadline => {
                return Err(fault).context("nobody knows whether the vault is resumed");
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
}
