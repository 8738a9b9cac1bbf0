//! What `vault setup` keeps from the moment it begins to make a server until the vault is made, so
//! that the next run goes on: private, as the setup line may make a vault.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use shared::name::Name;
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

/// Refuses to make a second vault on a host that has one which root runs.
///
/// # Errors
/// If it has, with the ways to go on.
pub fn refuse_second(own: &Paths, host: &Paths) -> Result<()> {
    if own.socket == host.socket || !(host.config.exists() || host.socket.exists()) {
        return Ok(());
    }
    bail!(hinted(
        format!(
            "this host has a vault already, whose agent root runs (`{}`)",
            host.config.display()
        ),
        "`sudo vault setup` goes on with it, and `vault kv` uses it where its `allow` names you; \
         `--user` makes another one, of your own",
    ))
}

/// Refuses another name than the one that was chosen for good.
///
/// # Errors
/// If it was said now.
pub fn refuse_other(flag: &str, wanted: &Name, is: &Name, said: bool) -> Result<()> {
    if !said || wanted == is {
        return Ok(());
    }
    bail!(hinted(
        format!("`{flag} {wanted}` comes too late: it is `{is}` already"),
        format!("leave `{flag}` out"),
    ))
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

    #[test]
    fn a_host_with_a_vault_of_roots_gets_no_second_one_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let own = Paths::resolve(Some(dir.path().join("own")), None).unwrap();
        let host = Paths::resolve(Some(dir.path().join("host")), None).unwrap();
        refuse_second(&own, &host).unwrap();
        std::fs::create_dir(&host.state).unwrap();
        files::write_private(&host.config, b"").unwrap();
        let fault = refuse_second(&own, &host).unwrap_err();
        assert!(fault.to_string().starts_with("this host has a vault already"), "{fault}");
        assert!(host::hint::hint(&fault).unwrap().contains("`sudo vault setup` goes on with it"));
        refuse_second(&host, &host).unwrap();
    }

    #[test]
    fn a_name_that_is_settled_is_not_dropped_in_silence() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let (nas, box_) = (name("nas"), name("box"));
        refuse_other("--name", &nas, &nas, true).unwrap();
        refuse_other("--name", &nas, &box_, false).unwrap();
        let fault = refuse_other("--name", &nas, &box_, true).unwrap_err().to_string();
        assert_eq!(fault, "`--name nas` comes too late: it is `box` already");
    }
}
