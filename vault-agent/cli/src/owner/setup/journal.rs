//! What `vault setup` keeps from the moment it begins to make a server until the vault is made, so
//! that the next run goes on: private, as the setup line may make a vault.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use shared::time::Time;
use shared::token::SetupLine;

use super::places::Server;
use crate::owner::signing::founding::Unfinished;
use host::files::{self, Access};
use host::hint::hinted;
use machine::identity::{Pins, load_json};
use machine::paths::Paths;

/// A set-up that has begun.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// Format, 1.
    v: u32,
    pub begun: Time,
    pub port: u16,
    /// `host:port`.
    pub addresses: Vec<String>,
    /// What `vault-server init` printed; `None` until then.
    pub line: Option<SetupLine>,
}

impl Begun {
    pub fn new(begun: Time, port: u16, addresses: Vec<String>) -> Self {
        Self { v: 1, begun, port, addresses, line: None }
    }

    /// Returns where it is kept.
    pub fn place(paths: &Paths) -> PathBuf {
        paths.state.join("setup.json")
    }

    /// Reads what an earlier run has left.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let place = Self::place(paths);
        let begun: Option<Self> = load_json(&place)?;
        if let Some(Self { v, .. }) = begun
            && v != 1
        {
            bail!("`{}` has format {v}", place.display());
        }
        Ok(begun)
    }

    /// Keeps it durably.
    pub fn store(&self, paths: &Paths) -> Result<()> {
        files::create_dir_private(&paths.state)?;
        let text = serde_json::to_vec_pretty(self).context("writing the set-up as JSON")?;
        files::replace_trusted(&Self::place(paths), &text, Access::PRIVATE)?;
        Ok(())
    }

    /// Removes it: the vault is made.
    pub fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&Self::place(paths))?;
        Ok(())
    }
}

/// How far this host is.
#[derive(Debug)]
pub enum Stage {
    Fresh,
    /// A server was, or was to be, made for a vault that is not made.
    Begun(Begun),
    /// This host belongs to the vault on its server.
    Made(Pins),
}

impl Stage {
    /// Looks how far this host is.
    ///
    /// # Errors
    /// If it is on another way: its vault has its server elsewhere, or somebody makes one by hand.
    pub fn of(paths: &Paths, server: &Server) -> Result<Self> {
        if let Some(pins) = Pins::load(paths)? {
            if server.is_there() {
                return Ok(Self::Made(pins));
            }
            bail!(hinted(
                format!(
                    "this host is `{}` of vault {} already, whose server is elsewhere ({})",
                    pins.name,
                    pins.vault.short(),
                    pins.addresses.join(", ")
                ),
                "`vault import` and `vault-agent target add` do the rest here; `vault setup \
                 --server-data DIR` goes on with a server in another folder",
            ));
        }
        if let Some(begun) = Begun::load(paths)? {
            return Ok(Self::Begun(begun));
        }
        if server.is_there() || Unfinished::load(paths)?.is_some() {
            bail!(hinted(
                format!(
                    "`{}` holds a server that was not made by `vault setup`",
                    server.data.display()
                ),
                "`vault init` with the setup line that `vault-server init` has printed goes on; \
                 or make another one with `--server-data DIR`",
            ));
        }
        Ok(Self::Fresh)
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::SignKey;

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        assert!(Begun::load(&paths).unwrap().is_none());
        let mut begun = Begun::new(Time::from_micros(1), 8443, vec!["10.0.0.2:8443".to_owned()]);
        begun.store(&paths).unwrap();
        assert!(Begun::load(&paths).unwrap().unwrap().line.is_none());
        let server = SignKey::generate().verify_key();
        let line = SetupLine { addresses: begun.addresses.clone(), server, claim: Hash::ZERO };
        begun.line = Some(line.clone());
        begun.store(&paths).unwrap();
        assert_eq!(Begun::load(&paths).unwrap().unwrap().line, Some(line));
        let mode = Begun::place(&paths).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Begun::remove(&paths).unwrap();
        assert!(Begun::load(&paths).unwrap().is_none());
    }
}
