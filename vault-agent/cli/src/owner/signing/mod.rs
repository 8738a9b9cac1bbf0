//! Owner acts: what only the holder of the admin key or the recovery kit may do. Keys are opened
//! and bodies are signed in the process of the command line; the agent only prepares and submits.

pub mod act;
pub mod admin;
pub mod check;
pub mod founding;
pub mod kit;
pub mod paper;
pub mod passphrase;
pub mod posting;
pub mod sheet;
pub mod signer;
pub mod words;
