//! `vault admin`: who may sign for the vault. Admins come and go by the recovery kit alone.

mod add;
mod kit;
mod passphrase;
mod remove;

use anyhow::Result;
use serde_json::json;

use crate::context::Global;
use crate::owner::signing::admin::place;
use crate::print::table;
use host::hint::Exit;
use host::shown::Shown;
use machine::local::{ADMINS, AdminRow, Admins};
use machine::paths::Paths;
use shared::time::Time;

/// List, appoint and remove admins, and change the passphrase of an admin's key
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the admins, and whose key is on this host
    List,
    /// Make an admin's key on this host, or appoint the admin whose line another host has printed
    Add(add::Args),
    /// Remove an admin: from then on the vault takes nothing that they sign
    Remove(remove::Args),
    /// Change the passphrase of an admin's key on this host
    Passphrase(passphrase::Args),
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List => list(global),
        Command::Add(args) => add::run(args, global),
        Command::Remove(args) => remove::run(args, global),
        Command::Passphrase(args) => passphrase::run(args, global),
    }
}

fn list(global: &Global) -> Result<Exit> {
    let all: Admins = global.client()?.get(ADMINS, &[])?;
    let paths = global.paths()?;
    let rows: Vec<&AdminRow> = all.active().collect();
    let data = |row: &&AdminRow| {
        json!({
            "admin": row.name, "key": row.key, "since": row.since.to_string(),
            "here": place(&paths, &row.name).exists(),
        })
    };
    let data = rows.iter().map(data).collect::<Vec<_>>();
    // A file does not tell which key it holds without its passphrase.
    let is_older = |row: &&&AdminRow| {
        let gone = |old: &AdminRow| old.name == row.name && old.until.is_some();
        place(&paths, &row.name).exists() && all.admins.iter().any(gone)
    };
    for AdminRow { name, .. } in rows.iter().filter(is_older) {
        global.term.say_hinted(
            format!("`{name}` has had another key before: the file here may hold that one"),
            format!("`{name}`' new key is where it was made; the old one signs nothing"),
        );
    }
    global.show(global.format()?, || shown(&rows, &paths), &data)
}

fn shown(rows: &[&AdminRow], paths: &Paths) -> Shown {
    let cells = |row: &&AdminRow| {
        let since = Time::from_micros(row.since.as_secs().saturating_mul(1_000_000));
        let key = row.key.to_string().chars().take(8).collect();
        let here = if place(paths, &row.name).exists() { "on this host" } else { "-" };
        vec![row.name.to_string(), here.to_owned(), key, since.to_string()]
    };
    let rows = rows.iter().map(cells).collect::<Vec<_>>();
    table::plain(&["ADMIN", "KEY FILE", "KEY", "SINCE"], &rows)
}
