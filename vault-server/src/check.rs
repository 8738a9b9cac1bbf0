//! `vault-server check`: looks through all that a server keeps, or a backup of it holds, and names
//! the first fault. It only reads, and may do so while the server runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use host::hint::{Failure, hinted};
use host::progress::Progress;
use host::term::Term;
use rusqlite::Connection;
use shared::audit::{AuditHead, Record, leaf};
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::VerifyKey;
use shared::log::State;
use shared::path::SecretPath;

use crate::datadir;
use crate::store::headfile::{self, HeadFile};
use crate::store::segment::{self, Segment};
use crate::store::{self, blob, copy, int, log, nat, restored, schema, snapshot};

/// Where the files of sealed audit records are.
pub enum Sealed {
    /// In a folder.
    In(PathBuf),
    /// In the database itself, which is a backup.
    Packed,
}

/// What was looked through, and what is not as it should be although nothing is damaged.
pub struct Looked {
    /// Entries of the log, the genesis not among them.
    pub entries: usize,
    /// Blobs.
    pub blobs: usize,
    /// Audit records, those in deleted files not among them.
    pub records: u64,
    /// Where its log ends.
    pub end: Head,
    /// The keys by which its machines know a server.
    pub listed: Vec<VerifyKey>,
    /// The first thing that is not as it should be, and the way out.
    pub flaw: Option<(String, &'static str)>,
}

impl Looked {
    /// Tells how much there is.
    pub fn amount(&self) -> String {
        let Self { entries, blobs, records, .. } = self;
        format!("{entries} entries, {blobs} blobs, {records} audit records")
    }

    fn note(&mut self, flaw: String, way: &'static str) {
        self.flaw.get_or_insert((flaw, way));
    }
}

const LACKS: &str = "`vault heal` on a machine that reads it gives it back; what no machine has is \
                     taken off with `vault kv destroy`";
const ORPHAN: &str = "it does no harm, but no program of this version leaves one behind";
const BEHIND: &str =
    "start the server: it waits for `vault heal`, or for an owner's `vault resume`";
const DAMAGED: &str = "stop the server, put a backup back with `vault-server restore`, and have the \
                       machines give back what it lacks with `vault heal`";
const DAMAGED_COPY: &str =
    "keep an older one, and make a new one with `vault-server backup` while the server is whole";

/// Looks through the data directory `of`, or the backup `of`, and says what there is.
///
/// # Errors
/// The first fault; or if something cannot be read.
pub fn check(of: &Path, is_backup: bool, term: &Term) -> Result<()> {
    let place = if is_backup { of.to_owned() } else { of.join(schema::FILE) };
    let shown = place.display().to_string();
    let conn = schema::open_source(&place)?;
    let sealed = if copy::is_packed(&conn).context("cannot read the schema")? {
        Sealed::Packed
    } else {
        let folder = place.parent().unwrap_or(Path::new(".")).join(segment::FOLDER);
        Sealed::In(folder)
    };
    let mut progress = Progress::start(term, 0);
    let looked = look(&conn, &sealed, &mut |done, all, what| progress.at(done, all, what));
    progress.end();
    let in_it = || format!("`{shown}` is damaged");
    let way = match sealed {
        Sealed::In(_) => DAMAGED,
        Sealed::Packed => DAMAGED_COPY,
    };
    let mut looked = looked.map_err(|why| match why.downcast_ref::<Failure>() {
        // What only a newer program can judge is not damaged.
        Some(_) => why.context(format!("`{shown}` cannot be looked through")),
        None => hinted(format!("{}: {why:#}", in_it()), way),
    })?;
    if !is_backup {
        look_beside(&conn, of, &mut looked)?;
    }
    if let Some((flaw, way)) = looked.flaw {
        return Err(hinted(format!("`{shown}`: {flaw}"), way));
    }
    Ok(term.line(format!("`{shown}` is whole: {}", looked.amount()))?)
}

/// Looks through a database and the sealed files that belong to it; `at` is told how far it is.
///
/// # Errors
/// The first thing that is damaged.
pub fn look(
    conn: &Connection,
    sealed: &Sealed,
    at: &mut dyn FnMut(usize, usize, &str),
) -> Result<Looked> {
    // One view for all: a server may be writing.
    let view = conn.unchecked_transaction()?;
    at(0, 1, "pages");
    let sound: String = view.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        bail!("{sound}");
    }
    let all = count(&view, "SELECT count(*) FROM log")?;
    let told = |seq| at(usize::try_from(seq).unwrap_or(all), all, "entries");
    let (state, entries) = snapshot::replay(&view, None, told)?;
    let Some(state) = state else { bail!("it holds no vault yet") };
    let mut looked = Looked {
        entries: entries.saturating_sub(1),
        blobs: 0,
        records: 0,
        end: state.place(),
        listed: state.server().to_vec(),
        flaw: None,
    };
    look_at_blobs(&view, &state, at, &mut looked)?;
    look_for_blobs(&view, &state, &mut looked)?;
    look_at_records(&view, sealed, at, &mut looked)?;
    Ok(looked)
}

fn count(conn: &Connection, sql: &str) -> rusqlite::Result<usize> {
    conn.query_row(sql, [], |row| row.get(0).map(nat)).map(|n| usize::try_from(n).unwrap_or(0))
}

/// Compares every blob with its hash, and with the version that it is of.
fn look_at_blobs(
    conn: &Connection,
    state: &State,
    at: &mut dyn FnMut(usize, usize, &str),
    looked: &mut Looked,
) -> Result<()> {
    let all = count(conn, "SELECT count(*) FROM blob")?;
    let mut query = conn.prepare(
        "SELECT hash, path, ver, replaced_at IS NOT NULL, bytes FROM blob ORDER BY rowid",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        at(looked.blobs, all, "blobs");
        looked.blobs += 1;
        let (id, path) = (store::hash(row, 0)?, row.get::<_, Option<String>>(1)?);
        let (ver, is_replaced) = (row.get::<_, Option<i64>>(2)?.map(nat), row.get::<_, bool>(3)?);
        let of = match (&path, ver) {
            (Some(path), Some(ver)) => format!(" of `{path}` version {ver}"),
            _ => String::new(),
        };
        if Hash::of(&[row.get_ref(4)?.as_blob()?]) != id {
            bail!("blob {}{of} has another content than it had", id.short());
        }
        let (Some(path), Some(ver), false) = (path, ver, is_replaced) else { continue };
        let path: SecretPath = path.parse().map_err(|why| anyhow!("blob {}: {why}", id.short()))?;
        let version = state.secret(&path).and_then(|secret| secret.version(ver));
        if version.is_none_or(|version| version.blob != id) {
            looked.note(format!("blob {}{of} is an orphan: no version has it", id.short()), ORPHAN);
        }
    }
    Ok(())
}

/// Looks for the blob of every kept version.
fn look_for_blobs(conn: &Connection, state: &State, looked: &mut Looked) -> Result<()> {
    for (path, secret) in state.secrets() {
        for (ver, version) in secret.versions().filter(|(_, version)| !version.destroyed) {
            let id = version.blob.short();
            match blob::look(conn, &version.blob)? {
                None => {
                    looked.note(format!("blob {id} of `{path}` version {ver} is missing"), LACKS);
                }
                Some(known) if known.size != version.size => {
                    bail!(
                        "blob {id} of `{path}` version {ver} has another size than its entry says"
                    );
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Folds the audit chain, through the sealed files and the records in the database.
fn look_at_records(
    conn: &Connection,
    sealed: &Sealed,
    at: &mut dyn FnMut(usize, usize, &str),
    looked: &mut Looked,
) -> Result<()> {
    let mut head = AuditHead::EMPTY;
    let segments = segment::all(conn)?;
    for (n, segment) in segments.iter().enumerate() {
        at(n, segments.len(), "sealed audit records");
        let name = segment.file_name();
        if segment.before != head {
            bail!("sealed audit records `{name}` do not follow the ones before them");
        }
        head = segment.after;
        if segment.bytes == 0 {
            continue;
        }
        let content = content(conn, sealed, segment)?;
        if segment::folded(segment.before, &content) != segment.after {
            bail!("sealed audit records `{name}` are not those that were written");
        }
        looked.records += segment.after.n - segment.before.n;
    }
    let all = count(conn, "SELECT count(*) FROM audit")?;
    let mut query = conn.prepare("SELECT n, chain, record FROM audit WHERE n > ?1 ORDER BY n")?;
    let mut rows = query.query([int(head.n)])?;
    let mut done = 0;
    while let Some(row) = rows.next()? {
        at(done, all, "audit records");
        done += 1;
        let (n, record) = (nat(row.get(0)?), row.get_ref(2)?.as_blob()?);
        head = head.then(leaf(record));
        let says = Record::parse(record).with_context(|| format!("audit record {n}"))?;
        if (head.n, says.n) != (n, n) || head.hash != store::hash(row, 1)? {
            bail!("audit record {n} does not follow the one before it");
        }
        looked.records += 1;
    }
    Ok(())
}

fn content(conn: &Connection, sealed: &Sealed, segment: &Segment) -> Result<Vec<u8>> {
    match sealed {
        Sealed::In(folder) => {
            let file = folder.join(segment.file_name());
            std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))
        }
        Sealed::Packed => {
            let name = segment.file_name();
            copy::packed(conn, segment)?
                .with_context(|| format!("sealed audit records `{name}` are missing"))
        }
    }
}

/// Compares the database with the head and the key that lie beside it.
fn look_beside(conn: &Connection, data: &Path, looked: &mut Looked) -> Result<()> {
    if let Some(head) = HeadFile::newest(&data.join(headfile::FILE))?
        && restored::load(conn)?.is_none()
        && log::hash_at(conn, head.seq)? != Some(head.head)
    {
        let flaw = format!("it lacks entry {}, which this server has given out", head.seq);
        looked.note(flaw, BEHIND);
    }
    if let Some(key) = datadir::public_key(data)?
        && !looked.listed.contains(&key)
    {
        let flaw = format!("no machine accepts the key {key} beside it: the vault lists another");
        looked.note(flaw, "put the key back, or sign this one with `vault server adopt`");
    }
    Ok(())
}
