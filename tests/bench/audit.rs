//! A million audit records: the room they take, finding some of them, and checking all.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use shared::audit::{AuditHead, Fact, Op, Record, leaf};
use shared::hash::Hash;
use shared::keys::random;
use shared::time::Time;
use tests::{Host, World, watch};

use crate::table::Row;
use crate::{latency, screen};

const RECORDS: u64 = 1_000_000;
/// Secrets that the records tell of, and all there are.
const SECRETS: u64 = 200;
const STORED: u64 = 10_000;
const ROOM: u64 = 400_000_000;
const PAGE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 11;

pub fn figures() -> Vec<Row> {
    // Years of it are written straight into the file.
    let mut world = World::on_sqlite(tests::bins!(), |_| {});
    let owner = world.owner("rtx1080");
    let plain = world.machine(&owner, "vps", &["secret/"]);
    screen::fill(&owner, STORED);
    assert!(world.server.take().unwrap().stop());
    lengthen(&world);
    world.start();
    watch::poll("the agents are back", || {
        (owner.vault(&["audit", "log", "-n", "1"]).code == 0).then_some(())
    });
    let bytes: u64 = tests::files_below(&world.data())
        .iter()
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum();
    let mut rows = vec![Row::bytes("a million audit records, on the server's disk", bytes, ROOM)];
    for (what, query) in [
        ("first page of one machine's", "machine=vps&newest=true&limit=50"),
        ("  of one secret's reads", "path=secret/app/7&op=read&newest=true&limit=50"),
        ("  of a pattern's", "path=*app/1*&op=read&newest=true&limit=50"),
        ("  of refusals, which are few", "denied=true&newest=true&limit=50"),
        ("  of what nobody did", "op=machine_remove&newest=true&limit=50"),
        ("  of an hour long ago", &hour("newest=true&limit=50")),
        ("  of refusals in that hour", &hour("denied=true&newest=true&limit=50")),
    ] {
        let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
        let path = format!("/v1/agent/audit?{query}");
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                latency::request(&mut socket, "GET", &path, "");
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        rows.push(Row::at_most(what, times[ROUNDS / 2], PAGE));
    }
    rows.extend(screen::figures(&owner));
    rows.push(checked("verify by whole records", &owner, 100_000.0));
    rows.push(checked("verify by leaves", &plain, 500_000.0));
    rows
}

/// The query of an hour in the first quarter of the time that the records took.
fn hour(query: &str) -> String {
    let start = START + RECORDS * STEP / 4;
    format!("since={start}&until={}&{query}", start + 3_600_000_000)
}

fn checked(what: &str, host: &Host, least: f64) -> Row {
    let begun = Instant::now();
    let said = host.vault(&["audit", "verify", "--anew"]).ok();
    assert!(said.contains("are whole"), "{said}");
    #[expect(clippy::cast_precision_loss, reason = "a speed")]
    let speed = RECORDS as f64 / begun.elapsed().as_secs_f64();
    Row::rate(what, speed, "records", least)
}

/// When the first record was written, and how long each one is after the one before.
const START: u64 = 1_700_000_000_000_000;
const STEP: u64 = 20_000_000;

/// Writes records as the server does: reads of three machines, deliveries, some changes, a refusal
/// now and then.
fn lengthen(world: &World) {
    let conn = Connection::open(world.data().join("vault.db")).unwrap();
    let select = "SELECT n, chain, total FROM audit ORDER BY n DESC LIMIT 1";
    let (n, chain, mut total) = conn
        .query_row(select, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, i64>(2)?))
        })
        .unwrap();
    let mut head = AuditHead { n: n.cast_unsigned(), hash: Hash::from_bytes(chain) };
    let tx = conn.unchecked_transaction().unwrap();
    while head.n < RECORDS {
        let fact = fact(head.n);
        let kind = kind(&tx, &fact);
        let time = Time::from_micros(START + head.n * STEP);
        let nonce = Hash::from_bytes(*random::<32>());
        let record = serde_json::to_vec(&Record { n: head.n + 1, nonce, time, fact }).unwrap();
        head = head.then(leaf(&record));
        total += i64::try_from(record.len()).unwrap();
        tx.prepare_cached("INSERT INTO audit (n, chain, time, kind, total, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .unwrap()
            .execute(params![
                head.n.cast_signed(),
                head.hash.as_bytes(),
                time.as_micros().cast_signed(),
                kind,
                total,
                record
            ])
            .unwrap();
        if head.n.is_multiple_of(1_000) {
            tx.execute(
                "INSERT INTO audit_block SELECT ?1 / 1000, min(time), max(time) FROM audit WHERE n > ?1 - 1000",
                [head.n.cast_signed()],
            )
            .unwrap();
            tx.execute(
                "INSERT INTO audit_block_kind SELECT DISTINCT kind, ?1 / 1000 FROM audit WHERE n > ?1 - 1000",
                [head.n.cast_signed()],
            )
            .unwrap();
        }
    }
    tx.commit().unwrap();
}

fn fact(n: u64) -> Fact {
    let machine = ["vps", "rtx1080", "thinkpad"][usize::try_from(n % 3).unwrap()];
    let op = match n % 10 {
        0 => Op::Deliver,
        1 => Op::Put,
        _ => Op::LocalRead,
    };
    let who = (op == Op::LocalRead).then(|| format!("python3[{}] uid 1000 (jonas)", n % 30_000));
    let is_refused = n % 50_000 == 7;
    Fact {
        machine: Some(machine.parse().unwrap()),
        at: who.is_some().then(|| Time::from_micros(START + n * STEP)),
        who: who.map(|who| who.parse().unwrap()),
        addr: Some("10.8.0.2".parse().unwrap()),
        path: Some(format!("secret/app/{}", n * 7 % SECRETS).parse().unwrap()),
        ver: Some(n % 40 + 1),
        result: if is_refused {
            shared::audit::Outcome::Refused(shared::error::Code::Denied)
        } else {
            shared::audit::Outcome::Ok
        },
        ..Fact::new(op)
    }
}

fn kind(conn: &Connection, fact: &Fact) -> i64 {
    let whole = params![
        fact.path.as_ref().map(shared::path::SecretPath::as_str),
        fact.machine.as_ref().map(shared::name::Name::as_str),
        fact.op.as_str(),
        fact.is_refusal()
    ];
    let select =
        "SELECT id FROM audit_kind WHERE path IS ?1 AND machine IS ?2 AND op = ?3 AND denied = ?4";
    let known = conn.prepare_cached(select).unwrap().query_row(whole, |row| row.get(0));
    known.unwrap_or_else(|_| {
        let insert = "INSERT INTO audit_kind (path, machine, op, denied) VALUES (?1, ?2, ?3, ?4)";
        conn.execute(insert, whole).unwrap();
        conn.last_insert_rowid()
    })
}
