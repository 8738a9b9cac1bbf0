//! `vault-server restore`: makes a server of a backup. It takes no change before an owner has
//! resumed it: the backup is marked so. Stopped at any point, the same command goes on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use host::files;
use host::hint::hinted;
use host::progress::Progress;
use host::term::Term;
use shared::keys::VerifyKey;
use shared::token::{Line as _, SetupLine};

use crate::check::{Looked, Sealed, damaged, look};
use crate::config::Places;
use crate::datadir::{DataDir, Owner};
use crate::init::{self, Wanted};
use crate::store::{Connection, copy, restored, schema};

/// What is to be restored, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Copy of the server's key; else the one in the data directory is used, or a new one made
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
}

/// Restores a server, and says what is to be done then.
///
/// # Errors
/// If there is a database already, the backup is none or is damaged, or something cannot be
/// written.
pub fn restore(places: &Places, options: &Options, term: &Term) -> Result<()> {
    let Options { file, key, wanted } = options;
    let shown = file.display();
    let source = schema::open_backup(file)?;
    if restored::load(&source).with_context(|| format!("cannot read `{shown}`"))?.is_none() {
        let why = format!("`{shown}` is no backup, but a database as a server uses it");
        let way = "name a file that `vault-server backup` has made, or put this one into its place \
                   as the chapter on backups says";
        return Err(hinted(why, way));
    }
    let mut config = init::configuration(places, wanted)?;
    if config.store.url.is_some() {
        let config = places.config.display();
        let why =
            format!("a backup becomes a file of SQLite, and `{config}` names another database");
        let way = "take `url` out of [store] there; `vault-server store move` takes the restored \
                   server on to a database";
        return Err(hinted(why, way));
    }
    // Agents look for it there; who has another port forwarded says `--listen`.
    let port = wanted.addresses.first().and_then(|it| it.rsplit_once(':')?.1.parse().ok());
    if let Some(port) = port.filter(|_| wanted.listen.is_none() && !places.config.exists()) {
        config.listen.set_port(port);
    }
    let (dir, owner) = DataDir::receive(&config.data)?;
    let server = match key {
        Some(key) => dir.take_key(key)?,
        None => dir.key_or_new()?,
    };
    let done = is_done(&source, &dir)?;
    let there = files_of_database(&dir);
    if !done && !there.is_empty() {
        let (data, there) = (config.data.display(), there.join("`, `"));
        let why = format!("`{data}` holds a database already: `{there}`");
        let way = "stop its server and move all of these files away together, or name another \
                   --data directory";
        return Err(hinted(why, way));
    }
    init::write_configuration(&places.config, &config)?;
    owner.give_all(&config.data)?;
    let looked = if done { look_again(&dir, term)? } else { put(&source, &dir, &owner, term)? };
    say((places, config.listen), &config.data, &looked, server.as_ref(), term);
    if let Some(server) = server.filter(|server| !looked.state.server().contains(server)) {
        let addresses = init::addresses(&config);
        let claim = shared::hash::Hash::from_bytes(*shared::keys::random::<32>());
        let line = SetupLine { addresses, server, claim }.to_line();
        term.line(line.context("cannot write the setup line")?)?;
    }
    Ok(())
}

/// Returns what there is of a database, by name. SQLite would play a log that another one has left
/// into the restored one.
fn files_of_database(dir: &DataDir) -> Vec<String> {
    let ends = [""].into_iter().chain(schema::BESIDE);
    let names = ends.map(|end| format!("{}{end}", schema::FILE));
    let is_there = |name: &String| dir.database().with_file_name(name).symlink_metadata().is_ok();
    names.filter(is_there).collect()
}

/// Tells whether this very backup has been put into its place, and no server has run since: that
/// makes a code of its own.
fn is_done(source: &Connection, dir: &DataDir) -> Result<bool> {
    if dir.database().symlink_metadata().is_err() {
        return Ok(false);
    }
    let there = schema::open_source(&dir.database())?;
    let code = |conn: &Connection| {
        let found = restored::load(conn).context("cannot read the database")?;
        Ok::<_, anyhow::Error>(found.map(|found| found.code))
    };
    Ok(code(&there)? == code(source)?)
}

fn look_again(dir: &DataDir, term: &Term) -> Result<Looked> {
    let there = schema::open_source(&dir.database())?;
    looked(&there, dir, term)
}

fn looked(conn: &Connection, dir: &DataDir, term: &Term) -> Result<Looked> {
    let mut progress = Progress::start(term, 0);
    let sealed = Sealed::In(dir.archive());
    let looked = look(conn, &sealed, &mut |done, all, what| progress.at(done, all, what));
    progress.end();
    let way = "take another one, an older if need be";
    looked.map_err(|why| damaged("the backup", &why, way))
}

/// Puts the backup into its place, the database last.
fn put(source: &Connection, dir: &DataDir, owner: &Owner, term: &Term) -> Result<Looked> {
    let mut found = None;
    files::make(&dir.database(), owner.access(), |new| -> Result<()> {
        copy::write(source, new)?;
        let database = schema::open_copy(new)?;
        copy::unpack(&database, &dir.archive(), owner.access())?;
        owner.give_all(&dir.archive())?;
        found = Some(looked(&database, dir, term)?);
        Ok(())
    })?;
    found.context("the backup was not looked through")
}

fn say(
    (places, listen): (&Places, SocketAddr),
    data: &Path,
    looked: &Looked,
    server: Option<&VerifyKey>,
    term: &Term,
) {
    term.say(format!("restored a server into `{}`: {}", data.display(), looked.amount()));
    term.say(format!("configuration: `{}`; it listens on {listen}", places.config.display()));
    if let Some((flaw, _)) = &looked.flaw {
        term.say(format!("it is as it was: {flaw}"));
    }
    let (end, run) = (looked.state.seq(), places.run_command());
    match server {
        Some(key) if !looked.state.server().contains(key) => {
            term.say(format!(
                "its log ends at entry {end}. Its key is new: no machine accepts it yet. Start it \
                 with `{run}`, then run `vault server adopt` on the machine with the admin key, which \
                 asks for this line:"
            ));
        }
        Some(_) | None => {
            term.say(format!(
                "its log ends at entry {end}. Start it with `{run}`, run `vault heal` on every \
                 machine, then `vault resume` on the one with the admin key; with the kit and \
                 without that key, `vault resume --kit -` on any of them"
            ));
        }
    }
}
