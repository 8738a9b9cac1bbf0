//! Protocol 1: routes, and bodies by noun. Everything is JSON unless said otherwise; a blob
//! travels as its own bytes, or base64 inside JSON.

/// Audit: heads, leaves, records, local reads.
pub mod audit;
/// Blobs and what is inline.
pub mod blob;
/// The newest checkpoint.
pub mod checkpoint;
/// Copied hosts.
pub mod clone;
/// Errors, as every route answers them.
pub mod error;
/// How full the server is.
pub mod health;
/// Requests of strangers to join.
pub mod join;
/// The log: the first records, pages, following, appending, healing.
pub mod log;
/// Signed reports.
pub mod report;
/// Shares of what the server gives.
pub mod shares;

/// `POST`: stores the genesis, once.
pub const GENESIS: &str = "/v1/genesis";
/// `POST`: gives a vault to a server that was made anew, once.
pub const ADOPT: &str = "/v1/adopt";
/// `POST`, by a key of no machine: asks to become one. `GET`: who asks.
pub const JOIN: &str = "/v1/join";
/// `GET ?after=N[&follow=true]`: entries as [`log::Frame`] lines. `POST`: appends one entry.
pub const LOG: &str = "/v1/log";
/// `GET`: the newest checkpoint: a [`checkpoint::Vouched`] line, then the rows of its state.
pub const CHECKPOINT: &str = "/v1/checkpoint";
/// `POST`: entries that the server has lost.
pub const HEAL: &str = "/v1/heal";
/// `PUT` and `GET`, followed by the blob's hash.
pub const BLOB: &str = "/v1/blob/";
/// `POST`: stores a report; returns some of the others' if asked to.
pub const REPORT: &str = "/v1/report";
/// `GET ?after=NUMBER`: everybody's latest report with its targets.
pub const TARGETS: &str = "/v1/targets";
/// `POST`: a batch of local reads for the audit log.
pub const ACCESS: &str = "/v1/access";
/// `GET`: audit records, filtered.
pub const AUDIT: &str = "/v1/audit";
/// `GET`: audit leaves and the chain's head.
pub const AUDIT_LEAVES: &str = "/v1/audit/leaves";
/// `GET`: which machines wanted more than their share.
pub const SHARES: &str = "/v1/shares";

/// Every route prefix, for tests that look each up in the reference.
pub const ROUTES: &[&str] = &[
    GENESIS,
    ADOPT,
    JOIN,
    LOG,
    CHECKPOINT,
    HEAL,
    BLOB,
    REPORT,
    TARGETS,
    ACCESS,
    AUDIT,
    AUDIT_LEAVES,
    SHARES,
];
