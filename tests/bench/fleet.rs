//! One change for a whole fleet: when the last host holds it, and what it costs the server. Real
//! agents; each needs an inotify instance, so that the largest fleet needs
//! `sysctl fs.inotify.max_user_instances=1024`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tests::{Host, World};

use crate::table::{Aim, Row};
use crate::targets::{all_hold, last_renamed};
use crate::{latency, process};

/// Hosts of each fleet, the owner's included.
const FLEETS: [u32; 3] = [3, 60, 200];

const ROUNDS: u32 = 10;

/// Time between two changes: what follows one, as reports, is over before the next.
const BETWEEN: Duration = Duration::from_secs(2);

pub fn figures() -> Vec<Row> {
    let mut rows = Vec::new();
    let last = FLEETS.map(|hosts| {
        let (last, cpu) = fleet(hosts);
        let what = |what: &str| format!("{hosts} hosts: {what}");
        let most = Duration::from_millis(5) + hosts * Duration::from_micros(400);
        rows.push(Row::shown(&what("put → last file, median"), format!("{last:.1?}")));
        rows.push(Row::at_most(&what("server's processor time a change"), cpu, most));
        last.as_secs_f64()
    });
    rows.push(Row::ratio("last of 200 / last of 60", last[2] / last[1], Some(&Aim::AtMost(4.0))));
    rows
}

/// Returns the median time to the last file, and the server's processor time a change.
fn fleet(hosts: u32) -> (Duration, Duration) {
    let world = World::new(tests::bins!());
    let owner = world.owner("rtx1080");
    let _ = owner.vault(&["kv", "put", "secret/fleet", "VALUE=start"]).ok();
    let others = (1..hosts).map(|n| world.machine(&owner, &format!("host-{n}"), &["secret/fleet"]));
    let others: Vec<Host> = others.collect();
    let files: Vec<PathBuf> = others.iter().map(Host::env_file).collect();
    for (host, file) in others.iter().zip(&files) {
        let add = ["target", "add", file.to_str().unwrap(), "secret/fleet"];
        let _ = host.agent_command(&add).ok();
    }
    all_hold(&files, "VALUE=start\n");
    let (_never, nothing) = std::sync::mpsc::channel::<()>();
    let pause = || assert!(nothing.recv_timeout(BETWEEN).is_err(), "nobody sends");
    let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
    let server = world.server.as_ref().unwrap().pid();
    pause();
    // What the server does in the same time without a change, as pings, is no part of one.
    let begun = process::cpu(server);
    (0..ROUNDS).for_each(|_| pause());
    let (idle, mut times) = (process::cpu(server) - begun, Vec::new());
    let begun = process::cpu(server);
    for round in 0..ROUNDS {
        let body = format!("{{\"data\":{{\"VALUE\":\"round-{round}\"}}}}");
        let begun = SystemTime::now();
        latency::request(&mut socket, "POST", "/v1/secret/data/fleet", &body);
        all_hold(&files, &format!("VALUE=round-{round}\n"));
        times.push(last_renamed(&files).duration_since(begun).unwrap_or_default());
        pause();
    }
    times.sort_unstable();
    let used = (process::cpu(server) - begun).saturating_sub(idle);
    (times[times.len() / 2], used / ROUNDS)
}
