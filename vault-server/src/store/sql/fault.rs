//! What goes wrong on the way to the database.

use host::store::StoreFailure;

/// Why a statement was not executed, or what it yielded is not what this program writes.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// SQLite refused.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refused, or is not reached.
    #[cfg(feature = "postgres")]
    #[error("{text}")]
    Postgres {
        /// What it calls that.
        code: Option<postgres::error::SqlState>,
        /// The connection is of no use any more.
        lost: bool,
        /// What it says.
        text: String,
    },
    /// There is no such row.
    #[error("a row is missing that must be there")]
    Absent,
    /// A column holds what this program does not write.
    #[error("column {column} is damaged: {why}")]
    Damaged {
        /// Which one of the row.
        column: usize,
        /// What is wrong with it.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value does not go into bytes.
    #[error("not written: {0}")]
    Unwritable(Box<dyn std::error::Error + Send + Sync>),
}

/// What a statement yields.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// Tells whether a cause of some error is that the disk of the database has no room left.
    pub fn is_full_disk(cause: &(dyn std::error::Error + 'static)) -> bool {
        // Migrations are not this crate's, and fail without a `Fault`.
        cause.downcast_ref::<rusqlite::Error>().is_some_and(is_full)
            || cause.downcast_ref::<Self>().is_some_and(Self::is_full)
    }

    /// Tells whether the disk of the database has no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(why) => is_full(why),
            #[cfg(feature = "postgres")]
            Self::Postgres { code, .. } => *code == Some(postgres::error::SqlState::DISK_FULL),
            Self::Absent | Self::Damaged { .. } | Self::Unwritable(_) => false,
        }
    }
}

fn is_full(why: &rusqlite::Error) -> bool {
    why.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

impl From<Fault> for StoreFailure {
    fn from(why: Fault) -> Self {
        if why.is_full() { Self::Full } else { Self::Failed(why.to_string().into()) }
    }
}

#[cfg(feature = "postgres")]
impl From<postgres::Error> for Fault {
    fn from(why: postgres::Error) -> Self {
        use postgres::error::{Severity, SqlState};
        let Some(said) = why.as_db_error() else {
            let causes: Vec<String> =
                std::iter::successors(Some(&why as &dyn std::error::Error), |why| why.source())
                    .map(ToString::to_string)
                    .collect();
            return Self::Postgres { code: None, lost: true, text: causes.join(": ") };
        };
        let ends = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        // A server that was set back to follow another one takes no writes any more.
        let lost = ends || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION;
        let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let text = format!("{}{detail}", said.message());
        Self::Postgres { code: Some(said.code().clone()), lost, text }
    }
}

#[cfg(feature = "postgres")]
impl Fault {
    /// Says why nothing is done without the database having been asked.
    pub fn unasked(text: impl Into<String>) -> Self {
        Self::Postgres { code: None, lost: false, text: text.into() }
    }

    /// Tells whether the connection is of no use any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Postgres { lost: true, .. })
    }
}

/// Wraps the fault of a column that does not hold what this program writes.
pub fn damaged<E: std::error::Error + Send + Sync + 'static>(
    column: usize,
) -> impl FnOnce(E) -> Fault {
    move |why| Fault::Damaged { column, why: Box::new(why) }
}

/// Wraps the fault of a value that does not go into bytes.
pub fn unwritable<E: std::error::Error + Send + Sync + 'static>(why: E) -> Fault {
    Fault::Unwritable(Box::new(why))
}
