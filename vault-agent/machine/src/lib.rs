//! This host as a member of a vault, in the order of its layers; no code lives here. Used by the
//! agent and by the command line, which never know each other.

/// Where state, configuration and socket live.
pub mod paths;

/// Which programs are AI agents.
pub mod ai_tools;

/// Points in time as people name them.
pub mod when;

/// Bytes among the values of a secret.
pub mod binary;
/// Formats of target files, and the reader of `.env` files.
pub mod render;
/// Values where they do not belong.
pub mod scan;

/// `agent.toml`, typed.
pub mod config;

/// Whether the agent runs.
pub mod running;

/// What was last written into each file.
pub mod written;

/// The machine's keys and pins on disk.
pub mod identity;

/// First steps of a host that joins.
pub mod joining;

/// The connection to the server.
pub mod remote;

/// Routes and bodies of the local API.
pub mod local;

/// Who asked, as an audit record tells it.
pub mod who;

/// What is not as it should be in a status.
pub mod findings;
