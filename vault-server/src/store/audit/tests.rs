//! Pages of records against a look at every record, whatever is asked for; and what is forgotten
//! with sealed records.

use host::store::Step;
use shared::audit::{Op, Outcome};
use shared::error::Code;
use shared::text::like;

use shared::path::SecretPath;

use super::*;
use crate::store::{NONE, schema};

const PATHS: [&str; 4] = ["secret/a", "secret/b", "secret/ab", "sys/audit"];
const OPS: [Op; 4] = [Op::Deliver, Op::LocalRead, Op::Put, Op::Follow];

/// A database that holds so many records, one per number drawn; the clock is set back now and then.
fn filled(drawn: &[u64]) -> (tempfile::TempDir, Connection, Vec<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(schema::FILE);
    std::fs::File::create(&file).unwrap();
    let conn = schema::open(&file).unwrap();
    let mut head = AuditHead::EMPTY;
    conn.step(Step::Begin).unwrap();
    for (i, drawn) in drawn.iter().enumerate() {
        let pick = |place: u32, of: u64| usize::try_from((drawn >> (8 * place)) % of).unwrap();
        let machine = [None, Some("vps"), Some("nas")][pick(0, 3)];
        let fact = Fact {
            machine: machine.map(|name| name.parse().unwrap()),
            path: PATHS.get(pick(1, 5)).map(|path| path.parse().unwrap()),
            result: if pick(2, 4) == 0 { Outcome::Refused(Code::Denied) } else { Outcome::Ok },
            ..Fact::new(OPS[pick(3, 4)].clone())
        };
        let back = if pick(4, 200) == 0 { 1_500 } else { 0 };
        let now = Time::from_micros(10_000 + i as u64 - back);
        head = insert(&conn, head, now, fact).unwrap();
    }
    conn.step(Step::Commit).unwrap();
    let read = |row: &Row<'_>| row.get(0).map(|record| Record::parse(record).unwrap());
    let records = conn.all("SELECT record FROM audit ORDER BY n", NONE, read).unwrap();
    (dir, conn, records)
}

fn is_wanted(query: &AuditQuery, without: Option<u64>, record: &Record) -> bool {
    let AuditQuery { after, before, since, until, machine, path, op, denied, .. } = query;
    let Record { n, time, fact, .. } = record;
    let text = |path: &SecretPath| path.as_str().to_owned();
    *n > *after
        && before.is_none_or(|before| *n < before)
        && without != Some(*n)
        && since.is_none_or(|since| *time >= since)
        && until.is_none_or(|until| *time < until)
        && machine.as_ref().is_none_or(|m| fact.machine.as_ref().is_some_and(|f| f.as_str() == m))
        && path.as_ref().is_none_or(|p| fact.path.as_ref().is_some_and(|f| like(p, &text(f))))
        && op.as_ref().is_none_or(|op| op.meant().iter().any(|op| op == fact.op.as_str()))
        && (!denied || fact.is_refusal())
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(40))]

    /// Whatever is asked for, in whatever order, the pages hold what looking at every record finds.
    #[test]
    fn pages_hold_what_a_look_at_every_record_finds(
        drawn in proptest::collection::vec(proptest::num::u64::ANY, 0..4_000),
        after in 0_u64..4_500,
        before in proptest::option::of(0_u64..4_500),
        since in proptest::option::of(8_000_u64..15_000),
        until in proptest::option::of(8_000_u64..15_000),
        machine in proptest::option::of(proptest::sample::select(vec!["vps", "nas", "none"])),
        path in proptest::option::of(proptest::sample::select(vec!["secret/a", "*a*", "*[ab]", "x"])),
        op in proptest::option::of(proptest::sample::select(vec!["read", "put", "write", "follow"])),
        denied: bool,
        newest: bool,
        limit in 1_usize..3_000,
    ) {
        let (_dir, conn, records) = filled(&drawn);
        let time = |micros: Option<u64>| micros.map(Time::from_micros);
        let query = AuditQuery {
            after, before, newest, denied,
            since: time(since), until: time(until),
            machine: machine.map(str::to_owned), path: path.map(str::to_owned),
            op: op.map(Op::from),
            ..AuditQuery::default()
        };
        let (upto, without) = (records.len() as u64, Some(7));
        let (found, more) = find(&conn, &query, upto, without, limit).unwrap();
        let mut wanted: Vec<u64> = records
            .iter().filter(|record| is_wanted(&query, without, record)).map(|it| it.n).collect();
        let all = wanted.len();
        if newest {
            wanted.drain(..all.saturating_sub(limit));
        } else {
            wanted.truncate(limit);
        }
        let numbers: Vec<u64> =
            found.iter().map(|record| Record::parse(record.as_bytes()).unwrap().n).collect();
        proptest::prop_assert_eq!(numbers, wanted);
        proptest::prop_assert_eq!(more, all > limit);
    }
}

#[test]
fn what_no_record_has_any_more_is_forgotten() {
    let (_dir, conn, records) = filled(&(0..2_500).map(|n| n << 8).collect::<Vec<_>>());
    let count = |what: &str| conn.query_row(what, NONE, |row| row.get::<i64>(0)).unwrap();
    let tables = ["audit_kind", "audit_block", "audit_block_kind", "audit"];
    let left = || tables.map(|table| count(&format!("SELECT count(*) FROM {table}")));
    assert!(left().iter().all(|rows| *rows > 0));
    let hash = |n: u64| head_at(&conn, n).unwrap().unwrap();
    let last = records.len() as u64;
    let (before, after, until) = (AuditHead::EMPTY, hash(last), records.last().unwrap().time);
    segment::insert(&conn, &segment::Segment { before, after, until, bytes: 1 }).unwrap();
    while segment::trim(&conn).unwrap() {}
    assert_eq!(left(), [0; 4]);
}
