//! The version that the programs go by: named here alone, and asked for everywhere else.

use std::sync::OnceLock;

/// Another version than that of the sources.
static OTHER: OnceLock<String> = OnceLock::new();

/// Returns the version of this program, e.g. `0.1.0`.
pub fn own() -> &'static str {
    OTHER.get().map_or(env!("CARGO_PKG_VERSION"), String::as_str)
}

/// Goes by another version from now on, as a neighbour would: for tests, before anything else is
/// done.
///
/// # Panics
/// If it goes by another one already.
pub fn go_by(version: String) {
    OTHER.set(version).expect("a program goes by one version");
}
