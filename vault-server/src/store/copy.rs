//! A copy of the database in a file of its own: made while the server writes, with the sealed audit
//! records inside, and marked as set back, so that it is known to be old whoever brings it back.
//! When copies are made and looked through is not decided here.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use host::files::{self, Access};
use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::random;

use super::restored::{self, Cause, Restored};
use super::schema;
use super::segment::{self, Segment};

/// Writes what the database holds now into the empty file `new`; other writers go on meanwhile.
///
/// # Errors
/// If the database cannot be read or the file cannot be written.
pub fn write(source: &Connection, new: &Path) -> Result<()> {
    clear_beside(new)?;
    let shown = new.display();
    let name = new.to_str().with_context(|| format!("the name of `{shown}` is not UTF-8"))?;
    source.execute("VACUUM INTO ?1", [name]).context("cannot copy the database")?;
    Ok(())
}

/// Removes what a killed copy has left beside its file: `SQLite` would undo the next one by it.
///
/// # Errors
/// If it cannot be removed.
pub fn clear_beside(copy: &Path) -> Result<()> {
    for end in schema::BESIDE {
        let mut name = copy.as_os_str().to_owned();
        name.push(end);
        files::remove_trusted(Path::new(&name))?;
    }
    Ok(())
}

/// Marks a copy as set back: it takes no change before an owner resumes it, and no code does that
/// but the one of the host that it is brought back on.
pub fn mark(copy: &Connection, newest: SignedHead) -> rusqlite::Result<()> {
    let code = Hash::from_bytes(*random::<32>());
    restored::save(copy, Some(&Restored { cause: Cause::Caller, lacks: newest, code }))
}

/// Takes the files of the sealed audit records into a copy.
///
/// # Errors
/// If one that the copy lists is not in `folder`, or the copy cannot be written.
pub fn pack(copy: &Connection, folder: &Path) -> Result<()> {
    copy.execute_batch(
        "CREATE TABLE IF NOT EXISTS packed (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
         DELETE FROM packed;",
    )?;
    for sealed in segment::with_file(copy)? {
        let name = sealed.file_name();
        let file = folder.join(&name);
        let bytes =
            std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        copy.execute("INSERT INTO packed (name, bytes) VALUES (?1, ?2)", params![name, bytes])?;
    }
    Ok(())
}

/// Tells whether a database is a copy that holds the files of its sealed audit records.
pub fn is_packed(conn: &Connection) -> rusqlite::Result<bool> {
    conn.table_exists(None, "packed")
}

/// Returns what the file of sealed records holds that a copy has taken in.
pub fn packed(conn: &Connection, sealed: &Segment) -> rusqlite::Result<Option<Vec<u8>>> {
    conn.query_row("SELECT bytes FROM packed WHERE name = ?1", [sealed.file_name()], |row| {
        row.get(0)
    })
    .optional()
}

/// Puts the files of the sealed audit records into `folder` again, and takes them out of the copy.
///
/// # Errors
/// If one is missing, or cannot be written.
pub fn unpack(copy: &Connection, folder: &Path, access: Access) -> Result<()> {
    if !is_packed(copy)? {
        return Ok(());
    }
    for sealed in segment::with_file(copy)? {
        let name = sealed.file_name();
        let Some(bytes) = packed(copy, &sealed)? else {
            bail!("the copy lacks its file `{name}` of audit records");
        };
        files::create_dir_private(folder)?;
        let file = folder.join(name);
        files::replace_trusted(&file, &bytes, access)
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    copy.execute_batch("DROP TABLE packed; VACUUM;")?;
    Ok(())
}
