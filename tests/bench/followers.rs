//! Ten thousand machines on one server, each with a connection and keys of its own: what a follower
//! costs in memory, all of them while nothing happens, and one put that a tenth of them reads. They
//! speak the real protocol through the agents' own client, in this one process, which shares the
//! cores with the server.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use host::files::{Access, replace_trusted};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{Entry, NewMachine, Op};
use shared::name::Actor;
use shared::token::MachineLine;
use tests::{Host, World, admin_key};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::follower::{EXCHANGE, Event, FOLLOWERS, Follower, PATH, Server};
use crate::startup::{fold, stop_server, store};
use crate::table::{Aim, Row};
use crate::{latency, process};

/// One in so many reads [`PATH`].
const READS: u32 = 10;
const READERS: u32 = FOLLOWERS / READS;
const ROUNDS: u32 = 9;
/// Open files beside the connections.
const FILES: u64 = 500;
/// Until all followers have done what they are waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// Most private memory of the server for each follower, in bytes.
const MEMORY: u64 = 64 << 10;
const IDLE: Aim = Aim::AtMost(5.0);
const REACHED: Duration = Duration::from_secs(1);

/// What the guide tells owners of so many hosts to set, and what that is without.
const CONFIGURED: [[&str; 2]; 2] =
    [["strangers = 64 ", "strangers = 1024 "], ["ping_seconds = 10 ", "ping_seconds = 60 "]];

/// One change.
#[derive(Default)]
struct Change {
    /// From the put to its answer, the last reader's content, the last follower's entry, the last
    /// report.
    answered: Duration,
    held: Duration,
    followed: Duration,
    reported: Duration,
    /// The server's processor time for all of that.
    cpu: Duration,
}

pub fn figures() -> Vec<Row> {
    allow_files();
    let mut world = World::new(tests::bins!());
    let mut owner = world.owner("rtx1080");
    owner.stop();
    stop_server(&mut world);
    let (vault, seq, followers) = add(&world, &owner);
    configure(&world.data());
    world.start();
    owner.start();
    let pid = world.server.as_ref().unwrap().pid();
    let load = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (server, events) = load.block_on(Server::of(&world, vault, seq, &followers[0]));

    let (memory, cpu) = (process::private(pid), process::cpu(pid));
    let connecting = connect(&load, &server, followers, &events);
    let mut rows = vec![
        Row::shown(&format!("until {FOLLOWERS} are connected"), format!("{connecting:.1?}")),
        Row::shown("  server's processor time each", {
            format!("{:.2?}", (process::cpu(pid) - cpu) / FOLLOWERS)
        }),
    ];
    // Each exchanges reports once meanwhile.
    let (pass, cpu) = (EXCHANGE * 3 / 2, process::cpu(pid));
    let idle = process::cpu_after(pid, pass) - cpu;
    let followed = process::private(pid).saturating_sub(memory);
    let changes = changes(&owner, pid, &events, seq);
    let changed = process::private(pid).saturating_sub(memory);
    load.shutdown_background();

    let most = u64::from(FOLLOWERS) * MEMORY;
    rows.push(Row::bytes("server's private memory for them", followed, most));
    rows.push(Row::bytes("  after the changes", changed, most));
    let share = 100.0 * idle.as_secs_f64() / pass.as_secs_f64();
    rows.push(Row::percent("server's processor while nothing happens", share, &IDLE));
    rows.extend(shown(&changes));
    rows
}

fn shown(changes: &[Change]) -> [Row; 6] {
    let median = |time: fn(&Change) -> Duration| {
        latency::quantile(&changes.iter().map(time).collect::<Vec<_>>(), 50)
    };
    let shown = |what: &str, time| Row::shown(what, format!("{:.1?}", median(time)));
    let slowest = changes.iter().map(|change| change.held).max().unwrap_or_default();
    let what = format!("put → last of {READERS} readers, median");
    [
        Row::at_most(&what, median(|change| change.held), REACHED),
        Row::shown("  slowest", format!("{slowest:.1?}")),
        shown("  → its answer, median", |change| change.answered),
        shown("  → last follower, median", |change| change.followed),
        shown("  → last report, median", |change| change.reported),
        shown("server's processor time a change, median", |change| change.cpu),
    ]
}

/// Raises the limit of open files of this process, and so of the server that it starts.
fn allow_files() {
    let wanted = u64::from(FOLLOWERS) + FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let may = maximum.is_none_or(|maximum| maximum >= wanted);
    assert!(may, "{wanted} open files are needed: run `ulimit -n 65536` before, as root");
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
}

/// Writes into the log that the owner adds all machines; returns the vault, the last entry, and the
/// machines.
fn add(world: &World, owner: &Host) -> (Hash, u64, Vec<Follower>) {
    let key = admin_key(owner);
    let conn = Connection::open(world.data().join("vault.db")).unwrap();
    let state = fold(&conn);
    let (mut seq, mut prev, mut number) = (state.seq(), state.head(), state.due_machine());
    let tx = conn.unchecked_transaction().unwrap();
    let mut followers = Vec::new();
    for n in 0..FOLLOWERS {
        let name = format!("host-{n}");
        let path = if n % READS == 0 { PATH.to_owned() } else { format!("secret/{name}") };
        let (read, write) = (Grants::parse(&[path]).unwrap(), Grants::default());
        let (key_of, age) = (SignKey::generate(), Identity::generate());
        let line = MachineLine::new(name.parse().unwrap(), age.recipient(), &key_of).unwrap();
        followers.push(Follower { name: line.name.clone(), number, sign: key_of });
        let MachineLine { name, recipient, sign, proof } = line;
        let new = NewMachine { name, number, recipient, sign, proof, read, write };
        (seq, number) = (seq + 1, number + 1);
        let (time, by) = (state.time(), Actor::Admin("jonas".parse().unwrap()));
        let entry = Entry { seq, prev, time, by, ops: vec![Op::MachineAdd(new)] };
        prev = store(&tx, &key, state.vault(), &entry);
    }
    tx.commit().unwrap();
    (state.vault(), seq, followers)
}

fn configure(data: &Path) {
    let file = data.join("server.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for [usual, wanted] in CONFIGURED {
        assert!(text.contains(usual), "no `{usual}` in {text}");
        text = text.replace(usual, wanted);
    }
    replace_trusted(&file, text.as_bytes(), Access::PRIVATE).unwrap();
}

/// Starts all followers at once, as if the server were back after a restart, and waits until they
/// follow and have reported; returns how long it took until they followed.
fn connect(
    load: &Runtime,
    server: &Arc<Server>,
    followers: Vec<Follower>,
    events: &Receiver<Event>,
) -> Duration {
    let begun = Instant::now();
    for follower in followers {
        load.spawn(follower.run(Arc::clone(server)));
    }
    let (mut follow, mut reported, mut took) = (0, 0, Duration::ZERO);
    while follow < FOLLOWERS || reported < FOLLOWERS {
        match next(events) {
            Event::Follows => (follow, took) = (follow + 1, begun.elapsed()),
            Event::Reported(_) => reported += 1,
            Event::Took { .. } | Event::Failed(_) => {}
        }
    }
    took
}

/// Puts the secret again and again, each time after all reports of the last.
fn changes(owner: &Host, pid: u32, events: &Receiver<Event>, seq: u64) -> Vec<Change> {
    let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
    let change = |seq| {
        let (begun, cpu) = (Instant::now(), process::cpu(pid));
        let body = format!("{{\"data\":{{\"VALUE\":\"entry-{seq}\"}}}}");
        latency::request(&mut socket, "POST", "/v1/secret/data/fleet", &body);
        let mut change = Change { answered: begun.elapsed(), ..Change::default() };
        let (mut readers, mut took, mut reported) = (0, 0, 0);
        while took < FOLLOWERS || reported < FOLLOWERS {
            match next(events) {
                Event::Took { seq: of, at, holds } if of == seq => {
                    took += 1;
                    change.followed = change.followed.max(at - begun);
                    if holds {
                        readers += 1;
                        change.held = change.held.max(at - begun);
                    }
                }
                Event::Reported(of) if of == seq => reported += 1,
                Event::Took { .. } | Event::Reported(_) | Event::Follows | Event::Failed(_) => {}
            }
        }
        assert_eq!(readers, READERS, "each reader, and nobody else, gets the content");
        (change.reported, change.cpu) = (begun.elapsed(), process::cpu(pid) - cpu);
        change
    };
    (seq + 1..=seq + u64::from(ROUNDS)).map(change).collect()
}

/// Waits for what one of them tells.
///
/// # Panics
/// If that is that it cannot go on, or if all are silent.
fn next(events: &Receiver<Event>) -> Event {
    match events.recv_timeout(PATIENCE).expect("followers are heard") {
        Event::Failed(why) => panic!("{why}"),
        event => event,
    }
}
