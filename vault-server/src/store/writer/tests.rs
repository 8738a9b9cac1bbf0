//! Counted commits, a failing piece of work, a full disk, a stop with work queued.

use std::sync::Arc;

use host::store::StoreFailure;
use shared::audit::{AuditHead, Fact, Op};

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{Genesis, State, start};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;

use crate::metrics::Metrics;
use crate::store::headfile::{self, HeadFile};
use crate::store::{Connection, Fault, NONE, Store, Transaction, audit, schema};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    metrics: Arc<Metrics>,
}

fn row(op: &str) -> Fact {
    Fact::new(Op::from(op))
}

fn vault() -> State {
    let root = SignKey::generate();
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
    start(&Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap()).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(schema::FILE);
        std::fs::File::create_new(&file).unwrap();
        Self::with(dir, None)
    }

    /// A writer of a vault that has just been founded.
    fn founded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create_new(dir.path().join(schema::FILE)).unwrap();
        Self::with(dir, Some(vault()))
    }

    fn with(dir: tempfile::TempDir, state: Option<State>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let conn = schema::open(&dir.path().join(schema::FILE)).unwrap();
        let key = Arc::new(SignKey::generate());
        let tx = Transaction::new(conn, state, AuditHead::EMPTY, key).unwrap();
        let heads = HeadFile::open(&dir.path().join(headfile::FILE)).unwrap();
        let store = Store::start(tx, heads, 0, Arc::clone(&metrics)).unwrap();
        Self { dir, store, metrics }
    }

    /// Returns the sequence number of the head that was last given out, and of the one in the file.
    fn heads(&self) -> (Option<u64>, Option<u64>) {
        let file = HeadFile::open(&self.dir.path().join(headfile::FILE)).unwrap();
        (self.store.end().map(|end| end.head.seq), file.held().map(|head| head.seq))
    }

    /// Does what an entry does to the head; `told` learns of it.
    async fn entry(&self, seq: u64, told: &Arc<AtomicBool>) -> Result<u64, StoreFailure> {
        let told = Arc::clone(told);
        self.store
            .call(move |tx| {
                tx.record(row("put"))?;
                tx.after_commit(move || told.store(true, Relaxed));
                Ok(tx.sign_newest(seq, Hash::of(&[b"entry"]))?.seq)
            })
            .await
    }

    /// Opens the database as the next start would.
    fn reopen(&self) -> Connection {
        schema::open(&self.dir.path().join(schema::FILE)).unwrap()
    }

    async fn record(&self, op: &'static str) -> Result<AuditHead, StoreFailure> {
        self.store
            .call(move |tx| {
                tx.record(row(op))?;
                Ok(tx.audit())
            })
            .await
    }

    async fn limit_pages(&self, pages: u32) {
        let limit = move |tx: &mut Transaction| {
            tx.conn()
                .query_row(&format!("PRAGMA max_page_count = {pages}"), NONE, |row| {
                    row.get::<i64>(0)
                })
                .map(drop)
        };
        self.store.call(limit).await.unwrap();
    }
}

#[tokio::test]
async fn commits_are_counted_with_their_pieces() {
    let fixture = Fixture::new();
    let (one, two) = tokio::join!(fixture.record("one"), fixture.record("two"));
    assert!(one.is_ok() && two.is_ok());
    let (commits, works) = (fixture.metrics.commits.count(), fixture.metrics.commit_works.get());
    assert!((1..=2).contains(&commits) && works == 2, "{works} pieces in {commits} commits");
    assert_eq!(audit::head(&fixture.reopen()).unwrap().n, 2);
}

#[tokio::test]
async fn a_failing_piece_takes_back_only_its_own() {
    let fixture = Fixture::new();
    let before = fixture.record("one").await.unwrap();
    let failed: Result<(), _> = fixture
        .store
        .call(|tx| {
            tx.record(row("two"))?;
            tx.after_commit(|| unreachable!("it is taken back"));
            Err(Fault::Absent)
        })
        .await;
    assert!(matches!(failed, Err(StoreFailure::Failed(_))));
    let after = fixture.record("three").await.unwrap();
    assert_eq!(after.n, before.n + 1);
    let conn = fixture.reopen();
    assert_eq!(audit::head(&conn).unwrap(), after);
    let leaves = audit::leaves(&conn, fixture.dir.path(), 0, after, 10).unwrap().0.leaves;
    assert_eq!(leaves.into_iter().fold(AuditHead::EMPTY, AuditHead::then), after);
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let fixture = Fixture::new();
    let before = fixture.record("before").await.unwrap();
    fixture.limit_pages(1).await;
    let mut acknowledged = before;
    let full = loop {
        match fixture.record("filling").await {
            Ok(head) => acknowledged = head,
            Err(why) => break why,
        }
    };
    assert_eq!(full, StoreFailure::Full);
    assert_eq!(fixture.record("still full").await, Err(StoreFailure::Full));
    fixture.limit_pages(100_000).await;
    let after = fixture.record("space again").await.unwrap();
    assert_eq!(after.n, acknowledged.n + 1);
    let conn = fixture.reopen();
    let leaves = audit::leaves(&conn, fixture.dir.path(), 0, after, 1000).unwrap().0.leaves;
    assert_eq!(leaves.into_iter().fold(AuditHead::EMPTY, AuditHead::then), after);
}

#[tokio::test]
async fn what_was_queued_before_the_end_is_written() {
    let fixture = Fixture::new();
    let (first, second, ()) =
        tokio::join!(fixture.record("one"), fixture.record("two"), fixture.store.close());
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(fixture.record("late").await, Err(StoreFailure::Closed));
    assert_eq!(audit::head(&fixture.reopen()).unwrap().n, 2);
}

#[tokio::test]
async fn a_head_is_given_out_after_its_commit_and_its_file() {
    let fixture = Fixture::founded();
    assert_eq!(fixture.heads(), (Some(0), None));
    let told = Arc::default();
    assert_eq!(fixture.entry(1, &told).await, Ok(1));
    assert_eq!((fixture.heads(), told.load(Relaxed)), ((Some(1), Some(1)), true));
}

#[tokio::test]
async fn a_failed_commit_gives_out_no_head() {
    let fixture = Fixture::founded();
    fixture.limit_pages(1).await;
    let mut last = 0;
    let (full, told) = loop {
        let told = Arc::default();
        match fixture.entry(last + 1, &told).await {
            Ok(seq) => last = seq,
            Err(why) => break (why, told),
        }
    };
    assert_eq!(full, StoreFailure::Full);
    assert_eq!((fixture.heads(), told.load(Relaxed)), ((Some(last), Some(last)), false));
    fixture.limit_pages(100_000).await;
    assert_eq!(fixture.entry(last + 1, &told).await, Ok(last + 1));
    assert_eq!((fixture.heads(), told.load(Relaxed)), ((Some(last + 1), Some(last + 1)), true));
}

#[tokio::test]
async fn while_the_head_file_cannot_be_written_nothing_is_answered() {
    let fixture = Fixture::founded();
    let told = Arc::default();
    assert_eq!(fixture.entry(1, &told).await, Ok(1));
    let file = fixture.dir.path().join(headfile::FILE);
    let exchange = |full: bool| {
        let file = HeadFile::open(&file).unwrap();
        let file = if full { file.full() } else { file };
        fixture.store.writer.write(move |writer| {
            writer.file = file;
            Ok(())
        })
    };
    exchange(true).await.unwrap();
    let told: Arc<AtomicBool> = Arc::default();
    for seq in [2, 3] {
        let failed = fixture.entry(seq, &told).await;
        let Err(StoreFailure::Withheld(why)) = failed else { panic!("{failed:?}") };
        assert!(why.contains("`head`"), "{why}");
        assert!(!told.load(Relaxed));
        assert_eq!(fixture.store.end().unwrap().head.seq, 1);
    }
    // What was committed is told as soon as that is possible; what came later was never taken.
    exchange(false).await.unwrap();
    assert_eq!((fixture.heads(), told.load(Relaxed)), ((Some(2), Some(2)), true));
    assert_eq!(fixture.entry(3, &told).await, Ok(3));
    let rows = audit::head(&fixture.reopen()).unwrap().n;
    assert_eq!(rows, 3);
}
