//! The status for scripts: every field is in the reference, and none is taken away or changes its
//! meaning.

use host::version;
use serde_json::{Value, json};
use shared::time::Time;
use shared::version::Version;

use crate::vault::rotation;
use machine::findings::Finding;
use machine::findings::{Runs, mixed};
use machine::local::{NearShare, Program, Status};

/// Makes the document, with times as people and scripts read them.
pub(super) fn of(status: &Status, found: &[Finding], now: Time) -> Value {
    let time = |at: Option<Time>| at.map(|at| at.to_string());
    let findings = found.iter().map(|it| {
        json!({
            "code": it.kind.word(), "machine": it.machine, "target": it.target,
            "secret": it.secret, "text": it.text, "since": time(it.since), "todo": it.todo,
        })
    });
    let machines = status.machines.iter().map(|it| {
        json!({
            "machine": it.machine, "sleeps": it.sleeps, "awake": it.awake, "silent": it.silent,
            "clock_off": it.clock_off, "program": it.program.as_ref().map(program),
            "seen_at": time(it.seen_at), "added": it.added.to_string(),
        })
    });
    let rows = status.targets.iter().map(|row| {
        json!({
            "machine": row.machine, "target": row.target, "secret": row.secret,
            "wanted": row.wanted, "applied": row.applied, "hook": row.hook,
            "seen_at": time(row.seen_at), "awake": row.awake, "outdated": row.outdated,
            "state": row.state, "lags": row.lags(), "since": time(row.since),
            "fails": row.fails(), "detail": row.detail,
        })
    });
    let alarms = status.alarms.iter().map(
        |alarm| json!({ "code": alarm.code, "text": alarm.text, "since": alarm.since.to_string() }),
    );
    let outdated = status
        .outdated
        .iter()
        .map(|it| json!({ "machine": it.machine, "of": time(it.of), "awake": it.awake }));
    let over: Vec<_> = status
        .over
        .iter()
        .map(|it| {
            let (share, last) = (it.share, it.last.to_string());
            json!({ "machine": it.machine, "share": share, "count": it.count, "last": last })
        })
        .collect();
    let near: Vec<_> = status
        .near
        .iter()
        .map(|NearShare { machine, share, used_percent, until }| {
            let until = until.to_string();
            json!({ "machine": machine, "share": share, "used_percent": used_percent, "until": until })
        })
        .collect();
    let rotations = rotation::due(status.rotations.clone(), now, rotation::SOON);
    let rotations: Vec<_> = rotations.iter().map(|entry| entry.document(now)).collect();
    json!({
        "ok": found.is_empty(), "findings": findings.collect::<Vec<_>>(),
        "machine": status.machine, "vault": status.vault, "seq": status.seq, "head": status.head,
        "online": status.online, "server": status.server, "synced_at": time(status.synced_at),
        "trouble": status.trouble, "told": status.told, "machines": machines.collect::<Vec<_>>(),
        "restored": status.restored, "unwatched": status.unwatched,
        "server_keys": status.server_keys,
        "alarms": alarms.collect::<Vec<_>>(), "targets": rows.collect::<Vec<_>>(),
        "outdated": outdated.collect::<Vec<_>>(), "rotations": rotations,
        "over": over, "near": near, "room": status.room,
        "backup_failing": time(status.backup_failing),
        "left": status.left.as_ref().map(|it| json!({
            "versions": it.versions, "unreadable": it.unreadable, "out": it.out,
        })),
        "server_program": status.server_program.as_ref().map(program), "older": older(status),
    })
}

fn program(Program { version, replaced }: &Program) -> Value {
    json!({ "version": version, "replaced": replaced.map(|at| at.to_string()) })
}

/// Lists who runs an older program than the newest that anybody runs.
fn older(status: &Status) -> Vec<Value> {
    let mixed = Version::of(version::own()).and_then(|own| mixed(status, own));
    let older = mixed.into_iter().flat_map(|mixed| mixed.older);
    let entry = |(runs, version): (Runs<'_>, Version)| {
        let (program, machine) = match runs {
            Runs::Machine(name) => ("vault-agent", Some(name)),
            Runs::Server => ("vault-server", None),
            Runs::Asking => ("vault", Some(&status.machine)),
        };
        json!({ "program": program, "machine": machine, "version": version.to_string() })
    };
    older.map(entry).collect()
}
