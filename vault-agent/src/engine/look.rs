//! Looking for a better way to the server while there is one: when the network has changed, and now
//! and then while another address was quicker once or has not answered yet. Otherwise nothing is
//! sent. What is done with a better way is `follow`'s.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::parts::Parts;
use super::reach::{addresses, answered, jittered, race, silent};
use machine::remote::{Client, Network, source};

/// How soon the first look is after a connection or a change of the network; then twice as long
/// each time.
pub(super) const FIRST: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });
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

/// Waits for a better way than that of `client`; a look is due after about `wait`, which grows with
/// each.
pub(super) async fn better(
    parts: &Parts,
    client: &Client,
    network: &mut Network,
    wait: &mut Duration,
) -> Better {
    let mut ticks = parts.ticks.subscribe();
    let mut sought = addresses(parts);
    let mut next = Instant::now() + jittered(*wait);
    let mut moved = false;
    let place = Place { client, source: source(client.way().peer.ip()) };
    loop {
        let due = place.is_left() || parts.ways.may_be_better(&sought, client.address());
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
                    (sought, *wait) = (now, FIRST);
                    next = Instant::now() + jittered(*wait);
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
        if let Some(found) = found {
            let grace = if place.is_left() { Duration::ZERO } else { GRACE };
            return Better { client: found, grace: moved.then_some(grace) };
        }
        next = Instant::now() + jittered(*wait);
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

/// Connects to all addresses, the present one a moment earlier, and returns the first that answers
/// if that is another one, or a way where there was none any more.
async fn look(parts: &Parts, place: &Place<'_>, sought: &[String]) -> Option<Client> {
    let current = place.client.address();
    let mut race = race(parts, parts.ways.contest(sought, current));
    let mut stays = false;
    while let Some(tried) = race.next().await {
        match tried {
            Ok(found) => {
                answered(parts, &found);
                if found.address() == current && !place.is_left() {
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
