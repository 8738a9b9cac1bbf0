//! Owner acts: what only the holder of the admin key or the recovery kit may do. Keys are opened
//! and bodies are signed in the process of the command line; the agent only prepares and submits.

/// Showing, signing and submitting an act.
pub mod act;
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
/// Handing genesis and entry 1 to the server.
pub mod posting;
/// Operations in plain words.
pub mod words;
