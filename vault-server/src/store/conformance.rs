//! What every database does alike: the contract of the tables, each point as a test that all kinds
//! pass.

use std::ops::ControlFlow;

use host::store::Step;
use shared::audit::{AuditHead, Fact, Op, Record};
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::{Identity, SignKey, Signature};
use shared::log::{Entry, Genesis, Op as Change, Put, State, apply, start};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::wire::v1::audit::AuditQuery;

use super::restored::{self, Cause, Restored};
use super::segment::Draft;
use super::*;

fn envelope(n: u8) -> Envelope {
    // Every byte there is, so that none is taken for text.
    let body = (0..=255).chain([n]).collect();
    Envelope { by: Actor::Root, body, sig: Signature::from_bytes([n; 64]) }
}

fn hash_of(n: u8) -> Hash {
    Hash::of(&[&[n]])
}

fn put(blob: Hash, path: &str) -> Put {
    let (commit, readers) = (Hash::ZERO, Hash::ZERO);
    Put { path: path.parse().unwrap(), ver: 1, blob, size: 4, commit, readers }
}

fn genesis(root: &SignKey) -> Envelope {
    let genesis = Genesis {
        v: 1,
        name: "home".parse().unwrap(),
        nonce: Hash::ZERO,
        time: Time::from_micros(1),
        root: root.verify_key(),
        recovery: Identity::generate().recipient(),
        admins: [].into(),
        server: vec![SignKey::generate().verify_key()],
        mounts: vec![],
    };
    Envelope::sign(root, Actor::Root, Purpose::Genesis, &genesis).unwrap()
}

fn founded() -> State {
    start(&genesis(&SignKey::generate())).unwrap()
}

/// Appends an entry to the log and to `state`.
fn entry(conn: &Connection, state: &mut State, key: &SignKey, by: &str, op: Change) -> Envelope {
    let (by, vault) = (by.parse::<Actor>().unwrap(), state.vault());
    let (seq, prev, time) = (state.seq() + 1, state.head(), state.time());
    let entry = Entry { seq, prev, time, by: by.clone(), ops: vec![op] };
    let envelope = Envelope::sign(key, by, Purpose::Entry(vault), &entry).unwrap();
    apply(state, &envelope).unwrap();
    log::insert(conn, seq, &state.head(), &envelope).unwrap();
    envelope
}

/// Appends `count` audit records of a few kinds; returns the chain's head.
fn records(conn: &Connection, count: u64) -> AuditHead {
    let mut head = audit::head(conn).unwrap();
    for n in 0..count {
        let machine = ["vps", "nas"][usize::try_from(n % 2).unwrap()];
        let fact = Fact {
            machine: (n % 5 > 0).then(|| machine.parse().unwrap()),
            path: (n % 3 > 0).then(|| format!("secret/{}", n % 3).parse().unwrap()),
            ..Fact::new(if n % 7 == 0 { Op::Put } else { Op::Read })
        };
        head = audit::insert(conn, head, Time::from_micros(1_000 + n), fact).unwrap();
    }
    head
}

#[test]
fn entries_come_back_in_order_and_as_they_were() {
    fresh::each(|conn| {
        assert_eq!(log::last(conn).unwrap(), None);
        for n in [0, 1, 2, 3] {
            log::insert(conn, n.into(), &hash_of(n), &envelope(n)).unwrap();
        }
        assert_eq!(log::last(conn).unwrap(), Some((3, hash_of(3))));
        assert_eq!(log::hash_at(conn, 2).unwrap(), Some(hash_of(2)));
        assert_eq!(log::hash_at(conn, 4).unwrap(), None);
        assert_eq!(log::at(conn, 1).unwrap().unwrap().envelope, envelope(1));
        let mut seen = Vec::new();
        log::range::<Fault>(conn, 1, u64::MAX, |stored| {
            seen.push((stored.seq, stored.envelope.body.last().copied()));
            Ok(if stored.seq < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .unwrap();
        assert_eq!(seen, [(1, Some(1)), (2, Some(2))]);
        assert_eq!(log::count(conn).unwrap(), 4);
    });
}

#[test]
fn a_place_in_the_log_is_taken_once() {
    fresh::each(|conn| {
        log::insert(conn, 0, &hash_of(0), &envelope(0)).unwrap();
        conn.step(Step::Begin).unwrap();
        assert!(log::insert(conn, 0, &hash_of(9), &envelope(9)).is_err());
        conn.step(Step::Rollback).unwrap();
        assert_eq!(log::hash_at(conn, 0).unwrap(), Some(hash_of(0)));
    });
}

#[test]
fn many_rows_come_in_pieces_and_all_of_them() {
    fresh::each(|conn| {
        conn.step(Step::Begin).unwrap();
        let head = records(conn, 2_500);
        conn.step(Step::Commit).unwrap();
        let mut chain = AuditHead::EMPTY;
        audit::each::<Fault>(conn, 0, |kept, record| {
            chain = chain.then(shared::audit::leaf(record));
            assert_eq!(kept, chain);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!((chain, audit::count(conn).unwrap()), (head, 2_500));
        let page = audit::leaves(conn, std::path::Path::new("/none"), 2_000, head, 100).unwrap().0;
        assert_eq!((page.from.n, page.leaves.len()), (2_000, 100));
    });
}

#[test]
fn records_are_found_by_what_they_are_about() {
    fresh::each(|conn| {
        conn.step(Step::Begin).unwrap();
        let head = records(conn, 2_100);
        conn.step(Step::Commit).unwrap();
        let found = |query: AuditQuery| {
            let (records, more) = audit::find(conn, &query, head.n, None, 5_000).unwrap();
            assert!(!more);
            let read = |record: &String| Record::parse(record.as_bytes()).unwrap().n;
            records.iter().map(read).collect::<Vec<_>>()
        };
        let all = |wanted: &dyn Fn(u64) -> bool| {
            (0..2_100).filter(|n| wanted(*n)).map(|n| n + 1).collect::<Vec<_>>()
        };
        assert_eq!(found(AuditQuery { denied: true, ..AuditQuery::default() }), [0_u64; 0]);
        let machine = Some("vps".to_owned());
        assert_eq!(
            found(AuditQuery { machine, ..AuditQuery::default() }),
            all(&|n| n % 5 > 0 && n % 2 == 0)
        );
        let path = Some("*/1".to_owned());
        assert_eq!(
            found(AuditQuery { path, op: Some(Op::Put), ..AuditQuery::default() }),
            all(&|n| n % 3 == 1 && n % 7 == 0)
        );
        let (since, until) = (Some(Time::from_micros(1_500)), Some(Time::from_micros(1_600)));
        assert_eq!(
            found(AuditQuery { since, until, ..AuditQuery::default() }),
            all(&|n| (500..600).contains(&n))
        );
    });
}

#[test]
fn sealed_records_leave_the_table_and_stay_in_the_chain() {
    fresh::each(|conn| {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(segment::FOLDER);
        let head = records(conn, 40);
        let draft = Draft::of_oldest(conn, u64::MAX, |time| time.as_micros() < 1_030).unwrap();
        let draft = draft.unwrap();
        if conn.holds_archive() {
            segment::pack(conn, &draft).unwrap();
        } else {
            draft.write(&folder).unwrap();
            segment::insert(conn, &draft.segment).unwrap();
        }
        while segment::trim(conn).unwrap() {}
        assert_eq!((audit::count(conn).unwrap(), audit::head(conn).unwrap()), (10, head));
        let (page, _) = audit::leaves(conn, &folder, 0, head, 100).unwrap();
        assert_eq!(page.leaves.into_iter().fold(page.from, AuditHead::then), draft.segment.after);
        let (inside, read) = audit::chain(conn, &folder, 7).unwrap();
        assert!(inside.is_some_and(|inside| inside.n == 7) && read > 0);
        let oldest = segment::surplus(conn, 0, 0).unwrap().unwrap();
        segment::forget(conn, &oldest).unwrap();
        assert_eq!(segment::gone(conn).unwrap().n, 30);
        assert_eq!(segment::surplus(conn, 0, 0).unwrap(), None);
        assert_eq!(audit::extent(conn).unwrap().unwrap().1, Time::from_micros(1_030));
    });
}

#[test]
fn blobs_are_parked_placed_replaced_and_dropped() {
    fresh::each(|conn| {
        log::insert(conn, 0, &hash_of(0), &envelope(0)).unwrap();
        let ids = [1, 2, 3, 4].map(|n| {
            let bytes = [n, 0, 255, n];
            let id = Hash::of(&[&bytes]);
            blob::insert(conn, &id, None, 7, Time::from_micros(n.into()), &bytes).unwrap();
            id
        });
        assert_eq!(blob::parked(conn, 7).unwrap(), 16);
        let first = put(ids[0], "secret/a");
        let readers = Some("1\n@recovery#1");
        blob::place(conn, blob::Place { seq: 0, put: &first, readers }).unwrap();
        let known = blob::look(conn, &ids[0]).unwrap().unwrap();
        assert_eq!((known.place, known.size), (Some((first.path.clone(), 1)), 4));
        assert_eq!(blob::bytes(conn, &ids[0]).unwrap().unwrap(), [1, 0, 255, 1]);
        assert_eq!(blob::placed(conn, &ids[0]).unwrap().unwrap().readers.as_deref(), readers);
        assert!(blob::placed(conn, &ids[1]).unwrap().is_none(), "it is parked");
        blob::drop_surplus_parked(conn, 7, 8).unwrap();
        let left = ids.map(|id| blob::look(conn, &id).unwrap().is_some());
        assert_eq!(left, [true, false, true, true], "the newest of what is parked, and the placed");
        blob::replace(conn, &ids[0], Time::from_micros(50)).unwrap();
        assert_eq!(blob::replaced(conn).unwrap().len(), 1);
        assert_eq!(blob::drop_replaced(conn, Time::from_micros(50)).unwrap(), 0);
        assert_eq!(blob::drop_surplus_replaced(conn, 3).unwrap(), 1);
        assert_eq!(blob::drop_first_replaced(conn, 100).unwrap(), 0);
        blob::tame(conn, Time::from_micros(3)).unwrap();
        assert_eq!(blob::drop_parked(conn, Time::from_micros(4)).unwrap(), 2);
        assert_eq!(blob::count(conn).unwrap(), 0);
    });
}

#[test]
fn the_newest_of_each_machine_is_kept() {
    fresh::each(|conn| {
        let run = hash_of(1);
        assert_eq!(access::next(conn, 1, run).unwrap(), 0);
        for next in [5, 9] {
            access::set_next(conn, 1, run, next).unwrap();
            report::keep(conn, 1, Time::from_micros(next), &envelope(1)).unwrap();
            report::keep_targets(conn, 1, &format!("{next}")).unwrap();
        }
        report::keep(conn, 2, Time::from_micros(3), &envelope(2)).unwrap();
        assert_eq!(access::next(conn, 1, run).unwrap(), 9);
        assert_eq!(access::next(conn, 1, hash_of(2)).unwrap(), 0, "another run");
        let all = report::all(conn).unwrap();
        let kept = |it: &report::Kept| (it.number, it.at.as_micros(), it.targets.clone());
        let first = (1, 9, Some("9".to_owned()));
        assert_eq!(all.iter().map(kept).collect::<Vec<_>>(), [first.clone(), (2, 3, None)]);
        let later = report::since(conn, Time::from_micros(4)).unwrap();
        assert_eq!(later.iter().map(kept).collect::<Vec<_>>(), [first]);
        report::forget(conn, 1).unwrap();
        access::forget(conn, 1).unwrap();
        assert_eq!((report::all(conn).unwrap().len(), access::next(conn, 1, run).unwrap()), (1, 0));
    });
}

#[test]
fn what_was_set_back_and_who_may_found_is_remembered() {
    fresh::each(|conn| {
        assert!(!claim::is_open(conn).unwrap());
        for n in [1, 2] {
            claim::set(conn, &hash_of(n)).unwrap();
        }
        assert!(claim::matches(conn, &hash_of(2)).unwrap());
        assert!(!claim::matches(conn, &hash_of(1)).unwrap());
        claim::use_up(conn).unwrap();
        assert!(!claim::is_open(conn).unwrap());

        let head = Head { epoch: Hash::ZERO, seq: 3, head: hash_of(3) };
        let lacks = head.sign(&SignKey::generate(), Hash::ZERO).unwrap();
        for cause in [Cause::File, Cause::Caller] {
            let restored = Restored { cause, lacks, code: hash_of(4) };
            restored::save(conn, Some(&restored)).unwrap();
            assert_eq!(restored::load(conn).unwrap(), Some(restored));
        }
        restored::save(conn, None).unwrap();
        assert_eq!(restored::load(conn).unwrap(), None);
        for n in 0..70 {
            restored::note_epoch(conn, &hash_of(n)).unwrap();
            restored::note_epoch(conn, &hash_of(n)).unwrap();
        }
        restored::settle_epochs(conn, true).unwrap();
        let given_up = restored::given_up(conn).unwrap();
        assert_eq!(given_up.len(), 64);
        assert!(!given_up.contains(&hash_of(5)) && given_up.contains(&hash_of(6)), "the oldest go");
    });
}

#[test]
fn a_snapshot_counts_only_if_the_log_bears_it_out() {
    fresh::each(|conn| {
        let state = founded();
        assert!(snapshot::fold(conn).unwrap().0.is_none());
        log::insert(conn, 0, &state.head(), &envelope(0)).unwrap();
        for _ in 0..2 {
            snapshot::save(conn, &state).unwrap();
        }
        let (folded, entries) = snapshot::fold(conn).unwrap();
        assert_eq!((folded.unwrap().head(), entries), (state.head(), 0));
        let other = "UPDATE snapshot SET head = digest";
        conn.execute(other, NONE).unwrap();
        assert!(snapshot::fold(conn).is_err(), "the log itself is none: it holds no genesis");
    });
}

#[test]
fn a_log_begins_after_the_state_that_a_checkpoint_names() {
    fresh::each(|conn| {
        let (root, eva) = (SignKey::generate(), SignKey::generate());
        let genesis = genesis(&root);
        let mut state = start(&genesis).unwrap();
        log::insert(conn, 0, &state.head(), &genesis).unwrap();
        let add = Change::AdminAdd { name: "eva".parse().unwrap(), key: eva.verify_key() };
        let added = entry(conn, &mut state, &root, "root", add);
        let older = state.summed();
        checkpoint::save(conn, &state, older).unwrap();
        for (key, by) in [(&root, "root"), (&eva, "admin:eva")] {
            let named = Change::Checkpoint(state.summed());
            entry(conn, &mut state, key, by, named);
        }
        let named = state.summed();
        checkpoint::save(conn, &state, named).unwrap();
        assert_eq!(checkpoint::newest(conn).unwrap(), Some(named));
        assert!(checkpoint::pieces(conn, older.seq, 0, 1).unwrap().is_empty(), "it was replaced");
        assert_eq!(checkpoint::dropped(conn).unwrap(), 0);
        assert!(checkpoint::start(conn).unwrap().is_none());

        checkpoint::begin_after(conn, named.seq).unwrap();
        while checkpoint::drop_some(conn).unwrap() > 0 {}
        assert_eq!((checkpoint::dropped(conn).unwrap(), log::count(conn).unwrap()), (3, 2));
        assert_eq!(checkpoint::owners(conn, named.seq).unwrap(), [added]);
        assert!(checkpoint::start(conn).unwrap().unwrap() == state);
        let pieces = checkpoint::pieces(conn, named.seq, 0, usize::MAX).unwrap();
        assert_eq!(pieces.concat(), state.rows().flatten().collect::<Vec<u8>>());
        let named = Change::Checkpoint(named);
        entry(conn, &mut state, &eva, "admin:eva", named);
        let (folded, entries) = snapshot::fold(conn).unwrap();
        assert!(folded.unwrap() == state && entries == 1);
    });
}

#[test]
fn a_server_that_slept_goes_on_where_others_let_the_log_begin() {
    let conn = schema::in_memory();
    let (root, signer) = (SignKey::generate(), std::sync::Arc::new(SignKey::generate()));
    let genesis = genesis(&root);
    let mut state = start(&genesis).unwrap();
    log::insert(&conn, 0, &state.head(), &genesis).unwrap();
    let mut tx = Transaction::new(conn, Some(state.clone()), AuditHead::EMPTY, signer).unwrap();
    for between in [1, 0, 2] {
        for _ in 0..between {
            let named = Change::Checkpoint(state.summed());
            entry(tx.conn(), &mut state, &root, "root", named);
        }
        checkpoint::save(tx.conn(), &state, state.summed()).unwrap();
        checkpoint::begin_after(tx.conn(), state.seq()).unwrap();
        let named = Change::Checkpoint(state.summed());
        entry(tx.conn(), &mut state, &root, "root", named);
        let tip = Tip { log: Some((state.seq(), state.head())), ..tx.tip() };
        tx.follow(&tip).unwrap();
        assert_eq!(tx.untold, Some(true), "who takes part may have changed");
        assert!(*tx.state().unwrap() == state);
        assert_eq!(tx.head().unwrap().seq, state.seq());
    }
}

#[test]
fn a_savepoint_takes_back_what_followed_it_alone() {
    fresh::each(|conn| {
        conn.step(Step::Begin).unwrap();
        log::insert(conn, 0, &hash_of(0), &envelope(0)).unwrap();
        conn.step(Step::Savepoint).unwrap();
        log::insert(conn, 1, &hash_of(1), &envelope(1)).unwrap();
        assert!(log::insert(conn, 1, &hash_of(2), &envelope(2)).is_err());
        conn.step(Step::RollbackTo).unwrap();
        conn.step(Step::Release).unwrap();
        assert!(conn.is_open());
        conn.step(Step::Commit).unwrap();
        assert!(!conn.is_open());
        assert_eq!(log::count(conn).unwrap(), 1);
        let failed: Result<()> = conn.atomically(|conn| {
            log::insert(conn, 1, &hash_of(1), &envelope(1))?;
            Err(Fault::Absent)
        });
        assert!(failed.is_err());
        assert_eq!(log::count(conn).unwrap(), 1);
    });
}

#[test]
fn all_rows_go_from_one_kind_to_the_other_and_back() {
    fresh::each(|conn| {
        let source = schema::in_memory();
        let copy = schema::in_memory();
        for n in [0, 1] {
            log::insert(&source, n.into(), &hash_of(n), &envelope(n)).unwrap();
        }
        let bytes = [1, 0, 255, 1];
        let id = Hash::of(&[&bytes]);
        let place = blob::Place { seq: 1, put: &put(id, "secret/a"), readers: None };
        blob::insert(&source, &id, Some(place), 1, Time::default(), &bytes).unwrap();
        blob::insert(&source, &hash_of(8), None, 1, Time::default(), &bytes).unwrap();
        report::keep(&source, 2, Time::from_micros(3), &envelope(2)).unwrap();
        restored::note_epoch(&source, &hash_of(9)).unwrap();
        let state = founded();
        checkpoint::save(&source, &state, state.summed()).unwrap();
        let head = records(&source, 1_200);
        rows::copy(&source, conn).unwrap();
        let more = audit::insert(conn, head, Time::from_micros(9), Fact::new(Op::Heal)).unwrap();
        assert_eq!(more.n, 1_201, "numbers that the database gives out go on");
        copy.execute("CREATE TABLE packed (name TEXT PRIMARY KEY, bytes BLOB)", NONE).unwrap();
        rows::copy(conn, &copy).unwrap();
        assert_eq!(audit::head(&copy).unwrap(), more);
        assert_eq!(log::at(&copy, 1).unwrap().unwrap().envelope, envelope(1));
        assert_eq!(blob::bytes(&copy, &id).unwrap().unwrap(), bytes);
        assert!(blob::look(&copy, &hash_of(8)).unwrap().unwrap().place.is_none());
        assert_eq!((blob::count(&copy).unwrap(), report::all(&copy).unwrap().len()), (2, 1));
        assert_eq!(checkpoint::newest(&copy).unwrap(), Some(state.summed()));
        let pieces = checkpoint::pieces(&copy, 0, 0, usize::MAX).unwrap();
        assert_eq!(pieces, checkpoint::pieces(&source, 0, 0, usize::MAX).unwrap());
        let denied = AuditQuery { machine: Some("nas".into()), ..AuditQuery::default() };
        let (found, _) = audit::find(&copy, &denied, more.n, None, 2_000).unwrap();
        assert_eq!(found.len(), (0..1_200).filter(|n| n % 5 > 0 && n % 2 == 1).count());
    });
}

#[cfg(feature = "postgres")]
mod shared_by_servers {
    use super::super::sql::postgres::open;
    use super::*;

    fn tip(log: Option<(u64, Hash)>, audit: AuditHead) -> Tip {
        Tip { log, audit, marks: 0 }
    }

    #[test]
    fn who_writes_next_learns_where_others_left_off() {
        fresh::postgres(|target| {
            let [one, two]: [Connection; 2] =
                [open(target).unwrap().into(), open(target).unwrap().into()];
            let empty = tip(None, AuditHead::EMPTY);
            assert_eq!(one.begin().unwrap(), Some(empty));
            log::insert(&one, 0, &hash_of(0), &envelope(0)).unwrap();
            let head = records(&one, 1);
            let after = tip(Some((0, hash_of(0))), head);
            one.commit(&empty, &after).unwrap();
            assert_eq!(two.begin().unwrap(), Some(after));
            two.step(Step::Rollback).unwrap();
            assert_eq!(one.begin().unwrap(), Some(after));
            one.step(Step::Rollback).unwrap();
        });
    }

    #[test]
    fn a_failed_statement_commits_nothing() {
        fresh::postgres(|target| {
            let conn: Connection = open(target).unwrap().into();
            let before = conn.begin().unwrap().unwrap();
            log::insert(&conn, 0, &hash_of(0), &envelope(0)).unwrap();
            assert!(log::insert(&conn, 0, &hash_of(0), &envelope(0)).is_err());
            assert!(!conn.is_open());
            assert!(conn.commit(&before, &tip(Some((0, hash_of(0))), AuditHead::EMPTY)).is_err());
            assert_eq!(conn.begin().unwrap(), Some(before));
            assert_eq!(log::count(&conn).unwrap(), 0);
        });
    }

    #[test]
    fn a_lost_connection_is_made_anew_and_a_commit_that_it_ended_is_told() {
        fresh::postgres(|target| {
            let [conn, other]: [Connection; 2] =
                [open(target).unwrap().into(), open(target).unwrap().into()];
            let cut = |conn: &Connection| {
                let pid = conn
                    .query_row("SELECT pg_backend_pid()::bigint", NONE, |row| row.get::<i64>(0))
                    .unwrap();
                other
                    .query_row(
                        "SELECT pg_terminate_backend(CAST(?1 AS integer))",
                        [pid],
                        |_| Ok(()),
                    )
                    .unwrap();
            };
            cut(&conn);
            let before = conn.begin().unwrap().unwrap();
            let head = records(&conn, 1);
            let after = tip(None, head);
            cut(&conn);
            assert!(conn.commit(&before, &after).is_err(), "nothing of it was committed");
            assert_eq!(conn.begin().unwrap(), Some(before));
            assert_eq!(audit::count(&conn).unwrap(), 0);
            conn.step(Step::Rollback).unwrap();
        });
    }
}
