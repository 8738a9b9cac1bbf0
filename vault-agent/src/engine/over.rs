//! Going over: leaving entries that this machine has verified for another branch of the log, where
//! an owner has resumed the vault, or where somebody on this host has accepted a head
//! (design/trust, *Life cycle*, restore). Everything else that does not follow on the own log stays
//! a fault.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use host::hint::Failure;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::head::Head;
use shared::log::{Entry, Op, State};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use tokio::time::sleep;

use super::aside::say;
use super::ledger::rebase::{Branch, Leaving, Left};
use super::link::Ended;
use super::pages::{self, Line, MOST, Pages, weight};
use super::parts::Parts;
use super::reach::{beside, jittered, reach};
use super::told::told;
use crate::state::set_aside;
use machine::local::Accepted;
use machine::remote::Client;

/// How often a machine that a fork has stopped looks whether an owner has resumed the vault.
const WATCH: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });

/// How long the server may take to show that an owner has resumed the vault before its being on
/// another branch is an alarm.
const SHOWN: Duration = Duration::from_secs(5);

/// By what right entries may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// An owner has resumed the vault on the branch.
    Resumed,
    /// Somebody on this host says that the branch with this head is the true one.
    Accepted(Head),
}

/// Tells whether such a fault may come from a branch on which an owner has resumed the vault.
pub(super) const fn may_be_resumed(error: &Error) -> bool {
    matches!(error.code, Code::ServerBehind | Code::Prev | Code::Fork)
}

/// Goes over where a stream has ended because the server is on a branch that an owner has resumed;
/// returns why it has ended.
pub(super) async fn instead(parts: &Arc<Parts>, client: &Client, ended: Ended) -> Ended {
    let Ended::Refused(error) = &ended else { return ended };
    if !may_be_resumed(error) {
        return ended;
    }
    let mut going = std::pin::pin!(go(parts, client, Right::Resumed));
    let gone = tokio::select! {
        gone = &mut going => gone,
        // A server that is slow to show its branch must not keep people from hearing of it.
        () = sleep(SHOWN) => {
            parts.link.refuse(error);
            going.await
        }
    };
    match gone {
        Ok(None) => ended,
        Ok(Some(_)) => Ended::Lost("this machine has gone over to the vault's new branch".into()),
        Err(Ended::Refused(halt)) if halt.code == Code::Fork => Ended::Refused(halt),
        Err(why) => {
            tracing::warn!(why = format!("{:#}", fault(why)), "not gone over");
            ended
        }
    }
}

/// Looks now and then whether an owner has resumed the vault, while a fork stops everything else;
/// returns when this machine has gone over.
pub(super) async fn watch(parts: &Arc<Parts>) {
    loop {
        let is_acting = parts.link.look(|link| link.acting);
        if !is_acting && let Some(client) = reach(parts).await {
            match go(parts, &client, Right::Resumed).await {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(Ended::Refused(halt)) if halt.code == Code::Fork => parts.link.refuse(&halt),
                Err(why) => {
                    tracing::info!(why = format!("{:#}", fault(why)), "the fork stands");
                }
            }
        }
        sleep(jittered(WATCH)).await;
    }
}

/// Looks at the server's branch and goes over to it where `right` allows that. `None` if nothing on
/// the branch does.
///
/// # Errors
/// `E_FORK` if an owner has resumed the vault there and this machine cannot tell by itself that it
/// may follow; what is wrong with the branch; or if the connection or the database fails.
pub(super) async fn go(
    parts: &Arc<Parts>,
    client: &Client,
    right: Right,
) -> Result<Option<Left>, Ended> {
    let (own, client) = (Arc::clone(parts), client.clone());
    // In a task of its own: the caller may be stopped, as by news of a fork, but not half-way.
    let going = tokio::spawn(async move { go_over(&own, &client, right).await });
    going.await.unwrap_or_else(|_| Err(Ended::Lost("the agent is stopping".into())))
}

async fn go_over(parts: &Arc<Parts>, client: &Client, right: Right) -> Result<Option<Left>, Ended> {
    let Some((branch, head)) = branch(parts, client, right).await? else { return Ok(None) };
    let vault = parts.own.pins.vault;
    let decide = move |leaving: &Leaving<'_>| match right {
        Right::Accepted(_) => Ok(()),
        Right::Resumed => decide(vault, leaving).map_err(|why| halt(&why, head)),
    };
    let left = parts.ledger.rebase(branch, decide).await??;
    say(&parts.alarms, left.common, &left.entries);
    parts.reports.gone_over().await?;
    parts.link.go_on();
    // An owner has resumed it, or it never was: if not, the next request is told so.
    parts.link.restored(false);
    parts.link.nudge();
    Ok(Some(left))
}

/// Says why this machine does not follow, and what somebody on its host may do about it.
fn halt(why: &str, head: Head) -> Error {
    Code::Fork.because(format!(
        "{why}; if an admin confirms over another channel that the vault went on there, run here: \
         vault-agent accept {head}"
    ))
}

/// Decides whether an owner's resuming is enough to leave what is to be set aside. Root's is,
/// unless it was signed before a resumption that is to be left: a server may have kept an old one.
fn decide(vault: Hash, leaving: &Leaving<'_>) -> Result<(), String> {
    let left = leaving.lost.iter().filter_map(resume).map(|entry| entry.time).max();
    let (mut shown, mut valid) = (None, false);
    for (envelope, entry) in leaving.branch.iter().filter_map(|one| Some((one, resume(one)?))) {
        shown = Some(&envelope.by);
        if !is_signed(leaving.state, vault, envelope) {
            continue;
        }
        if envelope.by == Actor::Root && left.is_none_or(|left| entry.time > left) {
            return Ok(());
        }
        valid = true;
    }
    if !valid {
        let by = shown.map(ToString::to_string).unwrap_or_default();
        return Err(format!(
            "`{by}` resumed the vault and is no owner of it as this machine knows it"
        ));
    }
    let acts = leaving.lost.iter().filter(|envelope| !matches!(envelope.by, Actor::Machine(_)));
    let Some(first) = acts.clone().next() else { return Ok(()) };
    let what = first
        .parse::<Entry>()
        .map(|entry| told(&entry, Some(leaving.state)).join(", "))
        .unwrap_or_default();
    Err(format!(
        "the vault was resumed without {} of its owners' acts that this machine has seen, the first \
         by `{}`: {what}",
        acts.count(),
        first.by
    ))
}

/// Returns the entry if an owner resumes with it.
fn resume(envelope: &Envelope) -> Option<Entry> {
    if matches!(envelope.by, Actor::Machine(_)) {
        return None;
    }
    let entry: Entry = envelope.parse().ok()?;
    matches!(entry.ops.first(), Some(Op::Resume(_))).then_some(entry)
}

fn is_signed(state: &State, vault: Hash, envelope: &Envelope) -> bool {
    let purpose = Purpose::Entry(vault);
    state.key(&envelope.by).is_some_and(|key| envelope.verify(key, purpose).is_ok())
}

/// Gets the server's branch after the last entry in common, as far as the entry that gives the
/// right and the first head after it, and the head at that entry: the one that its signer was told.
/// `None` if no such entry is there.
async fn branch(
    parts: &Parts,
    client: &Client,
    right: Right,
) -> Result<Option<(Branch, Head)>, Ended> {
    let own = parts.ledger.read().state.place();
    let common = common(parts, client, own.seq).await?;
    let vault = parts.own.pins.vault;
    let mut pages = Pages::after(client, common);
    let mut epoch = parts.ledger.read().state.epoch_at(common);
    let (mut entries, mut bytes, mut found) = (Vec::new(), 0, None);
    while let Some(line) = pages.next().await? {
        match line {
            Line::Entry(envelope) => {
                bytes += weight(&envelope);
                if bytes > MOST {
                    return Ok(None);
                }
                let head = envelope.hash(Purpose::Entry(vault));
                let resumes = resume(&envelope).is_some();
                if resumes {
                    epoch = head;
                }
                let here = Head { epoch, seq: pages.position, head };
                let is_right = match right {
                    Right::Resumed => resumes,
                    Right::Accepted(accepted) => here == accepted,
                };
                if is_right {
                    found = Some(here);
                }
                entries.push(envelope);
            }
            Line::Head(head) => {
                if let Some(found) = found.filter(|_| head.seq == pages.position) {
                    return Ok(Some((Branch { own, common, entries, head }, found)));
                }
            }
        }
    }
    Ok(None)
}

/// Finds the last entry in common with the server's log by what it says of its entries: a lie leads
/// to a branch that does not follow, and is noticed when that is applied.
pub(super) async fn common(parts: &Parts, client: &Client, own: u64) -> Result<u64, Ended> {
    let (end, head) = pages::end(client, own).await?;
    let same = |seq: u64, there: Option<Hash>| async move {
        let here = parts.ledger.hash_at(seq).await?;
        Ok::<bool, Ended>(here.is_some() && here == there)
    };
    let (mut low, mut high) = (0, own.min(end));
    let at = if end <= own { (end, Some(head)) } else { (own, pages::before(client, own).await?) };
    if same(at.0, at.1).await? {
        return Ok(at.0);
    }
    // Entry `low` is in common, `high` is not: most losses are of the last few.
    let mut step = 1;
    while high - low > 1 {
        let middle = (high.saturating_sub(step)).max(low + (high - low) / 2).min(high - 1);
        if same(middle, pages::before(client, middle).await?).await? {
            low = middle;
        } else {
            high = middle;
            step *= 2;
        }
    }
    Ok(low)
}

/// Ends `E_FORK`, as somebody on this host says that the history with this head is the true one:
/// the own one where it holds the head, else the server's.
///
/// # Errors
/// If nothing is halted, the server cannot be reached, or its history does not hold the head.
pub(super) async fn accept(parts: &Arc<Parts>, head: Head) -> Result<Accepted> {
    if !parts.link.look(|link| link.halted) {
        let why = "no `E_FORK` stands on this machine: there is nothing to accept";
        bail!(Failure::remote(why).hint("`vault status` shows the alarms that stand"));
    }
    let holds = parts.ledger.read().state.epoch_at(head.seq) == head.epoch
        && parts.ledger.hash_at(head.seq).await? == Some(head.head);
    let left = if holds {
        parts.link.go_on();
        None
    } else {
        let client = beside(parts).await?;
        let left = go(parts, &client, Right::Accepted(head)).await.map_err(fault)?;
        let why = "the server's log does not hold that head";
        let way =
            "copy the line whole, from what `vault resume` printed or from the alarm `E_FORK`";
        Some(left.ok_or_else(|| Failure::remote(why).hint(way))?)
    };
    know_others(parts).await?;
    tracing::warn!(%head, "the history with this head was accepted by hand");
    let set_aside = left.map_or(0, |left| left.entries.len() as u64);
    Ok(Accepted { set_aside, seq: parts.ledger.read().state.seq() })
}

/// Notes which other branches are shown now: that they exist is no news any more.
async fn know_others(parts: &Parts) -> Result<()> {
    let mut others = Vec::new();
    for (_, peer) in parts.reports.peers() {
        let head = peer.seen.signed_head();
        if parts.ledger.judge(&head).await?.is_err() {
            others.push(head.head);
        }
    }
    let known = parts
        .store
        .write(move |conn| others.iter().try_for_each(|head| set_aside::know(conn, *head)));
    Ok(known.await?)
}

/// Turns what ended a look at the server's log into an error for people.
pub(super) fn fault(ended: Ended) -> anyhow::Error {
    match ended {
        Ended::Lost(why) => anyhow!(why),
        Ended::Refused(error) | Ended::Stranger(error) => error.into(),
        Ended::Local(fault) => fault.into(),
    }
}
