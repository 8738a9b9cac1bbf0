//! Group commit, failing jobs, failing commits, the end, and migrations.

use super::*;

/// A table of numbers, and their sum in memory.
struct Numbers {
    conn: Connection,
    sum: i64,
    /// How many jobs each commit had.
    commits: Arc<Mutex<Vec<usize>>>,
    /// The connection of the next transaction, and of the one that is open, if it is not `conn`.
    next: Option<Connection>,
    other: Option<Connection>,
}

impl Database for Numbers {
    type Mark = i64;
    type Error = rusqlite::Error;

    fn step(&mut self, next: Step) -> Result<(), StoreFailure> {
        step(self.open(), next)
    }

    fn is_open(&self) -> bool {
        !self.open().is_autocommit()
    }

    fn begin(&mut self) {
        self.other = self.next.take();
    }

    fn mark(&self) -> i64 {
        self.sum
    }

    fn back_to(&mut self, mark: i64) {
        self.sum = mark;
    }

    fn committed(&mut self, jobs: usize, _took: Duration) {
        self.commits.lock().unwrap().push(jobs);
    }
}

impl Numbers {
    fn open(&self) -> &Connection {
        self.other.as_ref().unwrap_or(&self.conn)
    }

    fn add(&mut self, n: i64) -> rusqlite::Result<i64> {
        self.conn.execute("INSERT INTO number VALUES (?1)", [n])?;
        self.sum += n;
        Ok(self.sum)
    }

    /// Returns the sum as the database and as memory has it.
    fn sums(&mut self) -> rusqlite::Result<(i64, i64)> {
        let sum = "SELECT coalesce(sum(n), 0) FROM number";
        Ok((self.conn.query_row(sum, [], |row| row.get(0))?, self.sum))
    }
}

const TABLES: &str = "
    PRAGMA foreign_keys = ON;
    CREATE TABLE number (n INTEGER PRIMARY KEY);
    CREATE TABLE child (n INTEGER REFERENCES number (n) DEFERRABLE INITIALLY DEFERRED);
";

fn start() -> (Arc<Store<Numbers>>, Arc<Mutex<Vec<usize>>>) {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(TABLES).unwrap();
    let commits = Arc::default();
    let store = Store::start(Numbers {
        conn,
        sum: 0,
        commits: Arc::clone(&commits),
        next: None,
        other: None,
    })
    .unwrap();
    (Arc::new(store), commits)
}

/// Holds the thread up, queues `jobs`, lets go, and waits until all of them have ended.
async fn together(store: &Store<Numbers>, jobs: Vec<Job<Numbers>>) {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (run, runs) = oneshot::channel();
    let held: Job<Numbers> = Box::new(move |_| {
        run.send(()).unwrap();
        gate.recv().unwrap();
        Outcome::Keep(Box::new(|_| {}))
    });
    store.submit(held).await.unwrap();
    runs.await.unwrap();
    for job in jobs {
        store.submit(job).await.unwrap();
    }
    go.send(()).unwrap();
    // The first is answered while its batch runs, so the second is in a later one.
    for _ in 0..2 {
        store.read(|_| Ok(())).await.unwrap();
    }
}

/// Adds `n`, and notes in `told` how that ended.
fn adding(n: i64, told: &Arc<Mutex<Vec<(i64, bool)>>>) -> Job<Numbers> {
    let told = Arc::clone(told);
    Box::new(move |numbers| {
        numbers.unwrap().add(n).unwrap();
        Outcome::Keep(Box::new(move |kept| told.lock().unwrap().push((n, kept.is_ok()))))
    })
}

#[tokio::test]
async fn jobs_that_wait_share_one_commit() {
    let (store, commits) = start();
    let told = Arc::default();
    together(&store, (1..=64).map(|n| adding(n, &told)).collect()).await;
    store.close().await;
    let commits = commits.lock().unwrap();
    assert!(commits.starts_with(&[1, 64]) || commits.starts_with(&[1, 65]), "{commits:?}");
    assert_eq!(*told.lock().unwrap(), (1..=64).map(|n| (n, true)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failing_job_takes_back_only_its_own() {
    let (store, _) = start();
    store.write(|numbers| numbers.add(1)).await.unwrap();
    let twice = store.write(|numbers| {
        numbers.add(2)?;
        numbers.add(2)
    });
    assert!(matches!(twice.await, Err(StoreFailure::Failed(_))));
    assert_eq!(store.write(|numbers| numbers.add(4)).await, Ok(5));
    assert_eq!(store.read(Numbers::sums).await, Ok((5, 5)));
}

#[tokio::test]
async fn a_failed_commit_is_told_last_first_and_memory_goes_back() {
    let (store, _) = start();
    store.write(|numbers| numbers.add(1)).await.unwrap();
    let told = Arc::default();
    let orphan: Job<Numbers> = Box::new(|numbers| {
        numbers.unwrap().conn.execute("INSERT INTO child VALUES (99)", []).unwrap();
        Outcome::Keep(Box::new(|kept| assert!(kept.is_err())))
    });
    together(&store, vec![adding(2, &told), orphan, adding(4, &told)]).await;
    assert_eq!(*told.lock().unwrap(), [(4, false), (2, false)]);
    assert_eq!(store.read(Numbers::sums).await, Ok((1, 1)));
    assert_eq!(store.write(|numbers| numbers.add(2)).await, Ok(3));
}

#[tokio::test]
async fn jobs_after_a_transaction_that_sqlite_gave_up_get_another() {
    let (store, _) = start();
    store.write(|numbers| numbers.add(1)).await.unwrap();
    let told = Arc::default();
    let gives_up: Job<Numbers> = Box::new(|numbers| {
        let done = numbers.unwrap().conn.execute("INSERT OR ROLLBACK INTO number VALUES (1)", []);
        Outcome::Undo(done.unwrap_err().into())
    });
    together(&store, vec![adding(2, &told), gives_up, adding(4, &told)]).await;
    assert_eq!(*told.lock().unwrap(), [(2, false), (4, true)]);
    assert_eq!(store.read(Numbers::sums).await, Ok((5, 5)));
}

#[tokio::test]
async fn a_first_job_is_taken_back_or_given_up_without_those_after_it() {
    let (store, _) = start();
    store.write(|numbers| numbers.add(1)).await.unwrap();
    let told = Arc::default();
    let fails: Job<Numbers> = Box::new(|numbers| {
        numbers.unwrap().add(8).unwrap();
        Outcome::Undo(StoreFailure::Failed("on demand".into()))
    });
    together(&store, vec![fails, adding(2, &told), adding(4, &told)]).await;
    assert_eq!(store.read(Numbers::sums).await, Ok((7, 7)));
    let unnoticed: Job<Numbers> = Box::new(|numbers| {
        let numbers = numbers.unwrap();
        numbers.add(16).unwrap();
        let lost = numbers.conn.execute("INSERT OR ROLLBACK INTO number VALUES (1)", []);
        assert!(lost.is_err());
        Outcome::Keep(Box::new(|kept| assert!(kept.is_err())))
    });
    together(&store, vec![unnoticed, adding(32, &told)]).await;
    assert_eq!(*told.lock().unwrap(), [(2, true), (4, true), (32, true)]);
    assert_eq!(store.read(Numbers::sums).await, Ok((39, 39)));
}

#[tokio::test]
async fn a_job_whose_transaction_cannot_begin_is_told_and_does_nothing() {
    let (store, commits) = start();
    store.write(|numbers| numbers.add(1)).await.unwrap();
    // On a connection that is inside a transaction, none begins.
    let stuck = store.write(|numbers| {
        let next = Connection::open_in_memory()?;
        next.execute_batch("BEGIN")?;
        numbers.next = Some(next);
        Ok(())
    });
    stuck.await.unwrap();
    let refused = store.write(|numbers| numbers.add(2)).await.unwrap_err();
    assert!(refused.to_string().contains("within a transaction"), "{refused}");
    assert_eq!(store.write(|numbers| numbers.add(4)).await, Ok(5));
    assert_eq!(store.read(Numbers::sums).await, Ok((5, 5)));
    store.close().await;
    assert_eq!(*commits.lock().unwrap(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn everything_queued_before_the_end_is_written() {
    let (store, commits) = start();
    let (first, second, ()) = tokio::join!(
        store.write(|numbers| numbers.add(1)),
        store.write(|numbers| numbers.add(2)),
        store.close()
    );
    assert_eq!((first, second), (Ok(1), Ok(3)));
    assert_eq!(store.write(|numbers| numbers.add(4)).await, Err(StoreFailure::Closed));
    assert_eq!(commits.lock().unwrap().iter().sum::<usize>(), 2);

    let (store, commits) = start();
    let told = Arc::default();
    store.try_submit(adding(1, &told)).unwrap();
    drop(store);
    assert_eq!((told.lock().unwrap().len(), commits.lock().unwrap().len()), (1, 1));
}

#[test]
fn migrations_run_once_and_all_or_none() {
    let mut conn = Connection::open_in_memory().unwrap();
    let mut migrated = |migrations: &[&str]| {
        migrate(&mut conn, Path::new("/d/v.db"), migrations, "vault-agent")
            .map(|()| conn.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)))
    };
    let first = "CREATE TABLE a (n); INSERT INTO a VALUES (1)";
    let more = "INSERT INTO a VALUES (2)";
    assert_eq!(migrated(&[first]).unwrap(), Ok(1));
    assert_eq!(migrated(&[first]).unwrap(), Ok(1));
    let broken = migrated(&[first, more, "INSERT INTO none VALUES (3)"]).unwrap_err();
    assert_eq!(broken.to_string(), "cannot bring database `/d/v.db` to version 3");
    assert_eq!(migrated(&[first, more]).unwrap(), Ok(2));
    let older = migrated(&[first]).unwrap_err();
    assert_eq!(older.to_string(), "database `/d/v.db` has version 2, newer than this program's 1");
    let way = crate::hint::hint(&older).unwrap();
    assert_eq!(way, "install the vault-agent that wrote it, or a newer one");
}
