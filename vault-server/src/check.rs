//! `vault-server check`: looks through all that a server keeps, or a backup of it holds, and names
//! the first fault. It only reads, and may do so while the server runs.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use host::hint::{Failure, hinted};
use host::progress::Progress;
use host::term::Term;
use shared::audit::{AuditHead, Record, leaf};
use shared::hash::Hash;
use shared::keys::VerifyKey;
use shared::log::State;
use shared::path::SecretPath;
use shared::report::Seen;

use crate::datadir;
use crate::store::blob::Stored;
use crate::store::headfile::{self, HeadFile};
use crate::store::report::{self, Kept};
use crate::store::segment::{self, Segment};
use crate::store::{
    Connection, Source, audit, blob, checkpoint, claim, log, restored, schema, snapshot,
};

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
    /// The last entry that a checkpoint has taken the place of, 0 if none has.
    pub dropped: u64,
    /// Blobs.
    pub blobs: usize,
    /// Audit records, those in deleted files not among them.
    pub records: u64,
    /// What its log folds to.
    pub state: State,
    /// The first thing that is not as it should be, and the way out.
    pub flaw: Option<(String, &'static str)>,
}

impl Looked {
    /// Tells how much there is.
    pub fn amount(&self) -> String {
        let Self { entries, dropped, blobs, records, .. } = self;
        let before = match dropped {
            0 => String::new(),
            last => format!(" after the checkpoint at entry {last}"),
        };
        format!("{entries} entries{before}, {blobs} blobs, {records} audit records")
    }

    fn note(&mut self, flaw: String, way: &'static str) {
        self.flaw.get_or_insert((flaw, way));
    }
}

const LACKS: &str = "`vault heal` on the machines that read it gives it back if one has it; what \
                     none has is taken off with `vault kv destroy`";
const ORPHAN: &str = "it does no harm, but no program of this version leaves one behind";
const BEHIND: &str =
    "start the server: it waits for `vault heal`, or for an owner's `vault resume`";
const HEADLESS: &str = "start the server with the machines running: it writes the file again, and they \
                        tell if it lacks something";
const STRANGE: &str = "put back the one that belongs to this database, or move it away: the server \
                       writes another";
const DAMAGED: &str = "stop the server, put a backup back with `vault-server restore`, and have the \
                       machines give back what it lacks with `vault heal`";
const DAMAGED_COPY: &str =
    "keep an older one, and make a new one with `vault-server backup` while the server is whole";

/// Looks through a backup and says what there is.
///
/// # Errors
/// The first fault; or if something cannot be read.
pub fn check_backup(file: &Path, term: &Term) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    check(&schema::open_backup(file)?, &file.display().to_string(), folder, None, term)
}

/// Looks through the database and the data directory of a server, and says what there is.
///
/// # Errors
/// The first fault; or if something cannot be read.
pub fn check_own(source: &Source, data: &Path, term: &Term) -> Result<()> {
    check(&source.open_source()?, &source.to_string(), data, Some(data), term)
}

/// Looks through what is called `shown`, whose sealed files may be in a folder beside it; `data` is
/// the data directory of the server that uses it.
fn check(
    conn: &Connection,
    shown: &str,
    beside: &Path,
    data: Option<&Path>,
    term: &Term,
) -> Result<()> {
    let sealed = match segment::is_packed(conn).context("cannot read the schema")? {
        true => Sealed::Packed,
        false => Sealed::In(beside.join(segment::FOLDER)),
    };
    let mut progress = Progress::start(term, 0);
    let looked = look(conn, &sealed, &mut |done, all, what| progress.at(done, all, what));
    progress.end();
    let way = match (sealed, data) {
        (Sealed::Packed, None) => DAMAGED_COPY,
        (Sealed::In(_), _) | (Sealed::Packed, Some(_)) => DAMAGED,
    };
    let mut looked = looked.map_err(|why| damaged(&format!("`{shown}`"), &why, way))?;
    if let Some(data) = data {
        look_beside(conn, data, &mut looked)?;
    }
    if let Some((flaw, way)) = looked.flaw {
        return Err(hinted(format!("`{shown}`: {flaw}"), way));
    }
    Ok(term.line(format!("`{shown}` is whole: {}", looked.amount()))?)
}

/// Says that something is damaged, and the way out; a fault that knows another way is none.
pub fn damaged(what: &str, why: &anyhow::Error, way: &str) -> anyhow::Error {
    match why.downcast_ref::<Failure>() {
        Some(Failure { text, hint: Some(hint), .. }) => hinted(format!("{what}: {text}"), hint),
        Some(_) | None => hinted(format!("{what} is damaged: {why:#}"), way),
    }
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
    let view = conn.view()?;
    at(0, 1, "pages");
    if let Some(damage) = view.damage()? {
        bail!("{damage}");
    }
    let all = count(log::count(&view)?);
    let told = |seq| at(usize::try_from(seq).unwrap_or(all), all, "entries");
    let begin = checkpoint::start(&view)?;
    let (dropped, is_whole) = (begin.as_ref().map_or(0, State::seq), begin.is_none());
    let (state, entries) = snapshot::replay(&view, begin, told)?;
    let Some(state) = state else {
        if claim::is_open(&view)? {
            let way = "`vault init` with the setup line makes the vault";
            return Err(hinted("it holds no vault yet", way));
        }
        bail!("its log is empty");
    };
    let entries = entries.saturating_sub(usize::from(is_whole));
    let mut looked = Looked { entries, dropped, blobs: 0, records: 0, state, flaw: None };
    look_at_blobs(&view, at, &mut looked)?;
    look_for_blobs(&view, &mut looked)?;
    let end = look_at_records(&view, sealed, at, &mut looked)?;
    look_at_reports(&view, end)?;
    Ok(looked)
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(0)
}

/// Compares every blob with its hash, and with the version that it is of.
fn look_at_blobs(
    conn: &Connection,
    at: &mut dyn FnMut(usize, usize, &str),
    looked: &mut Looked,
) -> Result<()> {
    let all = count(blob::count(conn)?);
    blob::each(conn, |Stored { id, path, ver, is_replaced, bytes }| {
        at(looked.blobs, all, "blobs");
        looked.blobs += 1;
        let of = match (&path, ver) {
            (Some(path), Some(ver)) => format!(" of `{path}` version {ver}"),
            _ => String::new(),
        };
        if Hash::of(&[bytes]) != id {
            bail!("blob {}{of} has another content than it had", id.short());
        }
        let (Some(path), Some(ver), false) = (path, ver, is_replaced) else {
            return Ok(ControlFlow::Continue(()));
        };
        let path: SecretPath = path.parse().map_err(|why| anyhow!("blob {}: {why}", id.short()))?;
        let version = looked.state.secret(&path).and_then(|secret| secret.version(ver));
        if version.is_none_or(|version| version.blob != id) {
            looked.note(format!("blob {}{of} is an orphan: no version has it", id.short()), ORPHAN);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Looks for the blob of every kept version.
fn look_for_blobs(conn: &Connection, looked: &mut Looked) -> Result<()> {
    let mut lacking = None;
    for (path, secret) in looked.state.secrets() {
        for (ver, version) in secret.versions().filter(|(_, version)| !version.destroyed) {
            let of = format!("blob {} of `{path}` version {ver}", version.blob.short());
            match blob::look(conn, &version.blob)? {
                None => {
                    lacking.get_or_insert(of);
                }
                Some(known) if known.size != version.size => {
                    bail!("{of} has another size than its entry says");
                }
                Some(_) => {}
            }
        }
    }
    if let Some(of) = lacking {
        looked.note(format!("{of} is missing"), LACKS);
    }
    Ok(())
}

/// Folds the audit chain, through the sealed files and the records in the database; returns where
/// it ends.
fn look_at_records(
    conn: &Connection,
    sealed: &Sealed,
    at: &mut dyn FnMut(usize, usize, &str),
    looked: &mut Looked,
) -> Result<AuditHead> {
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
    let all = count(audit::count(conn)?);
    let mut done = 0;
    audit::each(conn, head.n, |AuditHead { n, hash }, record| {
        at(done, all, "audit records");
        done += 1;
        if n > head.n + 1 {
            bail!("audit record {} is missing", head.n + 1);
        }
        head = head.then(leaf(record));
        let says = Record::parse(record).with_context(|| format!("audit record {n}"))?;
        if (head.n, says.n) != (n, n) || head.hash != hash {
            bail!("audit record {n} does not follow the one before it");
        }
        looked.records += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(head)
}

/// Compares the audit chain, which ends at `end`, with what machines have confirmed of it: only
/// they know of records that its end lacks.
fn look_at_reports(conn: &Connection, end: AuditHead) -> Result<()> {
    for Kept { seen: signed, .. } in report::all(conn)? {
        let seen: Seen =
            signed.parse().with_context(|| format!("the report of `{}`", signed.by))?;
        let (by, AuditHead { n, .. }) = (&signed.by, seen.audit());
        if n > end.n {
            bail!("audit record {} is missing: `{by}` has seen record {n}", end.n + 1);
        }
        if audit::head_at(conn, n)?.is_some_and(|known| known != seen.audit()) {
            bail!("audit record {n} is another than the one that `{by}` has seen");
        }
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
            segment::packed(conn, segment)?
                .with_context(|| format!("sealed audit records `{name}` are missing"))
        }
    }
}

/// Compares the database with the head and the key that lie beside it.
fn look_beside(conn: &Connection, data: &Path, looked: &mut Looked) -> Result<()> {
    let (own, is_restored) = (datadir::public_key(data)?, restored::load(conn)?.is_some());
    let file = data.join(headfile::FILE);
    let flaw = flaw_of_head(conn, &file, own.as_ref(), &looked.state)?;
    if let Some((flaw, way)) = flaw.filter(|_| !is_restored) {
        // What the database lacks explains what else there is.
        let other = looked.flaw.take().filter(|_| way != BEHIND);
        looked.flaw = other.or(Some((flaw, way)));
    }
    let listed = looked.state.server();
    if let Some(key) = own.filter(|key| !listed.contains(key)) {
        let flaw = format!("no machine accepts the key {key} beside it: the vault lists another");
        looked.note(flaw, "put the key back, or sign this one with `vault server adopt`");
    }
    Ok(())
}

/// Returns what is wrong with the file of the newest signed head, and the way out.
fn flaw_of_head(
    conn: &Connection,
    file: &Path,
    own: Option<&VerifyKey>,
    state: &State,
) -> Result<Option<(String, &'static str)>> {
    let shown = file.display();
    let Some(head) = HeadFile::newest(file)? else {
        let what = if file.exists() { "holds no whole head" } else { "is missing" };
        return Ok(Some((format!("the file `{shown}` {what}"), HEADLESS)));
    };
    let keys: Vec<VerifyKey> = state.server().iter().chain(own).cloned().collect();
    if head.verify(&keys, state.vault()).is_err() {
        let flaw = format!("the head in the file `{shown}` is of another vault, or another server");
        return Ok(Some((flaw, STRANGE)));
    }
    let is_behind = restored::lacks(conn, state, &head)?;
    let lacks = format!("it lacks entry {}, which this server has given out", head.seq);
    Ok(is_behind.then_some((lacks, BEHIND)))
}
