//! The agent.

/// Formats of target files, and the reader of `.env` files.
pub mod render;
