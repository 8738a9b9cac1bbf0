//! Making the tables and bringing them up to date. Migrations are appended, never edited.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use host::hint::hinted;
use host::store::Step;

use super::super::fault::Fault;
use super::session::Postgres;
use super::target::Target;

const MIGRATIONS: &[&str] = &[include_str!("../../migrations/postgres/0001.sql")];

/// Servers that start at once take turns.
const TURN: &str = "SELECT pg_advisory_xact_lock(hashtext('vault-server'))";

/// Connects, and brings the tables up to date.
///
/// # Errors
/// If it cannot connect, may not make tables, or a newer program has made them.
pub fn open(target: &Arc<Target>) -> Result<Postgres> {
    let conn = Postgres::connect(target).map_err(|why| target.explain(&why))?;
    migrate(&conn, target)?;
    Ok(conn)
}

/// Connects, only to read, to a database whose tables are up to date.
///
/// # Errors
/// If it cannot connect, there is no vault, or another program has made the tables.
pub fn open_source(target: &Arc<Target>) -> Result<Postgres> {
    let conn = Postgres::connect(target).map_err(|why| target.explain(&why))?;
    let (found, newest) = (version(&conn).map_err(|why| target.explain(&why))?, MIGRATIONS.len());
    if usize::try_from(found).is_ok_and(|found| found == newest) {
        return Ok(conn);
    }
    let way = match found {
        0 => "`vault-server init` makes it, `vault-server store move` brings one here",
        _ => "use the vault-server that runs on it",
    };
    let why = format!("database `{target}` has version {found}, and this program's is {newest}");
    Err(hinted(why, way))
}

/// Brings the tables to this program's version, all migrations or none.
///
/// # Errors
/// If a newer program has made them, or the database refuses.
fn migrate(conn: &Postgres, target: &Target) -> Result<()> {
    let refused = |why: Fault| target.explain(&why);
    conn.step(Step::Begin).map_err(refused)?;
    conn.batch(TURN).map_err(refused)?;
    let newest = i64::try_from(MIGRATIONS.len()).context("so many migrations")?;
    let found = version(conn).map_err(refused)?;
    if found > newest {
        let why =
            format!("database `{target}` has version {found}, newer than this program's {newest}");
        return Err(hinted(why, "install the vault-server that wrote it, or a newer one"));
    }
    let mut due = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    let made = due.try_for_each(|migration| conn.batch(migration));
    let noted = made.and_then(|()| {
        if found == newest {
            return Ok(());
        }
        conn.batch(&format!("UPDATE vault_schema SET version = {newest}"))
    });
    noted.and_then(|()| conn.step(Step::Commit)).map_err(|why| {
        let why = target.explain(&why);
        match host::hint::hint(&why) {
            Some(way) => hinted(format!("cannot make the tables: {why}"), way.to_owned()),
            None => why.context("cannot make the tables"),
        }
    })
}

/// Returns how many migrations have run; 0 in an empty database.
fn version(conn: &Postgres) -> Result<i64, Fault> {
    let there = conn
        .first("SELECT to_regclass('vault_schema') IS NOT NULL", &[], |row| row.get::<bool>(0))?;
    if there != Some(true) {
        return Ok(0);
    }
    conn.first("SELECT version FROM vault_schema", &[], |row| row.get(0))?.ok_or(Fault::Absent)
}
