//! Owner acts: what only the holder of the admin key or the recovery kit may do. Keys are opened
//! and bodies are signed in the process of the command line; the agent only prepares and submits.

/// The admin key and its passphrase file.
pub mod admin;
/// The check of a prepared body before it is signed.
pub mod check;
/// Genesis and entry 1 of a new vault.
pub mod founding;
/// The recovery kit.
pub mod kit;
/// Where a passphrase comes from.
pub mod passphrase;
/// Operations in plain words.
pub mod words;
