//! Opening the database: settings and append-only migrations. Rows live in the files beside.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use host::files;
use host::hint::hinted;
use host::store::migrate;
use rusqlite::{Connection, ErrorCode};

/// One script per version of the schema; appended to, never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];

/// How long to wait for another process that has the database open.
const BUSY: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// The lock mode comes first: any look at the file before it would share the write-ahead log with
/// others. Of the pages 128 KiB are kept in memory.
const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -128;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA journal_size_limit = 4194304;
    PRAGMA temp_store = FILE;
";

/// Lets `statements` delete without overwriting on disk. Only ciphertext is worth that: records of
/// the audit log, which come and go with each read, would be written twice.
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

/// Opens the database, made if there is none, and brings it to the newest schema.
///
/// # Errors
/// If another process keeps it open, it is newer than this program, or it cannot be read.
pub(super) fn open(path: &Path) -> Result<Connection> {
    // SQLite would make it readable by others; its side files take over this file's mode.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.with_context(|| format!("making `{}`", path.display()))?;
    files::check_private(path)?;
    let mut conn =
        Connection::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    match configure(&mut conn, path) {
        Err(fault) if is_busy(&fault) => Err(hinted(
            format!("`{}` is in use by another process", path.display()),
            "the agent is running: talk to its socket, or stop it first",
        )),
        configured => configured.map(|()| conn),
    }
}

fn configure(conn: &mut Connection, path: &Path) -> Result<()> {
    let opening = || format!("opening `{}`", path.display());
    conn.busy_timeout(BUSY).with_context(opening)?;
    conn.execute_batch(SETTINGS).with_context(opening)?;
    migrate(conn, path, MIGRATIONS, "vault-agent")?;
    // Takes the lock now: of two that only read at first, neither could write later.
    conn.execute_batch("BEGIN IMMEDIATE; COMMIT").with_context(opening)?;
    conn.execute_batch("CREATE TEMP TABLE staged (hash BLOB PRIMARY KEY, bytes BLOB NOT NULL)")
        .with_context(opening)
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
        assert!(fault.contains("has version 999, newer than this program's 4"), "{fault}");
    }

    #[test]
    fn a_database_is_open_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        drop(open(&path).unwrap());
        let _first = open(&path).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("is in use by another process"));
        assert!(!path.with_extension("db-shm").exists());
    }

    #[test]
    fn a_database_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        drop(open(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("is open to others"));
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
