//! Bodies of requests and responses between agents and the server, by version of the protocol.

mod list;

/// Protocol 1: frozen once released; golden bytes prove it.
pub mod v1;
