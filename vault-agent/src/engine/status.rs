//! How this machine stands: its connection and alarms, the fleet by verified records, and what its
//! secrets say about their rotation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use shared::hash::Hash;
use shared::log::{Number, Secret, State};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::{Seen, TargetReport, Targets};
use shared::time::Time;
use shared::wire::v1::report::{Standing, TargetsPage, TargetsQuery};
use shared::wire::v1::shares::{self as wire, SharesReply};
use tokio::time::timeout;

use super::fleet::{Silence, Taken};
use super::parts::Parts;
use super::posting::AGENT;
use super::rights::may_read;
use crate::state::peers::{self, StoredTargets};
use host::clock;
use machine::local::{NearShare, Outdated, OverShare, Rotation, Status, TargetRow};
use machine::remote::Client;

/// A machine whose newest record came this recently counts as awake.
const AWAKE_SECONDS: u64 = 60;
/// Who was over a share this recently is shown.
const RECENT_SECONDS: u64 = 86_400;
/// Nobody is late for a version that was written this recently.
const GRACE: Duration = Duration::from_secs(5);
/// How long the server may take to say how everybody stands.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of whom the rows of a machine are, and when its report came in.
struct Reporter<'a> {
    name: &'a Name,
    seen_at: Option<Time>,
    awake: bool,
    /// Whether the machine has signed other targets since.
    outdated: bool,
}

/// Shows how this machine is now, and its own targets alone.
pub(super) fn of(parts: &Parts) -> Status {
    let (link, alarms) = (parts.link.now(), parts.alarms.list());
    let (unwatched, targets) = (is_unwatched(parts), parts.reports.targets());
    let (now, ages) = (clock::now(), parts.time_for_ages());
    let folded = parts.ledger.read();
    let state = &folded.state;
    let own = parts.own.name(state);
    let reporter = Reporter { name: own, seen_at: Some(now), awake: true, outdated: false };
    let readable = state.secrets().iter().filter(|(path, _)| may_read(state, &parts.own, path));
    Status {
        machine: own.clone(),
        vault: parts.own.pins.vault,
        seq: state.seq(),
        head: state.head(),
        online: link.caught_up,
        server: link.address,
        synced_at: link.synced_at,
        restored: parts.link.is_restored(),
        unwatched,
        alarms,
        targets: targets.iter().map(|target| row(state, &reporter, target, (now, ages))).collect(),
        outdated: Vec::new(),
        over: Vec::new(),
        near: Vec::new(),
        room: None,
        rotations: readable.filter_map(|secret| rotation(secret, ages)).collect(),
    }
}

/// Tells whether there are other machines, but none whose silence would be noticed.
fn is_unwatched(parts: &Parts) -> bool {
    let folded = parts.ledger.read();
    let own = parts.own.find(&folded.state).map(|(number, _)| number);
    let mut others = folded.state.machines().iter();
    let (reports, state) = (&parts.reports, &folded.state);
    others.any(|(number, machine)| machine.active && Some(*number) != own)
        && reports.fleet().silence(state, own, reports.connected.so_far()) == Silence::NotJudged
}

/// Shows how this machine and all others are: a row for each secret of each target of each active
/// machine, as the server has them now, or as they were last fetched.
pub(super) async fn fleet(parts: &Parts) -> Result<Status> {
    let (online, SharesReply { over, near, room }) = tokio::join!(refresh(parts), shares(parts));
    let stored = parts.store.read(|conn| peers::targets(conn)).await?;
    let stored: BTreeMap<Number, StoredTargets> =
        stored.into_iter().map(|targets| (targets.machine, targets)).collect();
    let mut status = of(parts);
    let (now, ages) = (clock::now(), parts.time_for_ages());
    let folded = parts.ledger.read();
    let (state, fleet) = (&folded.state, parts.reports.fleet());
    (status.over, status.room) = (over_share(state, over, now), room);
    status.near = near_share(state, near);
    for (number, peer) in fleet.peers() {
        let Some(machine) = state.machine_numbered(*number) else { continue };
        let awake = online.contains(number) || now.seconds_since(peer.at) < AWAKE_SECONDS;
        let stored = stored.get(number);
        let hash = stored.map(|stored| Hash::of(&[stored.text.as_bytes()]));
        let outdated = hash != Some(peer.seen.targets);
        if outdated {
            let (machine, of) = (machine.name.clone(), stored.map(|stored| stored.at));
            status.outdated.push(Outdated { machine, of, awake });
        }
        let Some((stored, hash)) = stored.zip(hash) else { continue };
        let Targets { targets, .. } = Targets::open(&stored.text, hash)?;
        let (name, seen_at) = (&machine.name, Some(stored.at));
        let reporter = Reporter { name, seen_at, awake, outdated };
        status
            .targets
            .extend(targets.iter().map(|target| row(state, &reporter, target, (now, ages))));
    }
    Ok(status)
}

/// Returns which program each machine runs.
pub(super) async fn agents(parts: &Parts) -> Result<BTreeMap<Number, String>> {
    let mut agents: BTreeMap<_, _> =
        parts.store.read(|conn| peers::agents(conn)).await?.into_iter().collect();
    if let Some((own, _)) = parts.own.find(&parts.ledger.read().state) {
        agents.insert(own, AGENT.to_owned());
    }
    Ok(agents)
}

/// Asks the server how everybody stands, and keeps what is signed; returns who it says is
/// connected.
pub(super) async fn refresh(parts: &Parts) -> BTreeSet<Number> {
    let mut online = BTreeSet::new();
    let Ok(client) = parts.link.client() else { return online };
    match timeout(PATIENCE, pages(parts, &client, &mut online)).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => {
            tracing::warn!(fault = format!("{fault:#}"), "the others' targets are not fetched");
        }
        Err(_) => tracing::warn!("the server does not say in time how the others stand"),
    }
    online
}

/// Asks the server who is over a share, and how full it is: its word, which nothing acts on.
async fn shares(parts: &Parts) -> SharesReply {
    let Ok(client) = parts.link.client() else { return SharesReply::default() };
    match timeout(PATIENCE, client.shares()).await {
        Ok(Ok(reply)) => return reply,
        Ok(Err(fault)) => tracing::warn!(%fault, "the server does not say who is over a share"),
        Err(_) => tracing::warn!("the server does not say in time who is over a share"),
    }
    SharesReply::default()
}

/// Names who was over a share in the last day, each share once; those that the log does not know
/// are left out.
fn over_share(state: &State, told: Vec<wire::OverShare>, now: Time) -> Vec<OverShare> {
    let named = |wire::OverShare { machine: number, share, count, last }| {
        let machine = active_name(state, number)?;
        let is_recent = now.seconds_since(last) < RECENT_SECONDS;
        is_recent.then_some(((number, share), OverShare { machine, share, count, last }))
    };
    let once: BTreeMap<_, _> = told.into_iter().filter_map(named).collect();
    once.into_values().collect()
}

/// Names who has taken most of a share, each share once; those that the log does not know are left
/// out.
fn near_share(state: &State, told: Vec<wire::NearShare>) -> Vec<NearShare> {
    let named = |wire::NearShare { machine: number, share, used_percent, until }| {
        let machine = active_name(state, number)?;
        Some(((number, share), NearShare { machine, share, used_percent, until }))
    };
    let once: BTreeMap<_, _> = told.into_iter().filter_map(named).collect();
    once.into_values().collect()
}

fn active_name(state: &State, number: Number) -> Option<Name> {
    let machine = state.machine_numbered(number).filter(|machine| machine.active)?;
    Some(machine.name.clone())
}

async fn pages(parts: &Parts, client: &Client, online: &mut BTreeSet<Number>) -> Result<()> {
    let mut after = 0;
    loop {
        let TargetsPage { machines, more } = client.targets(TargetsQuery { after }).await?;
        let last = machines.iter().filter_map(|it| Seen::claimed(&it.seen).ok()).max();
        take(parts, machines, online).await?;
        match last {
            Some(last) if more && last > after => after = last,
            // A page that leads nowhere would come for ever.
            Some(_) | None => return Ok(()),
        }
    }
}

/// Keeps records that verify, and the targets that they name.
async fn take(parts: &Parts, machines: Vec<Standing>, online: &mut BTreeSet<Number>) -> Result<()> {
    let own = parts.own.find(&parts.ledger.read().state).map(|(number, _)| number);
    let records = machines.into_iter().map(|it| (it.seen, (it.targets, it.at, it.online)));
    let (mut newer, mut named) = (Vec::new(), Vec::new());
    for (Taken { seen, newer: is_newer }, envelope, (text, at, is_online)) in
        parts.reports.take_seen(records)
    {
        if is_online {
            online.insert(seen.machine);
        }
        if is_newer {
            newer.push((seen.machine, envelope));
        }
        if Some(seen.machine) != own && !text.is_empty() {
            named.push((seen, text, at));
        }
    }
    parts.reports.judge().await?;
    let targets = tokio::task::spawn_blocking(|| checked(named)).await?;
    let kept = parts.store.write(move |conn| {
        for (number, envelope) in newer {
            peers::keep(conn, number, &envelope, clock::now())?;
        }
        targets.iter().try_for_each(|(n, targets)| peers::keep_targets(conn, *n, targets))
    });
    Ok(kept.await?)
}

/// Returns the targets that are those of their record, and its number.
fn checked(named: Vec<(Seen, String, Time)>) -> Vec<(u64, StoredTargets)> {
    let checked = named.into_iter().filter_map(|(seen, text, at)| {
        let machine = seen.machine;
        match Targets::open(&text, seen.targets) {
            Ok(Targets { agent, .. }) => {
                let agent = agent.to_string();
                Some((seen.n, StoredTargets { machine, at, agent, text }))
            }
            Err(error) => {
                tracing::warn!(machine, %error, "targets are passed over");
                None
            }
        }
    });
    checked.collect()
}

/// Makes a row as of now, and as of the time by which ages are judged.
fn row(
    state: &State,
    reporter: &Reporter<'_>,
    target: &TargetReport,
    (now, ages): (Time, Time),
) -> TargetRow {
    let newest = state.secret(&target.path).and_then(|secret| secret.current());
    // A deleted version is wanted nowhere: the file keeps what it has.
    let wanted = newest.filter(|(_, version)| version.is_live(ages));
    TargetRow {
        machine: reporter.name.clone(),
        target: target.name.to_string(),
        secret: target.path.clone(),
        wanted: wanted.map_or(target.ver, |(ver, _)| ver),
        fresh: wanted.is_some_and(|(_, version)| is_fresh(version.created, now)),
        applied: target.ver,
        hook: target.hook,
        seen_at: reporter.seen_at,
        awake: reporter.awake,
        outdated: reporter.outdated,
        state: target.state,
        detail: target.detail.to_string(),
    }
}

/// Tells whether a version is so new that its machines may still be at it. One from the future says
/// nothing.
fn is_fresh(created: Time, now: Time) -> bool {
    let grace = GRACE.as_secs();
    now.seconds_since(created) < grace && created.seconds_since(now) < grace
}

fn rotation((path, secret): (&SecretPath, &Secret), ages: Time) -> Option<Rotation> {
    let custom = |name: &str| secret.custom.get(name).cloned();
    let newest = secret.current().filter(|(_, version)| version.is_live(ages));
    Some(Rotation {
        path: path.clone(),
        rotate_after: custom("rotate_after")?,
        issuer: custom("issuer"),
        owner: custom("owner"),
        created: newest.map(|(_, version)| version.created),
    })
}
