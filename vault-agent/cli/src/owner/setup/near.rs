//! Whether what answers at the server's port is the server: by its key, as any program may listen
//! there.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use shared::keys::VerifyKey;

use super::patience::wait;
use super::places::Server;
use crate::owner::answering;
use host::hint::Failure;

/// How long a listener is no stranger yet: one that has just begun may still be silent.
const DOUBT: Duration = Duration::from_secs(5);

/// The server of this host, where programs of this host reach it, and its keys.
pub struct Near<'a> {
    server: &'a Server,
    pub at: SocketAddr,
    keys: &'a [VerifyKey],
}

/// What answers there.
#[derive(Debug, PartialEq, Eq)]
enum Who {
    Server,
    /// And what it is.
    Stranger(&'static str),
    Nobody,
}

impl<'a> Near<'a> {
    pub fn new(server: &'a Server, keys: &'a [VerifyKey]) -> Result<Self> {
        Ok(Self { server, at: server.near()?, keys })
    }

    /// Tells whether the server answers.
    pub fn answers(&self) -> Result<bool> {
        Ok(self.who()? == Who::Server)
    }

    /// Refuses another program that listens there.
    ///
    /// # Errors
    /// Names it.
    pub fn refuse_stranger(&self) -> Result<()> {
        let last = std::cell::Cell::new("");
        let known = wait(DOUBT, || {
            Ok(match self.who()? {
                Who::Server | Who::Nobody => Some(()),
                Who::Stranger(what) => {
                    last.set(what);
                    None
                }
            })
        })?;
        if known.is_some() {
            return Ok(());
        }
        let (at, port) = (self.at, self.at.port());
        let (data, config) = (self.server.data.display(), self.server.config.display());
        bail!(
            Failure::local(format!("{} answers at {at}, not the one in `{data}`", last.get()))
                .hint(format!(
                    "`ss -ltnp 'sport = {port}'` names it: end it, or choose another port, by \
                     `--port N` or, once the vault is made, by `listen` in `{config}`; then run \
                     the same line again"
                ))
        )
    }

    fn who(&self) -> Result<Who> {
        Ok(match answering::who(&self.at.to_string(), self.keys)? {
            answering::Who::Ours => Who::Server,
            answering::Who::Another => Who::Stranger("the server of another vault"),
            answering::Who::Nobody if listens(self.at) => {
                Who::Stranger("something else than a vault's server")
            }
            answering::Who::Nobody => Who::Nobody,
        })
    }
}

fn listens(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok()
}
