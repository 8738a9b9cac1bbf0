//! Opening the database: settings and append-only migrations. Rows live in the files beside.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, ErrorCode};

/// One script per version of the schema; appended to, never edited.
const MIGRATIONS: &[&str] =
    &[include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// How long to wait for another process that has the database open.
const BUSY: Duration = Duration::from_secs(5);

const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA journal_size_limit = 4194304;
    PRAGMA temp_store = FILE;
";

/// What is kept in memory of the database: 128 KiB of pages.
const CACHE: &str = "PRAGMA cache_size = -128";

/// Writes a little over 1000 pages, the length at which SQLite begins the write-ahead log anew. The cache is small meanwhile:
/// pages go to the disk at once, and no memory is left behind.
const ROOM: &str = "
    PRAGMA cache_size = -32;
    CREATE TABLE room (bytes);
    INSERT INTO room VALUES (zeroblob(4080000));
";

/// Lets `statements` delete without overwriting on disk. Only ciphertext is worth that: records of the audit log, which come
/// and go with each read, would be written twice.
pub(super) fn unwiped<T>(
    conn: &Connection,
    statements: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let set = |value| conn.pragma_update_and_check(None, "secure_delete", value, |_| Ok(()));
    set("OFF")?;
    let done = statements();
    set("ON")?;
    done
}

/// Bytes that have to be free for [`make_room`]: nobody is to miss what it takes.
const PLENTY: u64 = 64 << 20;

/// Fills the write-ahead log with what is to be rolled back. It has its room on disk from then on, and a commit writes over
/// it, where one that makes the file grow has to wait for the file system's own log too. Does nothing on a disk that is
/// almost full.
///
/// # Errors
/// If the database fails; that there is no room costs time alone.
pub(super) fn make_room(conn: &Connection) -> rusqlite::Result<()> {
    let disk = conn.path().and_then(|path| rustix::fs::statvfs(path).ok());
    if disk.is_none_or(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < PLENTY) {
        return Ok(());
    }
    let made = conn.execute_batch(ROOM);
    conn.execute_batch(CACHE).and(made)
}

/// Opens the database, made if there is none, and brings it to the newest schema.
///
/// # Errors
/// If another process keeps it open, it is newer than this program, or it cannot be read.
pub(super) fn open(path: &Path) -> Result<Connection> {
    // SQLite would make it readable by others; its side files take over this file's mode.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.with_context(|| format!("making `{}`", path.display()))?;
    machine::identity::check_private(path)?;
    let opening = || format!("opening `{}`", path.display());
    let mut conn = Connection::open(path).with_context(opening)?;
    conn.busy_timeout(BUSY).with_context(opening)?;
    match configure(&mut conn, path) {
        Err(fault) if is_busy(&fault) => bail!(
            "`{}` is in use by another process\nhint: the agent is running: talk to its socket, \
             or stop it first",
            path.display()
        ),
        configured => configured.with_context(opening)?,
    }
    Ok(conn)
}

fn configure(conn: &mut Connection, path: &Path) -> Result<()> {
    conn.execute_batch(SETTINGS)?;
    let transaction = conn.transaction()?;
    let version: usize = transaction
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?
        .try_into()?;
    if version > MIGRATIONS.len() {
        bail!(
            "`{}` has schema {version}, newer than this program's {}\nhint: install the newer \
             vault-agent again",
            path.display(),
            MIGRATIONS.len()
        );
    }
    for script in &MIGRATIONS[version..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", u32::try_from(MIGRATIONS.len())?)?;
    transaction.commit()?;
    conn.execute_batch("CREATE TEMP TABLE staged (hash BLOB PRIMARY KEY, bytes BLOB NOT NULL)")?;
    Ok(conn.execute_batch(CACHE)?)
}

fn is_busy(fault: &anyhow::Error) -> bool {
    let code = fault.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let conn = open(&path).unwrap();
        conn.pragma_update(None, "user_version", 999).unwrap();
        drop(conn);
        let fault = format!("{:#}", open(&path).unwrap_err());
        assert!(fault.contains("has schema 999, newer than this program's 2"), "{fault}");
    }

    #[test]
    fn a_database_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        drop(open(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("can be read by others"));
    }

    #[test]
    fn commits_reach_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir.path().join("agent.db")).unwrap();
        let pragma = |name: &str| -> String {
            let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            conn.query_row(&query, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((pragma("journal_mode"), pragma("synchronous")), ("wal".into(), "2".into()));
    }

    #[test]
    fn the_write_ahead_log_has_its_room_and_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir.path().join("agent.db")).unwrap();
        // As the database thread does: beside the jobs of others, in one transaction.
        let others = "CREATE TABLE others (bytes); INSERT INTO others VALUES (zeroblob(90000))";
        conn.execute_batch(&format!("BEGIN; {others}; SAVEPOINT job")).unwrap();
        make_room(&conn).unwrap();
        conn.execute_batch("ROLLBACK TO job; RELEASE job; INSERT INTO others VALUES (1); COMMIT")
            .unwrap();
        let size = || dir.path().join("agent.db-wal").metadata().unwrap().len();
        let laid_out = size();
        assert!(laid_out > 1000 * 4096, "{laid_out}");
        conn.execute_batch("CREATE TABLE filled (bytes)").unwrap();
        for _ in 0..300 {
            conn.execute("INSERT INTO filled VALUES (zeroblob(30000))", []).unwrap();
        }
        assert_eq!(size(), laid_out);
        assert!(conn.prepare("SELECT * FROM room").is_err());
        let look = |query| conn.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(look("SELECT CAST(sum(length(bytes)) AS TEXT) FROM others"), "90001");
        assert_eq!(look("PRAGMA integrity_check"), "ok");
    }

    #[test]
    fn what_is_dropped_is_overwritten_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        let conn = open(&path).unwrap();
        conn.execute_batch("CREATE TABLE kept (bytes); CREATE TABLE wiped (bytes)").unwrap();
        let insert = |table: &str, text: &str| {
            let bytes = text.repeat(500).into_bytes();
            conn.execute(&format!("INSERT INTO {table} VALUES (?1)"), [bytes]).unwrap();
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        };
        insert("wiped", "one that is dropped");
        insert("kept", "one that is freed");
        conn.execute("DELETE FROM wiped", []).unwrap();
        unwiped(&conn, || conn.execute("DELETE FROM kept", [])).unwrap();
        insert("wiped", "another");
        conn.execute("DELETE FROM wiped", []).unwrap();
        drop(conn);
        let file = std::fs::read(&path).unwrap();
        let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds("one that is dropped") && !holds("another"));
        assert!(holds("one that is freed"), "the switch does nothing");
    }
}
