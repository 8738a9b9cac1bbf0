//! One change for a whole fleet: when the last host holds it, and what it costs the server. Real
//! agents; each needs an inotify instance, so that the largest fleet needs
//! `sysctl fs.inotify.max_user_instances=1024`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use shared::grant::Grants;
use shared::keys::SignKey;
use shared::log::{Entry, NewMachine, Op};
use shared::name::Actor;
use shared::token::{Line as _, MachineLine, PinLine};
use tests::{Host, World, admin_key, find_line};

use crate::startup::{fold, stop_server, store};
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
    let mut world = World::new(tests::bins!());
    let mut owner = world.owner("rtx1080");
    let others = enrol(&mut world, &mut owner, hosts - 1);
    let _ = owner.vault(&["kv", "put", "secret/fleet", "VALUE=start"]).ok();
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

/// Adds machines that read the secret, all at once: as if the owner had signed an entry for each.
fn enrol(world: &mut World, owner: &mut Host, machines: u32) -> Vec<Host> {
    let hosts = (1..=machines).map(|n| world.host(&format!("host-{n}")));
    let mut hosts: Vec<Host> = hosts.collect();
    owner.stop();
    stop_server(world);
    let conn = Connection::open(world.data().join("vault.db")).unwrap();
    let (state, key) = (fold(&conn), admin_key(owner));
    let (mut seq, mut prev, mut number) = (state.seq(), state.head(), state.due_machine());
    let tx = conn.unchecked_transaction().unwrap();
    for host in &hosts {
        let line = find_line(&host.agent_command(&["init", "--name", &host.name]).ok(), "VLTM1-");
        let MachineLine { name, recipient, sign, proof } = MachineLine::from_line(&line).unwrap();
        let (read, write) = (Grants::parse(&["secret/fleet"]).unwrap(), Grants::default());
        let new = NewMachine { name, number, recipient, sign, proof, read, write };
        (seq, number) = (seq + 1, number + 1);
        let (time, by) = (state.time(), Actor::Admin("jonas".parse().unwrap()));
        let entry = Entry { seq, prev, time, by, ops: vec![Op::MachineAdd(new)] };
        prev = store(&tx, &key, state.vault(), &entry);
    }
    tx.commit().unwrap();
    world.start();
    owner.start();
    let server = std::fs::read_to_string(world.data().join("server.key")).unwrap();
    let server = vec![SignKey::from_text(&server).unwrap().verify_key()];
    for host in &mut hosts {
        let (addresses, name) = (vec![world.address().to_owned()], host.name.parse().unwrap());
        let (server, vault) = (server.clone(), state.vault());
        let pin = PinLine { addresses, server, vault, name, at: None, checkpoint: None };
        let _ = host.agent_command(&["join", &pin.to_line().unwrap()]).ok();
        host.start();
    }
    hosts
}
