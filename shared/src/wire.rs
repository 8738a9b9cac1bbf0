//! Bodies of requests and responses between agents and the server, by version of the protocol.
//!
//! Neighbouring versions of the programs speak one protocol, so it only grows: a body may get
//! fields that can be left out, a stream new frames, the server new routes. Who does not know a
//! field or a frame passes over it, and answers 404 or 405 on a route. What must not be passed over
//! is therefore a route of its own. Signed bodies inside are strict, and change with the format of
//! the log alone.

mod list;

/// Protocol 1: frozen once released; golden bytes prove it.
pub mod v1;

#[cfg(test)]
mod tests;
