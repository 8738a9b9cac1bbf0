//! How this machine stands: its connection and alarms, the fleet by verified records, and what its
//! secrets say about their rotation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use shared::hash::Hash;
use shared::log::{Machine, Number, Secret, State, Version};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::{Seen, TargetReport, Targets};
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::report::{Standing as Reported, TargetsPage, TargetsQuery};
use shared::wire::v1::shares::{self as wire, SharesReply};
use tokio::time::{Instant, timeout};

use super::arrivals::Arrivals;
use super::fleet::{Silence, Taken};
use super::parts::Parts;
use super::posting::agent;
use super::program;
use super::rights::may_read;
use super::timing;
use crate::state::peers::{self, StoredTargets};
use host::clock;
use machine::local::{NearShare, Outdated, OverShare, Rotation, Standing, Status, TargetRow};
use machine::remote::Client;

/// A machine that does not sleep and was not heard for so long is missed.
const SILENT_SECONDS: u64 = 5 * 60;
/// How long a server that has just started waits for those who follow.
const SETTLES_SECONDS: u64 = 60;
/// Nobody is late for a target that was added this recently.
const GRACE_MICROS: u64 = 5_000_000;
/// Who was over a share this recently is shown.
const RECENT_SECONDS: u64 = 86_400;
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
    let replaced = parts.reports.look_at_program();
    let folded = parts.ledger.read();
    let state = &folded.state;
    let own = parts.own.name(state);
    let reporter = Reporter { name: own, seen_at: Some(now), awake: true, outdated: false };
    let number = parts.own.find(state).map(|(number, _)| number);
    let mut machines = standings(state, parts.reports.fleet().seen(), number, now);
    if let Some(standing) = machines.iter_mut().find(|it| it.machine == *own) {
        standing.program = Some(program::shown(agent(), replaced, now));
    }
    let arrivals = parts.ledger.arrivals();
    let view = View { state, arrivals: &arrivals, now: Instant::now(), time: now, ages };
    let readable = state.secrets().iter().filter(|(path, _)| may_read(state, &parts.own, path));
    Status {
        machine: own.clone(),
        vault: parts.own.pins.vault,
        seq: state.seq(),
        head: state.head(),
        online: link.caught_up,
        server: link.address,
        synced_at: link.synced_at,
        trouble: link.trouble.filter(|_| !link.caught_up),
        told: false,
        machines,
        restored: parts.link.is_restored(),
        unwatched,
        server_keys: state.server().len(),
        alarms,
        targets: targets.iter().map(|target| row(&view, &reporter, target)).collect(),
        outdated: Vec::new(),
        over: Vec::new(),
        near: Vec::new(),
        room: None,
        backup_failing: None,
        left: parts.ledger.left(&folded, &arrivals, ages),
        server_program: None,
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
    // Right after a start, or when the server is back, the answer is not that nobody is known.
    parts.link.try_now().await;
    let (told, said) = tokio::join!(refresh(parts), shares(parts));
    let SharesReply { over, near, room, backup_failing, program, replaced, .. } = said;
    let stored = parts.store.read(|conn| peers::targets(conn)).await?;
    let stored: BTreeMap<Number, StoredTargets> =
        stored.into_iter().map(|targets| (targets.machine, targets)).collect();
    let mut status = of(parts);
    let (now, ages) = (clock::now(), parts.time_for_ages());
    let folded = parts.ledger.read();
    let (state, fleet, arrivals) = (&folded.state, parts.reports.fleet(), parts.ledger.arrivals());
    let view = View { state, arrivals: &arrivals, now: Instant::now(), time: now, ages };
    (status.over, status.room) = (over_share(state, over, now), room);
    (status.near, status.backup_failing) = (near_share(state, near), backup_failing);
    let named = |version: Text<64>| program::shown(version.to_string(), replaced, now);
    status.server_program = program.map(named);
    status.told = told.whole;
    judge(state, &mut status, &told, now);
    for (number, peer) in fleet.peers() {
        let Some(machine) = state.machine_numbered(*number) else { continue };
        let (awake, seen) = (told.online.contains(number), fleet.seen().get(number).copied());
        let stored = stored.get(number);
        let known = stored.and_then(|stored| {
            let hash = Hash::of(&[stored.text.as_bytes()]);
            // What a newer program has kept here may be more than this one can read.
            Some((stored, hash, Targets::open(&stored.text, hash).ok()?))
        });
        let outdated = known.as_ref().is_none_or(|(_, hash, _)| *hash != peer.seen.targets);
        if outdated {
            let of = known.as_ref().map(|(stored, ..)| stored.at);
            status.outdated.push(Outdated { machine: machine.name.clone(), of, awake });
        }
        let Some((stored, _, Targets { agent, replaced, targets, .. })) = known else { continue };
        if let Some(standing) = status.machines.iter_mut().find(|it| it.machine == machine.name) {
            standing.program = Some(program::shown(agent.to_string(), replaced, now));
        }
        // What is shown of an outdated machine is as old as its report.
        let seen_at = if outdated { Some(stored.at) } else { seen.or(Some(stored.at)) };
        let name = &machine.name;
        let reporter = Reporter { name, seen_at, awake, outdated };
        status.targets.extend(targets.iter().map(|target| row(&view, &reporter, target)));
    }
    Ok(status)
}

/// Returns which program each machine runs.
pub(super) async fn agents(parts: &Parts) -> Result<BTreeMap<Number, String>> {
    let mut agents: BTreeMap<_, _> =
        parts.store.read(|conn| peers::agents(conn)).await?.into_iter().collect();
    if let Some((own, _)) = parts.own.find(&parts.ledger.read().state) {
        agents.insert(own, agent());
    }
    Ok(agents)
}

/// What the server says of the others, unsigned.
#[derive(Default)]
pub(super) struct Told {
    /// Who follows the log now.
    online: BTreeSet<Number>,
    /// By how many seconds whose clock is off, if it is by minutes.
    clocks: BTreeMap<Number, i64>,
    /// Seconds since its start.
    up: Option<u64>,
    /// Whether it has said all.
    whole: bool,
}

/// Shows all active machines, as far as it is known here when they were last heard.
fn standings(
    state: &State,
    seen: &BTreeMap<Number, Time>,
    own: Option<Number>,
    now: Time,
) -> Vec<Standing> {
    let standing = |(number, machine): (&Number, &Machine)| {
        let is_own = own == Some(*number);
        Standing {
            machine: machine.name.clone(),
            sleeps: machine.sleeps,
            awake: is_own,
            silent: false,
            clock_off: None,
            program: None,
            seen_at: if is_own { Some(now) } else { seen.get(number).copied() },
            added: machine.added,
            read: machine.read.clone(),
            write: machine.write.clone(),
        }
    };
    let active = state.machines().iter().filter(|(_, machine)| machine.active);
    let mut all: Vec<Standing> = active.map(standing).collect();
    all.sort_by(|a, b| a.machine.cmp(&b.machine));
    all
}

/// Says who follows, and who is missed. Without the server's word of now nobody is: then it is the
/// server that is away.
fn judge(state: &State, status: &mut Status, told: &Told, now: Time) {
    let is_settled = told.up.is_none_or(|up| up >= SETTLES_SECONDS);
    for standing in &mut status.machines {
        let number = state.machine(&standing.machine).map(|(number, _)| number);
        standing.awake |= number.is_some_and(|number| told.online.contains(&number));
        let off = number.and_then(|number| told.clocks.get(&number)).copied();
        standing.clock_off = off.filter(|_| standing.awake);
        let last = standing.seen_at.unwrap_or(standing.added);
        let is_missed = !standing.awake && !standing.sleeps && is_settled;
        standing.silent = told.whole && is_missed && now.seconds_since(last) >= SILENT_SECONDS;
    }
}

/// Asks the server how everybody stands, and keeps what is signed.
pub(super) async fn refresh(parts: &Parts) -> Told {
    let mut told = Told::default();
    let Ok(client) = parts.link.client() else { return told };
    match timeout(PATIENCE, pages(parts, &client, &mut told)).await {
        Ok(Ok(())) => told.whole = true,
        Ok(Err(fault)) => {
            tracing::warn!(fault = format!("{fault:#}"), "the others' targets are not fetched");
        }
        Err(_) => tracing::warn!("the server does not say in time how the others stand"),
    }
    told
}

/// Asks the server who is over a share, and how full it is: its word, which nothing acts on.
async fn shares(parts: &Parts) -> SharesReply {
    let Ok(client) = parts.link.client() else { return SharesReply::default() };
    match timeout(PATIENCE, client.shares()).await {
        Ok(Ok(reply)) => {
            // A restored server that lacks nothing is like any other until somebody writes.
            if reply.restored {
                parts.link.restored(true);
            }
            return reply;
        }
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

async fn pages(parts: &Parts, client: &Client, told: &mut Told) -> Result<()> {
    let mut after = 0;
    loop {
        let TargetsPage { machines, more, up } = client.targets(TargetsQuery { after }).await?;
        let last = machines.iter().filter_map(|it| Seen::claimed(&it.seen).ok()).max();
        told.up = up;
        take(parts, machines, told).await?;
        match last {
            Some(last) if more && last > after => after = last,
            // A page that leads nowhere would come for ever.
            Some(_) | None => return Ok(()),
        }
    }
}

/// Keeps records that verify, and the targets that they name.
async fn take(parts: &Parts, machines: Vec<Reported>, told: &mut Told) -> Result<()> {
    let own = parts.own.find(&parts.ledger.read().state).map(|(number, _)| number);
    let now = clock::now();
    let records = machines.into_iter().map(|it| (it.seen.clone(), it));
    let (mut newer, mut named) = (Vec::new(), Vec::new());
    for (
        Taken { seen, newer: is_newer },
        envelope,
        Reported { targets: text, at, online, quiet, .. },
    ) in parts.reports.take_seen(records)
    {
        if online {
            told.online.insert(seen.machine);
        }
        if let Some(quiet) = if online { Some(0) } else { quiet } {
            parts.reports.fleet().saw(seen.machine, before(now, quiet));
        }
        if let Some(off) = timing::seconds_off(seen.time, at) {
            told.clocks.insert(seen.machine, off);
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

/// Returns the time so many seconds before another.
fn before(time: Time, seconds: u64) -> Time {
    Time::from_micros(time.as_micros().saturating_sub(seconds.saturating_mul(1_000_000)))
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

/// What rows are made by.
struct View<'a> {
    state: &'a State,
    arrivals: &'a Arrivals,
    now: Instant,
    time: Time,
    /// The time by which ages are judged.
    ages: Time,
}

/// Makes a row.
fn row(view: &View<'_>, reporter: &Reporter<'_>, target: &TargetReport) -> TargetRow {
    let View { state, ages, .. } = *view;
    let secret = state.secret(&target.path);
    let newest = secret.and_then(Secret::current);
    // A deleted version is wanted nowhere: the file keeps what it has.
    let wanted = newest.filter(|(_, version)| version.is_live(ages));
    let is_trouble = target.state.is_trouble() || target.hook.is_trouble();
    // It lags since the version after its own was written.
    let later = || secret?.versions().find(|(ver, _)| *ver > target.ver).map(|(_, it)| it.created);
    let is_fresh =
        |(_, version): (u64, &Version)| view.arrivals.is_fresh(version.created, view.now);
    let lags = || wanted.is_some_and(|(ver, _)| ver != target.ver).then(later).flatten();
    // A target that never held anything is late since it is one.
    let is_new = target.ver == 0;
    let dated = (is_trouble || is_new) && target.since != Time::default();
    let since = dated.then_some(target.since);
    let is_just_added = is_new && dated && view.time.apart(target.since) < GRACE_MICROS;
    TargetRow {
        machine: reporter.name.clone(),
        target: target.name.to_string(),
        secret: target.path.clone(),
        wanted: wanted.map_or(target.ver, |(ver, _)| ver),
        fresh: is_just_added || wanted.is_some_and(is_fresh),
        applied: target.ver,
        hook: target.hook,
        seen_at: reporter.seen_at,
        awake: reporter.awake,
        outdated: reporter.outdated,
        state: target.state,
        since: since.or_else(lags),
        detail: target.detail.to_string(),
    }
}

fn rotation((path, secret): (&SecretPath, &Secret), ages: Time) -> Option<Rotation> {
    let mut custom = secret.custom.texts();
    let mut custom = |name: &str| custom.remove(name);
    let newest = secret.current().filter(|(_, version)| version.is_live(ages));
    Some(Rotation {
        path: path.clone(),
        rotate_after: custom("rotate_after")?,
        issuer: custom("issuer"),
        owner: custom("owner"),
        created: newest.map(|(_, version)| version.created),
    })
}
