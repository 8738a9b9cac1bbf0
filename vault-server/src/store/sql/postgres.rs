//! PostgreSQL's side of it: sessions, connecting, the tables, and hearing of other servers.

mod listen;
mod migrate;
mod session;
mod target;
mod tls;

pub use listen::listen;
pub use migrate::{open, open_source};
pub use session::Postgres;
pub use target::{Target, password};
