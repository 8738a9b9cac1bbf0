//! Opening the database: pragmas, migrations, refusal of a newer one. Migrations are appended,
//! never edited; `user_version` counts those that ran.

use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};

use host::hint::hinted;

/// File name inside the data directory.
pub const FILE: &str = "vault.db";

/// What is kept in memory of the database: 1 MiB of pages.
const CACHE: &str = "PRAGMA cache_size = -1024";

/// How much of the write-ahead log is laid out at the start: some 1000 pages, as much as is written between two quiet moments.
/// The cache is small meanwhile: pages go to the disk at once, and no memory is left behind.
const ROOM: &str = "
    PRAGMA cache_size = -32;
    BEGIN;
    CREATE TABLE room (bytes);
    INSERT INTO room VALUES (zeroblob(4080000));
    ROLLBACK;
";

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// Opens the database for writing and brings it up to date.
///
/// # Errors
/// If it cannot be opened, is damaged, or was written by a newer program.
pub fn open(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(file, flags)
        .with_context(|| format!("cannot open database `{}`", file.display()))?;
    prepare(&conn).map_err(|why| unusable(file, &why))?;
    migrate(&mut conn, file)?;
    make_room(&conn, file).map_err(|why| unusable(file, &why))?;
    Ok(conn)
}

/// Says in one sentence why a database cannot be used; SQLite's own chain says it twice.
fn unusable(file: &Path, why: &rusqlite::Error) -> anyhow::Error {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase, ReadOnly};
    let message = format!("cannot use database `{}`: {why}", file.display());
    match why.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => {
            hinted(message, "put a copy of its files from before back; agents keep their own")
        }
        Some(ReadOnly | CannotOpen) => {
            hinted(message, "the server must be able to write there, the directory included")
        }
        Some(_) | None => anyhow::Error::msg(message),
    }
}

/// Opens the database for reading beside the writer.
///
/// # Errors
/// If it cannot be opened.
pub fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -256;")?;
    Ok(conn)
}

/// With `synchronous = NORMAL` a power cut could take acknowledged entries back, which to every
/// client looks like a rollback attack.
fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 33554432;",
    )
}

/// Bytes that have to be free for [`make_room`]: nobody is to miss what it takes.
const PLENTY: u64 = 64 << 20;

/// Has the write-ahead log take its room on disk: a commit then writes over it, where one that makes the file grow has to
/// wait for the file system's own log too. That there is no room costs time alone.
fn make_room(conn: &Connection, file: &Path) -> rusqlite::Result<()> {
    let disk = rustix::fs::statvfs(file).ok();
    if disk.is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= PLENTY)
        && let Err(error) = conn.execute_batch(ROOM)
    {
        tracing::debug!(%error, "no room laid out for the write-ahead log");
        let _ = conn.execute_batch("ROLLBACK");
    }
    conn.execute_batch(CACHE)
}

fn migrate(conn: &mut Connection, file: &Path) -> Result<()> {
    let shown = file.display();
    let found: usize = conn
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .with_context(|| format!("cannot read database `{shown}`"))?
        .try_into()
        .context("version of the database")?;
    if found > MIGRATIONS.len() {
        let why = format!(
            "database `{shown}` has version {found}, newer than this program's {}",
            MIGRATIONS.len()
        );
        return Err(hinted(why, "install the vault-server that wrote it, or a newer one"));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let version = index + 1;
        let run = |conn: &mut Connection| -> rusqlite::Result<()> {
            let tx = conn.transaction()?;
            tx.execute_batch(migration)?;
            tx.pragma_update(None, "user_version", u32::try_from(version).unwrap_or(u32::MAX))?;
            tx.commit()
        };
        run(conn)
            .with_context(|| format!("cannot bring database `{shown}` to version {version}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::File::create_new(&file).unwrap();
        (dir, file)
    }

    #[test]
    fn a_commit_is_on_disk_before_it_is_answered() {
        let (_dir, file) = empty();
        let conn = open(&file).unwrap();
        let pragma = |name: &str| -> String {
            let value: rusqlite::types::Value =
                conn.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            format!("{value:?}")
        };
        assert_eq!(pragma("synchronous"), "Integer(2)");
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("foreign_keys"), "Integer(1)");
    }

    #[test]
    fn the_write_ahead_log_has_its_room_and_does_not_grow() {
        let (dir, file) = empty();
        let conn = open(&file).unwrap();
        let size = || dir.path().join(format!("{FILE}-wal")).metadata().unwrap().len();
        let laid_out = size();
        assert!(laid_out > 950 * 4096, "{laid_out}");
        conn.execute_batch("CREATE TABLE filled (bytes)").unwrap();
        for _ in 0..100 {
            conn.execute("INSERT INTO filled VALUES (zeroblob(30000))", []).unwrap();
        }
        assert_eq!(size(), laid_out);
        assert!(conn.prepare("SELECT * FROM room").is_err());
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let (_dir, file) = empty();
        open(&file).unwrap().pragma_update(None, "user_version", 999).unwrap();
        let fault = open(&file).unwrap_err();
        assert!(fault.to_string().ends_with("has version 999, newer than this program's 1"));
        assert!(
            host::hint::hint(&fault).unwrap().contains("install the vault-server that wrote it")
        );
        let conn = Connection::open(&file).unwrap();
        let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, 999);
    }

    #[test]
    fn migrations_run_once() {
        let (_dir, file) = empty();
        drop(open(&file).unwrap());
        drop(open(&file).unwrap());
    }
}
