//! A log of a million entries once a checkpoint stands for it, beside one of as many secrets and no
//! history: starting the server, joining, memory, disk. The entries are written into the database
//! as if a machine had posted them, and the checkpoint as if root had.

use std::path::Path;
use std::time::Duration;

use bech32::Hrp;
use host::store::checkpoint;
use rusqlite::Connection;
use shared::keys::SignKey;
use shared::log::{Entry, Op};
use shared::name::Actor;
use tests::{Host, World, watch};

use crate::process;
use crate::startup::{fold, lengthen, stop_server, store, timed};
use crate::table::{Aim, Row};

const ENTRIES: u64 = 1_000_000;
/// As many as [`lengthen`] writes to.
const SECRETS: u64 = 10_000;
const START: Duration = Duration::from_secs(2);
const JOIN: Duration = Duration::from_secs(10);

/// What one log costs.
struct Cost {
    start: Duration,
    again: Duration,
    join: Duration,
    /// Private memory of the server, and of the host that has joined, in bytes.
    memory: [u64; 2],
    /// Bytes of both databases.
    disk: [u64; 2],
}

/// Measures both.
pub fn figures() -> Vec<Row> {
    let (long, short) = (cost(ENTRIES), cost(SECRETS + 10));
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let ratio = |what: &str, long: u64, short: u64| {
        Row::ratio(what, long as f64 / short as f64, Some(&Aim::AtMost(1.2)))
    };
    vec![
        Row::at_most("server's start, from the checkpoint", long.start, START),
        Row::at_most("  from its snapshot", long.again, START),
        Row::at_most("join of a host, to the end of the log", long.join, JOIN),
        Row::shown("  without history", format!("{:.1?}", short.join)),
        ratio("server's memory, to that without history", long.memory[0], short.memory[0]),
        ratio("  the host's", long.memory[1], short.memory[1]),
        ratio("  the host's disk", long.disk[1], short.disk[1]),
        Row::shown("  the server's database", format!("{} MiB", long.disk[0] >> 20)),
    ]
}

fn cost(entries: u64) -> Cost {
    // Years of it are written straight into the file.
    let mut world = World::on_sqlite(tests::bins!(), |_| {});
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    stop_server(&mut world);
    lengthen(&world, &rtx, entries);
    compact(&world, &rtx);
    let start = timed(|| world.start());
    stop_server(&mut world);
    let again = timed(|| world.start());
    // The owner's own host has slept through all of it.
    rtx.start();
    holds(&rtx, entries);
    let mut nas = world.host("nas");
    let join = timed(|| {
        world.enrol(&rtx, &nas, &["secret/"]);
        nas.start();
        holds(&nas, entries);
    });
    let pids = [world.server.as_ref().unwrap().pid(), nas.agent.as_ref().unwrap().pid()];
    let memory = pids.map(process::private);
    nas.stop();
    stop_server(&mut world);
    let size = |file: &Path| std::fs::metadata(file).unwrap().len();
    let disk = [size(&world.data().join("vault.db")), size(&nas.state().join("agent.db"))];
    Cost { start, again, join, memory, disk }
}

/// Waits until a host has come to the end of the log.
fn holds(host: &Host, entries: u64) {
    watch::poll("all newest versions are there", || {
        let status = host.vault(&["status", "--format", "json"]).out;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        let status = status.get("data").unwrap_or(&status);
        (status["seq"].as_u64() > Some(entries) && status["online"] == true).then_some(())
    });
}

/// Signs the checkpoint as root, and drops what it stands for.
fn compact(world: &World, owner: &Host) {
    let conn = Connection::open(world.data().join("vault.db")).unwrap();
    let tx = conn.unchecked_transaction().unwrap();
    let state = fold(&tx);
    let named = state.summed();
    checkpoint::save(&tx, &state, named).unwrap();
    let (by, ops) = (Actor::Root, vec![Op::Checkpoint(named)]);
    let entry = Entry { seq: state.seq() + 1, prev: state.head(), time: state.time(), by, ops };
    store(&tx, &root(owner), state.vault(), &entry);
    checkpoint::begin_after(&tx, named.seq).unwrap();
    while checkpoint::drop_some(&tx).unwrap() > 0 {}
    tx.commit().unwrap();
}

/// Reads root's key from the recovery kit.
fn root(owner: &Host) -> SignKey {
    let kit = std::fs::read_to_string(owner.dir.join("kit.txt")).unwrap();
    let line = kit.split_whitespace().find(|word| word.starts_with("VAULT-ROOT-SECRET-1")).unwrap();
    let (hrp, seed) = bech32::decode(line).unwrap();
    assert_eq!(hrp, Hrp::parse("vault-root-secret-").unwrap());
    SignKey::from_seed(&seed.try_into().unwrap())
}
