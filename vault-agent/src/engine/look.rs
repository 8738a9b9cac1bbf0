//! Looking for a better way to the server while there is one: when the network has changed, and now
//! and then while another address was quicker once or has not answered yet. Otherwise nothing is
//! sent. What is done with a better way is `follow`'s.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::parts::Parts;
use super::reach::{addresses, answered, jittered, race, silent};
use machine::remote::{Client, Network, source};

/// How soon the first look is after a connection or a change of the network; then twice as long
/// each time.
const FIRST: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
/// And at last.
const LONGEST: Duration = Duration::from_mins(10);
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

/// Waits for a better way than that of `client`.
pub(super) async fn better(parts: &Parts, client: &Client, network: &mut Network) -> Better {
    let mut ticks = parts.ticks.subscribe();
    let mut sought = addresses(parts);
    let mut wait = FIRST;
    let mut next = Instant::now() + jittered(wait);
    let mut moved = false;
    loop {
        let due = is_stranded(client) || parts.ways.may_be_better(&sought, client.address());
        let mut changed = tokio::select! {
            () = sleep_until(next), if due => false,
            () = network.changed() => true,
            ticked = ticks.changed() => {
                if ticked.is_err() {
                    // Everything ends.
                    return std::future::pending().await;
                }
                let now = addresses(parts);
                if now != sought {
                    network.heed(&now);
                    (sought, wait) = (now, FIRST);
                    next = Instant::now() + jittered(wait);
                }
                continue;
            }
        };
        let found = loop {
            if changed {
                parts.ways.moved();
                (wait, moved) = (FIRST, true);
            }
            tokio::select! {
                found = look(parts, client, &sought) => break found,
                () = network.changed() => changed = true,
            }
        };
        if let Some(found) = found {
            let grace = if is_stranded(client) { Duration::ZERO } else { GRACE };
            return Better { client: found, grace: moved.then_some(grace) };
        }
        next = Instant::now() + jittered(wait);
        wait = (wait * 2).min(LONGEST);
    }
}

/// Tells whether this host has another address for the server than the one that it is connected
/// by: nothing will come through there any more.
fn is_stranded(client: &Client) -> bool {
    let way = client.way();
    source(way.peer.ip()) != Some(way.local.ip())
}

/// Connects to all addresses, the present one a moment earlier, and returns the first that answers
/// if that is another one, or a way where there was none any more.
async fn look(parts: &Parts, client: &Client, sought: &[String]) -> Option<Client> {
    let mut race = race(parts, parts.ways.contest(sought, client.address()));
    let mut stays = false;
    while let Some(tried) = race.next().await {
        match tried {
            Ok(found) => {
                answered(parts, &found);
                if found.address() == client.address() && !is_stranded(client) {
                    stays = true;
                }
                if !stays {
                    return Some(found);
                }
                // What comes after it is slower: its time is noted, so that it is left alone.
            }
            Err(fault) => silent(parts, &fault),
        }
    }
    None
}
