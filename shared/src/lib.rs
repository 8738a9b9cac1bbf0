//! Wire types, formats and trust rules of the vault, in reading order; no code lives here.
//!
//! Everything in this crate is pure: no I/O, no async, no clock, no environment. The one
//! source of non-determinism is the operating system's randomness, where keys and nonces are
//! made. The normative text is the book's chapter *Trust*; code cites its headings.

/// The `E_…` codes, sorted by whose fault they are.
pub mod error;

/// Sizes past which a reader stops.
pub mod limits;

/// Versions of the programs.
pub mod version;

/// Durations as Go writes them.
pub mod duration;

/// SHA-256 values.
pub mod hash;

/// Texts that a grammar has accepted.
pub mod text;

/// Names of machines, admins and actors.
pub mod name;

/// Secret paths and mounts.
pub mod path;

/// Access prefixes.
pub mod grant;

/// Points in time, as signed records carry them.
pub mod time;

/// Encryption and signing keys.
pub mod keys;

/// Zeroized bytes.
pub mod plaintext;

/// Pre-authentication encoding, signing, verifying, strict parsing.
pub mod signed;

/// What a machine says of itself.
pub mod claim;

/// Where the log ends, signed by the server.
pub mod head;

/// Sealing and opening one version of a secret.
pub mod blob;

/// The signed log: genesis, entries, state, and the one `apply`.
pub mod log;

/// Audit records and their hash chain.
pub mod audit;

/// What hosts find in their own scans.
pub mod scan;

/// Signed reports of machines.
pub mod report;

/// Six words of a line, for comparing by eye.
pub mod words;

/// Setup, machine and pin lines.
pub mod token;

/// Request and response bodies.
pub mod wire;
