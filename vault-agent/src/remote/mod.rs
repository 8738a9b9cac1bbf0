//! The connection to the server: one HTTP/2 connection over TLS 1.3 with pinned raw keys.
