//! Opening the database: pragmas and migrations, which are appended, never edited.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use host::hint::hinted;
use host::store::migrate;
use rusqlite::OpenFlags;

use super::Connection;

/// File name inside the data directory.
pub const FILE: &str = "vault.db";

/// Ends of the names of what `SQLite` keeps beside a database that was not closed.
pub const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How a database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What to name where a backup is meant.
const BACKUP: &str = "name a file that `vault-server backup` has made";

const MIGRATIONS: &[&str] =
    &[include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// Opens the database for writing and brings it up to date.
///
/// # Errors
/// If it cannot be opened, is damaged, or was written by a newer program.
pub fn open(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = rusqlite::Connection::open_with_flags(file, flags)
        .with_context(|| format!("cannot open database `{}`", file.display()))?;
    prepare(&conn).map_err(|why| unusable(file, &why))?;
    migrate(&mut conn, file, MIGRATIONS, "vault-server")?;
    Ok(conn.into())
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

/// Opens a database, or a copy of one, only to read it, whoever writes it meanwhile.
///
/// # Errors
/// If it cannot be opened, is no database, or was written by a newer program.
pub fn open_source(file: &Path) -> Result<Connection> {
    let mut conn = open_to_read(file)?;
    let known = conn.table_exists(None, "log").map_err(|why| unusable(file, &why))?;
    if !known {
        let why =
            format!("`{}` is neither a server's database nor a backup of one", file.display());
        return Err(hinted(why, BACKUP));
    }
    migrate(&mut conn, file, MIGRATIONS, "vault-server")?;
    Ok(conn.into())
}

/// As [`open_source`], of what is meant to be a backup.
///
/// # Errors
/// As there; of another kind of file, that it is no backup.
pub fn open_backup(file: &Path) -> Result<Connection> {
    if file.metadata().is_ok_and(|found| found.is_file()) {
        let mut start = Vec::new();
        let whole = std::fs::File::open(file)
            .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
        whole.with_context(|| format!("cannot read `{}`", file.display()))?;
        if start != MAGIC {
            let why = format!("`{}` is no backup of a vault", file.display());
            return Err(hinted(why, BACKUP));
        }
    }
    open_source(file)
}

/// Tells whether a database holds no vault: it is new, or was still being made when its maker was
/// stopped.
///
/// # Errors
/// If it cannot be opened, or is no database.
pub fn is_new(file: &Path) -> Result<bool> {
    let conn = open_to_read(file)?;
    let empty = || -> rusqlite::Result<bool> {
        if conn.table_exists(None, "log")? {
            return conn.query_row("SELECT NOT EXISTS (SELECT 1 FROM log)", [], |row| row.get(0));
        }
        conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
    };
    empty().map_err(|why| unusable(file, &why))
}

/// Opens what may be no database at all, only to read it. A pipe would keep the caller waiting.
fn open_to_read(file: &Path) -> Result<rusqlite::Connection> {
    let shown = file.display();
    let found = match file.metadata() {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            let way = "name another file, or another directory with --data";
            return Err(hinted(format!("`{shown}` does not exist"), way));
        }
        found => found.with_context(|| format!("cannot look at `{shown}`"))?,
    };
    if !found.is_file() {
        let way = "name the file of a database, or of a backup";
        return Err(hinted(format!("`{shown}` is no regular file"), way));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = rusqlite::Connection::open_with_flags(file, flags)
        .with_context(|| format!("cannot open database `{shown}`"))?;
    let wait = conn.busy_timeout(std::time::Duration::from_secs(5));
    let read = wait.and_then(|()| conn.execute_batch("SELECT count(*) FROM sqlite_schema"));
    read.map_err(|why| unusable(file, &why))?;
    Ok(conn)
}

/// Tells whether there is a table of this name.
pub fn has_table(conn: &Connection, name: &str) -> super::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    conn.query_row(query, [name], |row| row.get(0))
}

/// Opens a copy that is being made, and brings it up to date. What is written into it is on disk
/// once its file is synced.
///
/// # Errors
/// As [`open`].
pub fn open_copy(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = rusqlite::Connection::open_with_flags(file, flags)
        .with_context(|| format!("cannot open database `{}`", file.display()))?;
    let prepared = conn.execute_batch(
        "PRAGMA journal_mode = MEMORY;
         PRAGMA synchronous = OFF;
         PRAGMA trusted_schema = OFF;",
    );
    prepared.map_err(|why| unusable(file, &why))?;
    migrate(&mut conn, file, MIGRATIONS, "vault-server")?;
    Ok(conn.into())
}

/// Opens the database for reading beside the writer.
pub fn open_reader(file: &Path) -> super::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = rusqlite::Connection::open_with_flags(file, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -256;")?;
    Ok(conn.into())
}

/// With `synchronous = NORMAL` a power cut could take acknowledged entries back, which to every
/// client looks like a rollback attack. Of the pages 1 MiB is kept in memory.
fn prepare(conn: &rusqlite::Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(
        "PRAGMA cache_size = -1024;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 33554432;",
    )
}

/// Makes an empty database in memory.
#[cfg(test)]
pub fn in_memory() -> Connection {
    let mut conn = rusqlite::Connection::open_in_memory().unwrap();
    migrate(&mut conn, Path::new(":memory:"), MIGRATIONS, "vault-server").unwrap();
    conn.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NONE, Value};

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
            let read = |row: &crate::store::Row<'_>| Ok(format!("{:?}", row.get::<Value<'_>>(0)?));
            conn.query_row(&format!("PRAGMA {name}"), NONE, read).unwrap()
        };
        assert_eq!(pragma("synchronous"), "Int(2)");
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("foreign_keys"), "Int(1)");
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let (_dir, file) = empty();
        open(&file).unwrap().execute("PRAGMA user_version = 999", NONE).unwrap();
        let fault = open(&file).err().unwrap();
        let ours = format!("has version 999, newer than this program's {}", MIGRATIONS.len());
        assert!(fault.to_string().ends_with(&ours), "{fault}");
        assert!(
            host::hint::hint(&fault).unwrap().contains("install the vault-server that wrote it")
        );
        let conn = rusqlite::Connection::open(&file).unwrap();
        let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, 999);
    }
}
