//! Start-up of server and agent over a log of 100,000 entries: from the start of the process to
//! `READY=1`.

use std::time::{Duration, Instant};

use machine::identity::MachineKeys;
use machine::paths::Paths;
use rusqlite::{Connection, params};
use shared::blob::{Kind, Place, seal};
use shared::hash::Hash;
use shared::keys::{SignKey, Signature};
use shared::log::{self, Entry, Op, Put, State};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use tests::{Host, World, watch};

use crate::table::Row;

const ENTRIES: u64 = 100_000;
const SECRETS: u64 = 10_000;
const COLD: Duration = Duration::from_secs(10);
const WARM: Duration = Duration::from_secs(2);

/// Starts both over the long log: without a snapshot of it, and again with one.
pub fn figures() -> Vec<Row> {
    // Years of it are written straight into the file.
    let mut world = World::on_sqlite(tests::bins!(), |_| {});
    let mut rtx = world.owner("rtx1080");
    rtx.target(&["secret/bench/key-7"]);
    rtx.stop();
    stop_server(&mut world);
    let seq = lengthen(&world, &rtx, ENTRIES);

    let server_cold = timed(|| world.start());
    stop_server(&mut world);
    let server_warm = timed(|| world.start());
    let begun = Instant::now();
    rtx.start();
    watch::poll("the agent has the whole log", || is_at(&rtx, seq).then_some(()));
    let synced = begun.elapsed();
    // As if the machine had lost its power: what is not in a snapshot is folded.
    rtx.agent.take().unwrap().kill();
    let agent_killed = timed(|| rtx.start());
    rtx.stop();
    let agent_warm = timed(|| rtx.start());
    rtx.stop();
    forget_snapshot(&rtx);
    let agent_cold = timed(|| rtx.start());
    assert!(is_at(&rtx, seq), "the agent started over the whole log");
    vec![
        Row::at_most("server over 100,000 entries, no snapshot", server_cold, COLD),
        Row::at_most("  with its snapshot", server_warm, WARM),
        Row::at_most("agent over 100,000 entries, no snapshot", agent_cold, COLD),
        Row::at_most("  with its snapshot", agent_warm, WARM),
        Row::at_most("  after a kill", agent_killed, WARM),
        Row::shown("  syncing them and 10,000 blobs", format!("{synced:.1?}")),
    ]
}

pub fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

pub fn stop_server(world: &mut World) {
    assert!(world.server.take().unwrap().stop(), "the server stops well");
}

fn is_at(host: &Host, seq: u64) -> bool {
    let status = host.vault(&["status", "--format", "json"]).out;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    status["data"]["seq"].as_u64().or_else(|| status["seq"].as_u64()) == Some(seq)
}

fn forget_snapshot(host: &Host) {
    let conn = Connection::open(host.state().join("agent.db")).unwrap();
    conn.execute("DELETE FROM snapshot", []).unwrap();
}

/// Writes entries as if the machine had posted them, the blob of every newest version with them;
/// returns the last number.
pub fn lengthen(world: &World, host: &Host, entries: u64) -> u64 {
    let paths = Paths::resolve(Some(host.state()), None).unwrap();
    let key = MachineKeys::load(&paths).unwrap().sign;
    let conn = Connection::open(world.data().join("vault.db")).unwrap();
    let state = fold(&conn);
    let by = Actor::Machine(host.name.parse().unwrap());
    // A blob refers to its entry, which is stored after it.
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let tx = conn.unchecked_transaction().unwrap();
    let (mut seq, mut prev) = (state.seq(), state.head());
    for n in 0..entries - state.seq() {
        seq += 1;
        let path: SecretPath = format!("secret/bench/key-{}", n % SECRETS).parse().unwrap();
        let ver = n / SECRETS + 1;
        let is_newest = n + SECRETS >= entries - state.seq();
        let put = put(&state, &tx, &path, ver, is_newest.then_some(seq));
        let entry = Entry { seq, prev, time: Time::from_micros(n), by: by.clone(), ops: vec![put] };
        prev = store(&tx, &key, state.vault(), &entry);
    }
    tx.commit().unwrap();
    seq
}

pub fn fold(conn: &Connection) -> State {
    let mut query = conn.prepare("SELECT by, body, sig FROM log ORDER BY seq").unwrap();
    let envelopes = query.query_map([], |row| {
        let by: String = row.get(0)?;
        let sig = Signature::from_bytes(row.get(2)?);
        Ok(Envelope { by: by.parse().unwrap(), body: row.get(1)?, sig })
    });
    let mut envelopes = envelopes.unwrap().map(Result::unwrap);
    let mut state = log::start(&envelopes.next().unwrap()).unwrap();
    for envelope in envelopes {
        log::apply(&mut state, &envelope).unwrap();
    }
    state
}

/// Makes a version of `path`; with `stored` its blob is real, and stored as that of this entry.
fn put(state: &State, conn: &Connection, path: &SecretPath, ver: u64, stored: Option<u64>) -> Op {
    let readers = log::readers_hash(state, path);
    let Some(seq) = stored else {
        let blob = Hash::of(&[path.as_str().as_bytes(), &ver.to_le_bytes()]);
        return Op::Put(Put {
            path: path.clone(),
            ver,
            blob,
            size: 1000,
            commit: Hash::ZERO,
            readers,
        });
    };
    let vault = state.vault();
    let place = Place { vault: &vault, path, ver };
    let sealed =
        seal(place, Kind::Kv, br#"{"KEY":"value"}"#, &log::recipients(state, path)).unwrap();
    conn.prepare_cached(
        "INSERT INTO blob (hash, seq, path, ver, machine, parked_at, bytes) VALUES (?1, ?2, ?3, ?4, 1, 0, ?5)",
    )
    .unwrap()
    .execute(params![
        sealed.id.as_bytes(),
        i64::try_from(seq).unwrap(),
        path.as_str(),
        i64::try_from(ver).unwrap(),
        sealed.bytes
    ])
    .unwrap();
    let size = sealed.bytes.len() as u64;
    Op::Put(Put { path: path.clone(), ver, blob: sealed.id, size, commit: sealed.commit, readers })
}

pub fn store(conn: &Connection, key: &SignKey, vault: Hash, entry: &Entry) -> Hash {
    let purpose = Purpose::Entry(vault);
    let envelope = Envelope::sign(key, entry.by.clone(), purpose, entry).unwrap();
    let hash = envelope.hash(purpose);
    let by = envelope.by.to_string();
    let sig = envelope.sig.as_bytes();
    conn.prepare_cached("INSERT INTO log (seq, hash, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)")
        .unwrap()
        .execute(params![
            i64::try_from(entry.seq).unwrap(),
            hash.as_bytes(),
            by,
            envelope.body,
            sig
        ])
        .unwrap();
    hash
}
