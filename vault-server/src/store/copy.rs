//! A copy of the database in a file of its own: made while the server writes, with the sealed audit
//! records inside, and marked as set back, so that it is known to be old whoever brings it back.
//! When copies are made and looked through is not decided here.

use std::path::Path;

use anyhow::{Context as _, bail};
use host::files::{self, Access};
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::random;

use super::restored::{self, Cause, Restored};
use super::rows;
use super::schema;
use super::segment;
use super::{Connection, NONE, Result, params};

/// Writes what the database holds now into the empty file `new`; other writers go on meanwhile.
///
/// # Errors
/// If the database cannot be read or the file cannot be written.
pub fn write(source: &Connection, new: &Path) -> anyhow::Result<()> {
    clear_beside(new)?;
    if source.holds_archive() {
        let copy = schema::open_copy(new)?;
        make_packed(&copy)?;
        let view = source.view()?;
        return copy.atomically(|copy| rows::copy(&view, copy)).context("cannot copy the database");
    }
    let shown = new.display();
    let name = new.to_str().with_context(|| format!("the name of `{shown}` is not UTF-8"))?;
    source.execute("VACUUM INTO ?1", [name]).map(drop).context("cannot copy the database")
}

/// Removes what a killed copy has left beside its file: `SQLite` would undo the next one by it.
///
/// # Errors
/// If it cannot be removed.
pub fn clear_beside(copy: &Path) -> anyhow::Result<()> {
    for end in schema::BESIDE {
        let mut name = copy.as_os_str().to_owned();
        name.push(end);
        files::remove_trusted(Path::new(&name))?;
    }
    Ok(())
}

/// Marks a copy as set back: it takes no change before an owner resumes it, and no code does that
/// but the one of the host that it is brought back on.
pub fn mark(copy: &Connection, newest: SignedHead) -> Result<()> {
    let code = Hash::from_bytes(*random::<32>());
    restored::save(copy, Some(&Restored { cause: Cause::Caller, lacks: newest, code }))
}

/// Takes the files of the sealed audit records into a copy.
///
/// # Errors
/// If one that the copy lists is not in `folder`, or the copy cannot be written.
pub fn pack(copy: &Connection, folder: &Path) -> anyhow::Result<()> {
    make_packed(copy)?;
    copy.execute("DELETE FROM packed", NONE)?;
    for sealed in segment::with_file(copy)? {
        let name = sealed.file_name();
        let file = folder.join(&name);
        let bytes =
            std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        copy.execute("INSERT INTO packed (name, bytes) VALUES (?1, ?2)", params![&name, &bytes])?;
    }
    Ok(())
}

/// Makes the table of sealed files in a copy.
fn make_packed(copy: &Connection) -> Result<()> {
    if copy.holds_archive() {
        return Ok(());
    }
    let table =
        "CREATE TABLE IF NOT EXISTS packed (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT";
    copy.execute(table, NONE).map(drop)
}

/// Puts the files of the sealed audit records into `folder` again, and takes them out of the copy.
///
/// # Errors
/// If one is missing, or cannot be written.
pub fn unpack(copy: &Connection, folder: &Path, access: Access) -> anyhow::Result<()> {
    if !segment::is_packed(copy)? {
        return Ok(());
    }
    for sealed in segment::with_file(copy)? {
        let name = sealed.file_name();
        let Some(bytes) = segment::packed(copy, &sealed)? else {
            bail!("the copy lacks its file `{name}` of audit records");
        };
        files::create_dir_private(folder)?;
        let file = folder.join(name);
        files::replace_trusted(&file, &bytes, access)
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    copy.execute("DROP TABLE packed", NONE)?;
    copy.execute("VACUUM", NONE)?;
    Ok(())
}
