//! The way to the database: a statement in the SQL that every database here knows, its parameters,
//! the rows that come back, and what went wrong. Which statements there are, the tables' files say.

mod fault;
#[cfg(feature = "postgres")]
pub mod postgres;
mod row;
mod sqlite;
mod tip;
mod value;

use std::ops::{ControlFlow, Deref};

use host::store::{Step, StoreFailure};

pub use fault::{Fault, Result, damaged, unwritable};
pub use row::{Row, hash};
pub use tip::Tip;
pub use value::{Value, int, nat};

/// The parameters of a statement, numbered from 1: `?1` stands for the first.
pub trait Params {
    /// Hands them over.
    fn with<R>(self, run: impl FnOnce(&[Value<'_>]) -> R) -> R;
}

impl<'v, T: Into<Value<'v>>, const N: usize> Params for [T; N] {
    fn with<R>(self, run: impl FnOnce(&[Value<'_>]) -> R) -> R {
        run(&self.map(Into::into))
    }
}

/// No parameters.
pub const NONE: [Value<'static>; 0] = [];

/// Lists parameters of several types.
macro_rules! params {
    ($($value:expr),* $(,)?) => { [$($crate::store::Value::from($value)),*] };
}
pub(crate) use params;

/// A connection to a database.
pub enum Connection {
    /// To a file of SQLite.
    Sqlite(rusqlite::Connection),
    /// To a server of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Postgres>),
}

#[cfg(feature = "postgres")]
impl From<postgres::Postgres> for Connection {
    fn from(conn: postgres::Postgres) -> Self {
        Self::Postgres(Box::new(conn))
    }
}

impl From<rusqlite::Connection> for Connection {
    fn from(conn: rusqlite::Connection) -> Self {
        Self::Sqlite(conn)
    }
}

impl Connection {
    /// Executes a statement; returns how many rows it wrote.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        params.with(|params| match self {
            Self::Sqlite(conn) => sqlite::execute(conn, sql, params),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.execute(sql, params),
        })
    }

    /// As [`Connection::execute`], with any number of parameters.
    ///
    /// # Errors
    /// As there.
    pub fn execute_all(&self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        match self {
            Self::Sqlite(conn) => sqlite::execute(conn, sql, params),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.execute(sql, params),
        }
    }

    /// Lets a transaction of this connection stay open for as long as it takes.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn be_patient(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.batch("SET idle_in_transaction_session_timeout = 0"),
        }
    }

    /// Has the numbers that the database gives out go on after those that it was given.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn number_on(&self) -> Result<()> {
        match self {
            // It looks for the highest one by itself.
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.number_on(),
        }
    }

    /// Hands the rows that a statement yields to `visit`, one at a time until that breaks. Nothing
    /// else is asked of the connection meanwhile.
    ///
    /// # Errors
    /// If the database refuses, or `visit` fails.
    pub fn each<E: From<Fault>>(
        &self,
        sql: &str,
        params: impl Params,
        mut visit: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        params.with(|params| match self {
            Self::Sqlite(conn) => sqlite::each(conn, sql, params, &mut visit),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.each(sql, params, &mut visit),
        })
    }

    /// Returns the rows that a statement yields, of which there are few.
    ///
    /// # Errors
    /// If the database refuses, or `read` fails.
    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        params.with(|params| match self {
            Self::Sqlite(conn) => {
                let mut all = Vec::new();
                sqlite::each(conn, sql, params, &mut |row| {
                    all.push(read(row)?);
                    Ok::<_, Fault>(ControlFlow::Continue(()))
                })?;
                Ok(all)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.all(sql, params, &mut read),
        })
    }

    /// Returns the row that a statement yields, if it does.
    ///
    /// # Errors
    /// If the database refuses, or `read` fails.
    pub fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        params.with(|params| match self {
            Self::Sqlite(conn) => sqlite::first(conn, sql, params, read),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.first(sql, params, read),
        })
    }

    /// Returns the row that a statement yields.
    ///
    /// # Errors
    /// If there is none, the database refuses, or `read` fails.
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.first(sql, params, read)?.ok_or(Fault::Absent)
    }

    /// Begins a transaction that writes; returns where the servers that write beside this one have
    /// left off, if there may be others. None of them writes before it has ended.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn begin(&self) -> Result<Option<Tip>, StoreFailure> {
        match self {
            Self::Sqlite(conn) => host::store::step(conn, Step::Begin).map(|()| None),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => Ok(Some(conn.lock()?)),
        }
    }

    /// Commits what [`Connection::begin`] began where the chains ended at `before`: now at `after`.
    ///
    /// # Errors
    /// If nothing is committed, or nobody can say so.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "nobody else writes a file of SQLite")
    )]
    pub fn commit(&self, before: &Tip, after: &Tip) -> Result<(), StoreFailure> {
        match self {
            Self::Sqlite(conn) => host::store::step(conn, Step::Commit),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.commit(before, after),
        }
    }

    /// Takes another step of a transaction, or one of a database that nobody else writes.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn step(&self, step: Step) -> Result<(), StoreFailure> {
        match self {
            Self::Sqlite(conn) => host::store::step(conn, step),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => Ok(conn.step(step)?),
        }
    }

    /// Tells whether a transaction is open that can be committed.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Sqlite(conn) => !conn.is_autocommit(),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.is_open(),
        }
    }

    /// Keeps one view of the database for all that is read, unless a transaction is open: others
    /// may write meanwhile.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn view(&self) -> Result<View<'_>> {
        let open = match self {
            Self::Sqlite(conn) => Open::Sqlite(conn.unchecked_transaction()?),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) if conn.is_open() => Open::Before,
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => {
                conn.view()?;
                Open::Postgres(conn)
            }
        };
        Ok(View { conn: self, _open: open })
    }

    /// Writes all that `work` does, or nothing, in a transaction of its own; the chains stay as
    /// they are.
    ///
    /// # Errors
    /// If `work` fails, or the database refuses.
    pub fn atomically<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(conn) => {
                let open = conn.unchecked_transaction()?;
                let done = work(self)?;
                open.commit()?;
                Ok(done)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => {
                conn.lock()?;
                match work(self) {
                    Ok(done) => conn.step(Step::Commit).map(|()| done),
                    Err(why) => {
                        conn.step(Step::Rollback)?;
                        Err(why)
                    }
                }
            }
        }
    }

    /// Looks for damage of which the rows themselves do not tell; returns the first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn damage(&self) -> Result<Option<String>> {
        match self {
            Self::Sqlite(conn) => sqlite::damage(conn),
            // Its pages are its server's to look after.
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(None),
        }
    }

    /// Tells whether sealed audit records are kept in the database itself, not in files beside it.
    pub fn holds_archive(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// Tells whether the connection can still be used.
    pub fn answers(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.batch("SELECT 1").is_ok(),
        }
    }

    /// Returns the bytes of a database that is no file of this host.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn size(&self) -> Result<Option<u64>> {
        match self {
            Self::Sqlite(_) => Ok(None),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.size().map(Some),
        }
    }

    /// Does what may wait until nobody else does.
    pub fn tidy(&self) {
        match self {
            Self::Sqlite(conn) => sqlite::checkpoint(conn, "PRAGMA wal_checkpoint(PASSIVE)"),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {}
        }
    }

    /// Leaves the database ready for a quick start.
    pub fn settle(&self) {
        match self {
            Self::Sqlite(conn) => sqlite::checkpoint(conn, "PRAGMA wal_checkpoint(TRUNCATE)"),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {}
        }
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// If something is left that cannot be written.
    pub fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(conn) => conn.close().map_err(|(_, why)| why.into()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(()),
        }
    }
}

/// One view of a database, until it is dropped.
pub struct View<'c> {
    conn: &'c Connection,
    _open: Open<'c>,
}

/// What is open for a view.
enum Open<'c> {
    /// A transaction of SQLite, undone when dropped.
    Sqlite(#[expect(dead_code, reason = "its drop matters")] rusqlite::Transaction<'c>),
    /// A transaction of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c postgres::Postgres),
    /// A transaction that is not the view's.
    #[cfg(feature = "postgres")]
    Before,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            // A connection on which that fails is used no more.
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => drop(conn.step(Step::Rollback)),
            #[cfg(feature = "postgres")]
            Self::Before => {}
        }
    }
}

impl Deref for View<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}
