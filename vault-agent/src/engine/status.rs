//! How this machine stands: its connection and alarms, the fleet by its verified reports, and what
//! its secrets say about their rotation.

use shared::log::{Secret, State};
use shared::path::SecretPath;
use shared::report::TargetReport;
use shared::time::Time;

use super::parts::Parts;
use super::rights::may_read;
use super::types::Peer;
use host::clock;
use machine::local::{Rotation, Status, TargetRow};

/// A machine whose report is this fresh counts as awake.
const AWAKE_SECONDS: u64 = 60;

/// Shows how everything is now: one row for each secret of each target of each active machine.
pub(super) fn of(parts: &Parts) -> Status {
    let (link, peers, alarms) = (parts.link.now(), parts.reports.peers(), parts.alarms.list());
    let (now, ages) = (clock::now(), parts.time_for_ages());
    let folded = parts.ledger.read();
    let state = &folded.state;
    let own = parts.own.name(state);
    let active = peers.iter().filter(|peer| state.machine(&peer.report.machine).is_some());
    let targets = active.flat_map(|peer| {
        let fresh = now.seconds_since(peer.at) < AWAKE_SECONDS;
        let awake = peer.online || peer.report.machine == *own || fresh;
        peer.report.targets.iter().map(move |target| row(state, peer, target, awake, ages))
    });
    let readable = state.secrets().iter().filter(|(path, _)| may_read(state, &parts.own, path));
    Status {
        machine: own.clone(),
        vault: parts.own.pins.vault,
        seq: state.seq(),
        head: state.head(),
        online: link.caught_up,
        server: link.address,
        synced_at: link.synced_at,
        alarms,
        targets: targets.collect(),
        rotations: readable.filter_map(|secret| rotation(secret, ages)).collect(),
    }
}

fn row(state: &State, peer: &Peer, target: &TargetReport, awake: bool, ages: Time) -> TargetRow {
    let newest = state.secret(&target.path).and_then(|secret| secret.current());
    // A deleted version is wanted nowhere: the file keeps what it has.
    let wanted = newest.filter(|(_, version)| version.is_live(ages)).map(|(ver, _)| ver);
    TargetRow {
        machine: peer.report.machine.clone(),
        target: target.name.to_string(),
        secret: target.path.clone(),
        wanted: wanted.unwrap_or(target.ver),
        applied: target.ver,
        hook: target.hook,
        seen_at: Some(peer.at),
        awake,
        state: target.state,
        detail: target.detail.to_string(),
    }
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
