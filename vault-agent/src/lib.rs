//! The agent, in the order of its layers; no code lives here.

/// The agent's database.
pub mod state;

/// The end-to-end encrypted client: verified sync, reads, writes.
pub mod engine;

/// Keeps every target right.
pub mod daemon;

/// The local API.
pub mod api;

/// `vault-agent init` and `join`.
mod join;
/// Where this agent is.
mod place;
/// The loops of a running agent.
mod run;
/// `vault-agent status`.
mod status;
/// `vault-agent target`.
mod targets;

/// `vault-agent install`.
mod install;

/// Arguments and dispatch.
mod arguments;

pub use arguments::main;
