//! Looking at the other addresses of the server while there is a way: whether one is quicker, when
//! the network has changed and now and then while one was once or has not answered yet; and now and
//! then whether a server there is ahead, as this one may be an old copy that was started again.
//! Nothing is sent by a machine that knows one address. What is done with what is found is
//! `follow`'s.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::copies::{self, Stands, stands};
use super::parts::Parts;
use super::reach::{addresses, answered, jittered, race, silent};
use machine::remote::{Client, Network, source};

/// How soon the first look is after a connection or a change of the network; then twice as long
/// each time.
pub(super) const FIRST: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
/// And at last.
const LONGEST: Duration = Duration::from_mins(10);
/// How many times as long it may take where no other address can be quicker.
const SPREAD: u32 = 4;
/// How long requests on the connection before get to end, when the network has changed: it may be
/// dead, and nobody says so.
const GRACE: Duration = Duration::from_secs(2);

/// A better way than the one before.
pub(super) struct Better {
    /// A connection that takes it.
    pub(super) client: Client,
    /// How long the one before may still be used; until it is done by itself if `None`.
    pub(super) grace: Option<Duration>,
}

/// Waits for a better way than that of `client`; a look is due after about `wait`, which grows with
/// each.
pub(super) async fn better(
    parts: &Parts,
    client: &Client,
    network: &mut Network,
    wait: &mut Duration,
) -> Better {
    let mut applied = parts.ledger.applied();
    let mut signed = parts.ledger.read().state.addresses().to_vec();
    let mut sought = addresses(parts);
    let due_at = |sought: &[String], wait: Duration| {
        // Whole fleets connect at once when the server was started: not all of them ask at once.
        let hurry = if parts.ways.may_be_better(sought, client.address()) { 1 } else { SPREAD };
        Instant::now() + jittered((wait * hurry).min(LONGEST))
    };
    let mut next = due_at(&sought, *wait);
    let mut moved = false;
    let place = Place { client, source: source(client.way().peer.ip()) };
    let mut is_left = false;
    loop {
        let due = is_left || sought.iter().any(|address| address != client.address());
        let mut changed = tokio::select! {
            () = sleep_until(next), if due => false,
            () = network.changed() => true,
            ticked = applied.changed() => {
                if ticked.is_err() {
                    // Everything ends.
                    return std::future::pending().await;
                }
                // With each change of the vault: no more than a comparison.
                if parts.ledger.read().state.addresses() != signed {
                    signed = parts.ledger.read().state.addresses().to_vec();
                    sought = addresses(parts);
                    network.heed(&sought);
                    copies::forget(parts, &sought);
                    *wait = FIRST;
                    next = due_at(&sought, *wait);
                }
                continue;
            }
        };
        let found = loop {
            if changed {
                parts.ways.moved();
                (*wait, moved) = (FIRST, true);
            }
            tokio::select! {
                found = look(parts, &place, &sought) => break found,
                () = network.changed() => changed = true,
            }
        };
        *wait = (*wait * 2).min(LONGEST);
        is_left = place.is_left();
        match found {
            Some(Found::Ahead(found)) => {
                // What is sent to an old copy now would be lost.
                *wait = FIRST;
                return Better { client: found, grace: Some(Duration::ZERO) };
            }
            Some(Found::Quicker(found)) => {
                let grace = if is_left { Duration::ZERO } else { GRACE };
                return Better { client: found, grace: moved.then_some(grace) };
            }
            None => next = due_at(&sought, *wait),
        }
    }
}

/// Where this host is connected from.
struct Place<'a> {
    client: &'a Client,
    /// The address that the routing table had for the server, when the connection was new.
    source: Option<IpAddr>,
}

impl Place<'_> {
    /// Tells whether this host has another address for the server by now: nothing will come through
    /// the connection any more.
    fn is_left(&self) -> bool {
        let way = self.client.way();
        let now = source(way.peer.ip());
        // Routes by rule or by scope may have had it differ from the start.
        now != self.source && now != Some(way.local.ip())
    }
}

/// What a look has found.
enum Found {
    /// A quicker way, or one where there was none any more.
    Quicker(Client),
    /// A server that has more of the log than the one before.
    Ahead(Client),
}

/// Connects to the other addresses, and to the present one a moment earlier if one of them may be
/// quicker. Returns the first that is; else the first of which the server is ahead.
async fn look(parts: &Parts, place: &Place<'_>, sought: &[String]) -> Option<Found> {
    let current = place.client.address();
    let is_left = place.is_left();
    let contested = is_left || parts.ways.may_be_better(sought, current);
    let waves = match contested {
        true => parts.ways.contest(sought, current),
        false => parts.ways.others(sought, current),
    };
    let mut race = race(parts, waves);
    let mut stays = !contested;
    while let Some(tried) = race.next().await {
        let found = match tried {
            Ok(found) => found,
            Err(fault) => {
                silent(parts, &fault);
                copies::gone(parts, fault.address());
                continue;
            }
        };
        answered(parts, &found);
        if found.address() == current && !is_left {
            stays = true;
        } else if !stays {
            return Some(Found::Quicker(found));
        // What comes after it is slower: its time is noted, so that it is left alone.
        } else if stands(parts, place.client, &found).await == Stands::Ahead {
            return Some(Found::Ahead(found));
        }
    }
    None
}
