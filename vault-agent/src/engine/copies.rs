//! Several addresses, and not one server behind them: an old copy that was started again at one of
//! them. It holds the server's key, and signs what it has; only a head of another one tells. Heads
//! are asked for by the empty request that costs nothing and is on no record.

use shared::head::SignedHead;
use shared::log::apply;
use shared::wire::v1::log::HealRequest;

use super::fleet::Judged;
use super::pages::{Line, Pages};
use super::parts::Parts;
use machine::remote::Client;

/// The alarm while an old copy answers.
const OLD: &str = "E_SERVER_OLD";

/// How the server behind another address stands to the one that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It is the same, or nobody can tell.
    Even,
    /// It has shown an entry that follows on this machine's log, and which the other one lacks.
    Ahead,
    /// It lacks entries that this machine has verified, and ends at this one.
    Behind { at: u64 },
}

/// Asks the server behind `other` for its head, and the one behind `current` if they differ.
pub(super) async fn stands(parts: &Parts, current: &Client, other: &Client) -> Stands {
    let stands = match differs(parts, other).await {
        None => Stands::Even,
        Some((there, judged)) => {
            // Asked after the other one, the same server knows as much.
            let here = head(current).await;
            let is_same = here.is_some_and(|here| reaches(&here, &there));
            match judged {
                Judged::Ahead if !is_same => ahead(parts, current, other, here.is_some()).await,
                Judged::Held | Judged::Left if here.is_some_and(|here| !reaches(&there, &here)) => {
                    Stands::Behind { at: there.seq }
                }
                Judged::Ahead | Judged::Held | Judged::Left | Judged::Unsigned => Stands::Even,
            }
        }
    };
    match stands {
        Stands::Even | Stands::Ahead => gone(parts, other.address()),
        Stands::Behind { at } => {
            parts.ways.refused(other.address());
            parts.alarms.raise(OLD, other.address(), old(parts, current, other, at));
        }
    }
    stands
}

/// Tells whether a server with one head has all that leads to the other.
fn reaches(one: &SignedHead, other: &SignedHead) -> bool {
    one.epoch == other.epoch && one.seq >= other.seq
}

/// Returns the head of the server behind `other`, and how it stands to this machine's log, unless
/// it is where that ends.
async fn differs(parts: &Parts, other: &Client) -> Option<(SignedHead, Judged)> {
    // What was verified before it was asked, the same server has too.
    let own = parts.ledger.read().state.place();
    let there = head(other).await?;
    match parts.ledger.judge(&there).await.ok()? {
        Ok(Judged::Unsigned) => None,
        Ok(Judged::Held) if there.seq >= own.seq => None,
        Ok(judged) => {
            if judged == Judged::Ahead {
                // Withheld for long, that is an alarm, whoever does it.
                parts.reports.ahead(there);
            }
            Some((there, judged))
        }
        Err(proof) => {
            parts.link.refuse(&proof);
            None
        }
    }
}

/// Looks whether a server that has signed a later head is ahead of the one that is followed: that
/// is a mere claim until it shows an entry.
async fn ahead(parts: &Parts, current: &Client, other: &Client, answers: bool) -> Stands {
    if !shows_next(parts, other).await {
        return Stands::Even;
    }
    if answers {
        tracing::warn!(old = current.address(), newer = other.address(), "an old copy answers");
        parts.ways.refused(current.address());
    }
    Stands::Ahead
}

/// Returns the head that a server signs now; none if it does not answer.
async fn head(client: &Client) -> Option<SignedHead> {
    Some(client.heal(&HealRequest::default()).await.ok()?.head)
}

/// Tells whether a server shows an entry that follows on this machine's log.
async fn shows_next(parts: &Parts, client: &Client) -> bool {
    let seq = parts.ledger.read().state.seq();
    let mut pages = Pages::after(client, seq);
    while let Ok(Some(line)) = pages.next().await {
        if let Line::Entry(envelope) = line {
            return parts.ledger.attempt(|folded| {
                let applied = apply(&mut folded.state, &envelope);
                applied.map(|applied| folded.state.revert(applied.undo)).is_ok()
            });
        }
    }
    false
}

/// Says what to do about an old copy that ends at entry `at`.
fn old(parts: &Parts, current: &Client, copy: &Client, at: u64) -> String {
    let (copy, current) = (copy.address(), current.address());
    let own = parts.ledger.read().state.seq();
    format!(
        "an old copy of the server answers at `{copy}`: it ends at entry {at}, the one at \
         `{current}` at {own} (hint: stop it, or take its address out of `agent.toml` and out of \
         those that the owners have signed)"
    )
}

/// Notes that no old copy answers at an address.
pub(super) fn gone(parts: &Parts, address: &str) {
    parts.alarms.clear_if(|code, subject| code == OLD && subject == address);
}

/// Forgets addresses that are not sought any more.
pub(super) fn forget(parts: &Parts, sought: &[String]) {
    parts
        .alarms
        .clear_if(|code, subject| code == OLD && !sought.iter().any(|address| address == subject));
}
