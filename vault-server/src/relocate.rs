//! `vault-server store move`: log, blobs and audit records go to another database, and the one that
//! they leave takes nothing more. Stopped at any point before the last step, all is as it was.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use host::files;
use host::hint::hinted;
use host::progress::Progress;
use host::store::Step;
use host::term::Term;
use shared::audit::AuditHead;

use crate::check::{Looked, Sealed, damaged, look};
use crate::config::{self, Places};
use crate::datadir::DataDir;
use crate::store::{Connection, NONE, Source, Tip, audit, copy, log, rows, schema, segment};

/// Where they go.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// URL of a database of PostgreSQL, or `sqlite` for the data directory
    #[arg(long, value_name = "URL|sqlite")]
    to: String,
    /// File with the password for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// How a file of SQLite is called that was moved away.
const MOVED: &str = "moved";

/// Moves them, and says what is to be done then.
///
/// # Errors
/// If a server runs, there is something at the other place, or what arrived is not what left.
pub fn relocate(places: &Places, options: &Options, term: &Term) -> Result<()> {
    let (data, store) = places.kept()?;
    let to = match options.to.as_str() {
        "sqlite" => config::Store::default(),
        url => config::Store {
            url: Some(url.to_owned()),
            password_file: options.password_file.clone(),
        },
    };
    let (from, to) = (Source::of(&data, &store)?, Source::of(&data, &to)?);
    let dir = DataDir::open_without_database(&data)?;
    let source = from.open_source()?;
    if from.is_shared() == to.is_shared() {
        let way = "name `sqlite`, or the URL of a database of PostgreSQL: between two of those, its \
                   own tools move it";
        return Err(hinted(format!("`{from}` and `{to}` are of one kind"), way));
    }
    if from.is_shared() {
        // No other server writes until this is over, which may take its time.
        source.be_patient()?;
        source.begin()?;
    }
    let tip = tip(&source)?;
    let looked = if to.is_shared() {
        bring(&source, &dir, &to, &tip, term)?
    } else {
        fetch(&source, &dir, &tip, term)?
    };
    retire(&from, &source, &data)?;
    drop(source);
    term.say(format!("`{to}` is whole: {}", looked.amount()));
    let config = places.config.display();
    term.say(match to.is_shared() {
        true => format!("now write into [store] of `{config}`, and start the server:"),
        false => format!("now take `url` out of [store] of `{config}`, and start the server"),
    });
    if to.is_shared() {
        term.line(format!("url = {:?}", options.to))?;
        if let Some(file) = &options.password_file {
            term.line(format!("password_file = {:?}", std::path::absolute(file)?))?;
        }
    }
    Ok(())
}

/// Returns where the chains of a database end.
fn tip(conn: &Connection) -> Result<Tip> {
    let last = log::last(conn).context("cannot read the log")?;
    if last.is_none() {
        let way = "`vault-server init` makes one where [store] says";
        return Err(hinted("there is no vault to move", way));
    }
    Ok(Tip {
        log: last,
        audit: audit::head(conn).context("cannot read the audit chain")?,
        marks: 0,
    })
}

/// Brings all of a file of SQLite into a database of PostgreSQL, all or nothing.
fn bring(
    source: &Connection,
    dir: &DataDir,
    to: &Source,
    tip: &Tip,
    term: &Term,
) -> Result<Looked> {
    let target = to.open()?;
    if log::last(&target).context("cannot read the log")?.is_some() {
        let way = "name an empty database: CREATE DATABASE …";
        return Err(hinted(format!("database `{to}` holds a vault already"), way));
    }
    let began = target.begin()?;
    match fill(source, &target, dir, tip, term) {
        Ok(looked) => {
            let empty = Tip { log: None, audit: AuditHead::EMPTY, marks: 0 };
            target.commit(&began.unwrap_or(empty), tip)?;
            Ok(looked)
        }
        Err(why) => {
            let _ = target.step(Step::Rollback);
            Err(why)
        }
    }
}

fn fill(
    source: &Connection,
    target: &Connection,
    dir: &DataDir,
    tip: &Tip,
    term: &Term,
) -> Result<Looked> {
    let view = source.view().context("cannot read the database")?;
    // A setup code that was made for it is not needed any more.
    target.execute("DELETE FROM claim", NONE)?;
    rows::copy(&view, target).context("cannot copy the database")?;
    copy::pack(target, &dir.archive())?;
    same(target, tip, term)
}

/// Brings all of a database of PostgreSQL into a new file of SQLite.
fn fetch(source: &Connection, dir: &DataDir, tip: &Tip, term: &Term) -> Result<Looked> {
    let file = dir.database();
    if file.symlink_metadata().is_ok() {
        let way = "move it away, with what is beside it";
        return Err(hinted(format!("`{}` is there already", file.display()), way));
    }
    let mut looked = None;
    files::make(&file, files::Access::PRIVATE, |new| -> Result<()> {
        copy::write(source, new)?;
        let database = schema::open_copy(new)?;
        looked = Some(same(&database, tip, term)?);
        copy::unpack(&database, &dir.archive(), files::Access::PRIVATE)
    })?;
    looked.context("the copy was not looked through")
}

/// Looks through what has arrived, and compares where it ends.
fn same(arrived: &Connection, left: &Tip, term: &Term) -> Result<Looked> {
    let mut progress = Progress::start(term, 0);
    let looked =
        look(arrived, &Sealed::Packed, &mut |done, all, what| progress.at(done, all, what));
    progress.end();
    let way = "look through the database that it comes from: `vault-server check`";
    let looked = looked.map_err(|why| damaged("what was copied", &why, way))?;
    if tip(arrived)? != *left {
        let way = "stop every server that uses it, and move it again";
        return Err(hinted("the database was written while it was copied", way));
    }
    Ok(looked)
}

/// Has the database that was left take nothing more: a file gets another name, in a database of
/// PostgreSQL no server finds the place any more where to go on.
fn retire(from: &Source, source: &Connection, data: &Path) -> Result<()> {
    if from.is_shared() {
        source.execute("DELETE FROM head", NONE).context("cannot retire the database")?;
        return Ok(source.step(Step::Commit)?);
    }
    source.settle();
    for end in [""].into_iter().chain(schema::BESIDE) {
        let name = data.join(format!("{}{end}", schema::FILE));
        let moved = data.join(format!("{}.{MOVED}{end}", schema::FILE));
        match std::fs::rename(&name, &moved) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(why).with_context(|| format!("cannot rename `{}`", name.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let archive = data.join(segment::FOLDER);
    match std::fs::rename(&archive, data.join(format!("{}.{MOVED}", segment::FOLDER))) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(why).with_context(|| format!("cannot rename `{}`", archive.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
