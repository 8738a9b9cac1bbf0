//! Who answers at an address: the vault's server, another one, or nobody. What that means is its
//! asker's.

use anyhow::{Context as _, Result};
use shared::keys::{SignKey, VerifyKey};

use machine::remote::{ConnectError, connect};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A server that holds one of the keys.
    Ours,
    /// A server with another key.
    Another,
    /// Nobody who speaks as a server does.
    Nobody,
}

/// Asks who answers at `address`, and waits some seconds at most.
///
/// # Errors
/// If no connection can be tried.
pub(super) fn who(address: &str, keys: &[VerifyKey]) -> Result<Who> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("preparing a connection")?;
    // Nobody's key, as nothing is asked for.
    let key = SignKey::generate();
    Ok(match runtime.block_on(connect(address, keys, &key)) {
        Ok(_) => Who::Ours,
        Err(ConnectError::WrongPin { .. }) => Who::Another,
        Err(ConnectError::Unreachable { .. }) => Who::Nobody,
    })
}
