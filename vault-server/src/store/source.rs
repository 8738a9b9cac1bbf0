//! Where a server's database is, as its configuration says, and opening it.

use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "postgres")]
use std::sync::Arc;

use anyhow::Result;
#[cfg(not(feature = "postgres"))]
use host::hint::hinted;
use tokio::sync::mpsc;

#[cfg(feature = "postgres")]
use super::sql::postgres::{self, Postgres, Target};
use super::{Connection, schema};
use crate::config;

/// A database.
#[derive(Clone)]
pub enum Source {
    /// A file of SQLite in the data directory.
    File(PathBuf),
    /// On a server of PostgreSQL, for several servers of ours.
    #[cfg(feature = "postgres")]
    Postgres(Arc<Target>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            #[cfg(feature = "postgres")]
            Self::Postgres(target) => target.fmt(f),
        }
    }
}

impl Source {
    /// Returns the one of the server whose data directory is `data`.
    ///
    /// # Errors
    /// If the URL is refused, or the password cannot be read.
    pub fn of(data: &Path, store: &config::Store) -> Result<Self> {
        match &store.url {
            None => Ok(Self::File(data.join(schema::FILE))),
            #[cfg(feature = "postgres")]
            Some(url) => {
                let password =
                    store.password_file.as_deref().map(postgres::password).transpose()?;
                let password = password.as_ref().map(|password| password.as_str());
                Ok(Self::Postgres(Arc::new(Target::parse(url, password)?)))
            }
            #[cfg(not(feature = "postgres"))]
            Some(_) => {
                let why = "this vault-server was built without PostgreSQL";
                Err(hinted(
                    why,
                    "build it with the feature `postgres`, or take `url` out of [store]",
                ))
            }
        }
    }

    /// Opens it for writing, and brings it up to date.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or was written by a newer program.
    pub fn open(&self) -> Result<Connection> {
        match self {
            Self::File(file) => schema::open(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(target) => Ok(postgres::open(target)?.into()),
        }
    }

    /// Opens it only to read, whoever writes it meanwhile.
    ///
    /// # Errors
    /// If it cannot be opened, is no database of a vault, or was written by a newer program.
    pub fn open_source(&self) -> Result<Connection> {
        match self {
            Self::File(file) => schema::open_source(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(target) => Ok(postgres::open_source(target)?.into()),
        }
    }

    /// Opens it for reading beside the writer.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_reader(&self) -> super::Result<Connection> {
        match self {
            Self::File(file) => schema::open_reader(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(target) => Postgres::connect(target).map(Into::into),
        }
    }

    /// Listens to what other servers write, until what is returned is dropped; `wake` gets the
    /// numbers of the last entry and the last audit record whenever they have changed.
    ///
    /// # Errors
    /// If no thread can be started for it.
    pub fn listen(&self, wake: mpsc::Sender<(u64, u64)>) -> Result<Option<Box<dyn Send>>> {
        match self {
            // Nobody else writes it.
            Self::File(_) => {
                drop(wake);
                Ok(None)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(target) => {
                Ok(Some(Box::new(postgres::listen(Arc::clone(target), wake)?)))
            }
        }
    }

    /// Tells whether other servers may write it too.
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::File(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }
}
