//! Which server this machine looks for: what the log lists, and a newer one that somebody on this
//! host has vouched for, until the log lists that, too (design/trust, *Life cycle*, rotate).

use anyhow::{Result, bail};
use host::hint::Failure;
use shared::error::Code;

use super::parts::Parts;
use crate::state::facts;
use machine::local::{ServerView, Trust};

/// Returns what the log says of the server, and which key it holds now.
pub(super) fn view(parts: &Parts) -> ServerView {
    let folded = parts.ledger.read();
    let state = &folded.state;
    let signed = |key: &_| {
        let head = folded.signed.as_ref();
        head.is_some_and(|head| head.verify(std::slice::from_ref(key), state.vault()).is_ok())
    };
    ServerView {
        keys: state.server().to_vec(),
        running: folded.server_keys().into_iter().find(signed),
        addresses: state.addresses().to_vec(),
        seq: state.seq(),
        head: state.head(),
    }
}

/// Accepts a server that somebody on this host vouches for.
///
/// # Errors
/// If this machine's log holds another entry at the place that they name, or the database fails.
pub(super) async fn trust(parts: &Parts, trust: Trust) -> Result<()> {
    if let Some((seq, head)) = trust.at
        && let Some(here) = parts.ledger.hash_at(seq).await?
        && here != head
    {
        let (there, here) = (head.short(), here.short());
        let why = format!("entry {seq} is {here} in this machine's log, not {there}");
        bail!(Failure::remote(why).hint("have an admin print the line anew"));
    }
    let kept = trust.clone();
    parts.store.write(move |conn| facts::set(conn, facts::TRUST, &kept)).await?;
    tracing::warn!(server = %trust.server, "a server is accepted by hand");
    parts.ledger.trust(Some(trust));
    parts.alarms.clear(Code::ServerPin.as_str());
    parts.link.nudge();
    Ok(())
}

/// Drops what was vouched for once the log lists it at the place that was named.
///
/// # Errors
/// `E_FORK` if the log holds another entry there.
pub(super) async fn settle(parts: &Parts) -> Result<(), shared::error::Error> {
    let listed = {
        let folded = parts.ledger.read();
        folded.trusted.clone().filter(|trust| folded.state.server().contains(&trust.server))
    };
    let Some(Trust { at, .. }) = listed else { return Ok(()) };
    // Nobody can tell of an entry that a checkpoint stands for.
    let begins = parts.ledger.read().begins;
    if let Some((seq, head)) = at.filter(|(seq, _)| *seq > begins) {
        // A failure is looked into at the next catching up.
        let Ok(here) = parts.ledger.hash_at(seq).await else { return Ok(()) };
        if here != Some(head) {
            let there = head.short();
            let why = format!("entry {seq} is not {there}, as the line of the new server said");
            return Err(Code::Fork.because(why));
        }
    }
    if parts.store.write(|conn| facts::unset(conn, facts::TRUST)).await.is_ok() {
        parts.ledger.trust(None);
    }
    Ok(())
}
