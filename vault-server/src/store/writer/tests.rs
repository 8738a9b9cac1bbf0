//! Counted commits, a failing piece of work, a full disk, a stop with work queued.

use std::sync::Arc;

use host::store::StoreFailure;
use rusqlite::Connection;
use shared::audit::{AuditHead, Fact, Op};

use crate::metrics::Metrics;
use crate::store::{Store, Transaction, audit, schema};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    metrics: Arc<Metrics>,
}

fn row(op: &str) -> Fact {
    Fact::new(Op::from(op))
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(schema::FILE);
        std::fs::File::create_new(&file).unwrap();
        let metrics = Arc::new(Metrics::default());
        let tx = Transaction::new(schema::open(&file).unwrap(), None, AuditHead::EMPTY);
        let store = Store::start(tx, 0, Arc::clone(&metrics)).unwrap();
        Self { dir, store, metrics }
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
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
                    row.get::<_, u32>(0)
                })
                .map(|_| ())
        };
        self.store.call(limit).await.unwrap();
    }
}

#[tokio::test]
async fn commits_are_counted_with_their_pieces() {
    let fixture = Fixture::new();
    let (one, two) = tokio::join!(fixture.record("one"), fixture.record("two"));
    assert!(one.is_ok() && two.is_ok());
    let (commits, works) = (fixture.metrics.commits.get(), fixture.metrics.commit_works.get());
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
            Err(rusqlite::Error::QueryReturnedNoRows)
        })
        .await;
    assert!(matches!(failed, Err(StoreFailure::Failed(_))));
    let after = fixture.record("three").await.unwrap();
    assert_eq!(after.n, before.n + 1);
    let conn = fixture.reopen();
    assert_eq!(audit::head(&conn).unwrap(), after);
    let leaves = audit::leaves(&conn, fixture.dir.path(), 0, after, 10).unwrap().leaves;
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
    let leaves = audit::leaves(&conn, fixture.dir.path(), 0, after, 1000).unwrap().leaves;
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
