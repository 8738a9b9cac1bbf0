//! The agent.

/// The local API.
pub mod api;
