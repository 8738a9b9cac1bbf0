//! Where the server of this host keeps its things, as `vault-server` itself finds them, and its
//! program. Nothing is made here.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use toml_edit::{Array, DocumentMut, Item};

use super::addresses::is_dual_stack;
use super::patience::wait;
use crate::context::Global;
use crate::sibling;
use host::files::{self, Access};
use host::hint::{Failure, hinted};

/// Its files before any vault is in it; the configuration may have been there before.
const FRESH: [&str; 5] =
    ["server.key", "vault.db", "vault.db-journal", "vault.db-shm", "vault.db-wal"];
const CONFIG: &str = "server.toml";
const LOCK: &str = "server.lock";

/// How long one may take that is being made.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server of this host.
#[derive(Clone, Debug)]
pub struct Server {
    program: PathBuf,
    pub data: PathBuf,
    pub config: PathBuf,
    /// Whether the folder was chosen by hand.
    given: bool,
}

/// What its configuration says.
#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    pub listen: SocketAddr,
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl Server {
    /// Finds program and places: in the folder that was given, else where the system or the user
    /// keeps such things.
    ///
    /// # Errors
    /// If the program is not installed, or no home directory is known.
    pub fn find(given: Option<&Path>, global: &Global) -> Result<Self> {
        let program = sibling::find("server").map_err(|fault| {
            Failure::local(host::hint::shown(&fault)).hint(
                "install `vault-server` on this host; if the server is another host, run `vault \
                 machine add NAME --ssh THIS-HOST` there",
            )
        })?;
        let given = given.map(Path::to_owned);
        let given = given.or_else(|| global.env("VAULT_SERVER_DATA").map(PathBuf::from));
        if let Some(data) = given {
            let data = std::path::absolute(&data)
                .with_context(|| format!("finding out where `{}` is", data.display()))?;
            let config = data.join(CONFIG);
            return Ok(Self { program, data, config, given: true });
        }
        if rustix::process::geteuid().is_root() {
            let (data, config) = ("/var/lib/vault-server", "/etc/vault-server/server.toml");
            return Ok(Self { program, data: data.into(), config: config.into(), given: false });
        }
        let folder = |variable: &str, below: &str| -> Result<PathBuf> {
            let home = || Some(PathBuf::from(global.env("HOME")?).join(below));
            let set = global.env(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            let folder = set.or_else(home).map(|folder| folder.join("vault-server"));
            folder.ok_or_else(|| {
                hinted("the home directory is unknown", "name one with `--server-data DIR`")
            })
        };
        let config = folder("XDG_CONFIG_HOME", ".config")?.join("server.toml");
        let data = folder("XDG_STATE_HOME", ".local/state")?;
        Ok(Self { program, data, config, given: false })
    }

    /// Prepares a command of it, for these very places.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).args(self.arguments());
        for name in ["VAULT_SERVER_DATA", "VAULT_SERVER_CONFIG", "VAULT_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    /// Returns the flags that name its places, none where it finds them itself.
    pub fn arguments(&self) -> Vec<&OsStr> {
        if self.given { vec!["--data".as_ref(), self.data.as_ref()] } else { Vec::new() }
    }

    /// Tells whether there is a server.
    pub fn is_there(&self) -> bool {
        let is = |name: &str| self.data.join(name).symlink_metadata().is_ok();
        is("server.key") || is("server.key.sealed") || is("vault.db")
    }

    /// Reads what its configuration says; `None` if there is none.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let text = match std::fs::read_to_string(&self.config) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(why) => {
                return Err(why).with_context(|| format!("reading `{}`", self.config.display()));
            }
        };
        let settings = toml::from_str(&text);
        settings.map(Some).map_err(|why| {
            let text = format!("`{}` is wrong: {}", self.config.display(), why.message());
            hinted(text, "`vault-server config check` says where")
        })
    }

    /// Has its configuration say where it listens and where others reach it; what else stands there
    /// stays. Only for a server without a vault.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn configure(&self, listen: SocketAddr, addresses: &[String]) -> Result<()> {
        let shown = self.config.display();
        let Some(settings) = self.settings()? else { bail!("there is no `{shown}`") };
        // Without any in it, nobody asks it.
        let names = !settings.addresses.is_empty();
        if settings.listen == listen && (!names || settings.addresses == addresses) {
            return Ok(());
        }
        let reading = || format!("reading `{shown}`");
        let text = std::fs::read_to_string(&self.config).with_context(reading)?;
        let mut document: DocumentMut = text.parse().with_context(reading)?;
        let mut set = |key: &str, to: toml_edit::Value| match document.get_mut(key) {
            Some(there) => {
                let decor = there.as_value().map(|value| value.decor().clone());
                *there = Item::Value(to);
                if let (Some(value), Some(decor)) = (there.as_value_mut(), decor) {
                    *value.decor_mut() = decor;
                }
            }
            None => document[key] = Item::Value(to),
        };
        set("listen", listen.to_string().into());
        if names {
            set("addresses", addresses.iter().collect::<Array>().into());
        }
        let access = Access::of(&self.config.metadata().with_context(reading)?);
        files::replace_trusted(&self.config, document.to_string().as_bytes(), access)?;
        Ok(())
    }

    /// Tells whether a process serves its data.
    pub fn is_running(&self) -> Result<bool> {
        let lock = self.data.join(LOCK);
        match File::open(&lock) {
            Ok(lock) => Ok(lock.try_lock().is_err()),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(why).with_context(|| format!("opening `{}`", lock.display())),
        }
    }

    /// Tells the process that serves its data to end, if it can be told which one that is.
    pub fn terminate(&self) -> Result<()> {
        let pid = self.holder().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        match pid {
            Some(pid) => kill_process(pid, Signal::TERM).context("ending the server"),
            None => Ok(()),
        }
    }

    /// Returns where a program of this host reaches it.
    pub fn near(&self) -> Result<SocketAddr> {
        let Some(Settings { mut listen, .. }) = self.settings()? else {
            bail!("there is no `{}`", self.config.display())
        };
        if listen.ip().is_unspecified() {
            // Where both are listened on: every host has this one.
            listen.set_ip(match listen.is_ipv4() || is_dual_stack() {
                true => IpAddr::V4(Ipv4Addr::LOCALHOST),
                false => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Ok(listen)
    }

    /// Returns the process that serves its data, if it can be told.
    pub fn holder(&self) -> Option<u32> {
        host::process::holder(&self.data.join(LOCK))
    }

    /// Removes a server whose setup line nobody has seen, so that no vault can be in it. Only the
    /// names of its files tell so: with a vault in it, a server has more of them.
    ///
    /// # Errors
    /// If the folder holds more than such a server has.
    pub fn discard(&self) -> Result<()> {
        let shown = self.data.display();
        let made = self.being_made();
        let entries = self.data.read_dir().with_context(|| format!("reading folder `{shown}`"))?;
        for entry in entries {
            let name = entry.with_context(|| format!("reading folder `{shown}`"))?.file_name();
            let is_made = made.iter().any(|file| file.file_name() == Some(&name));
            if !is_made && !FRESH.iter().chain(&[CONFIG, LOCK]).any(|known| *known == name) {
                let text = format!("`{shown}` holds `{}`: this server is in use", name.display());
                bail!(hinted(text, "`vault init` with its setup line goes on with it"));
            }
        }
        // One that is still being made, or that runs, holds its lock.
        let lock = self.data.join(LOCK);
        let held = File::options().create(true).append(true).mode(0o600).open(&lock);
        let held = held.with_context(|| format!("opening `{}`", lock.display()))?;
        let free = wait(PATIENCE, || Ok(held.try_lock().is_ok().then_some(())))?;
        free.ok_or_else(|| hinted(format!("a server runs in `{shown}`"), "stop it first"))?;
        // The key goes last: while it is there, there is a server to remove.
        let whole = FRESH.iter().rev().map(|name| self.data.join(name));
        for file in made.into_iter().chain(whole) {
            files::remove_trusted(&file)?;
        }
        Ok(())
    }

    /// Returns the files that a server which was killed while it was made may have left unfinished.
    fn being_made(&self) -> Vec<PathBuf> {
        let database = files::being_made(&self.data.join("vault.db"));
        let beside = ["-journal", "-shm", "-wal"].map(|end| {
            let mut file = database.clone().into_os_string();
            file.push(end);
            file.into()
        });
        let names = FRESH.iter().chain(&[CONFIG]);
        names.map(|name| files::being_made(&self.data.join(name))).chain(beside).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn server(dir: &Path) -> Server {
        let (data, config) = (dir.to_owned(), dir.join("server.toml"));
        Server { program: "/usr/bin/vault-server".into(), data, config, given: true }
    }

    #[test]
    fn a_server_is_reached_where_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path());
        assert!(server.settings().unwrap().is_none());
        for (listen, near) in [
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8444", if is_dual_stack() { "127.0.0.1:8444" } else { "[::1]:8444" }),
            ("10.0.0.2:1", "10.0.0.2:1"),
        ] {
            let text =
                format!("listen = \"{listen}\"\naddresses = [\"a:1\"]\n[log]\nlevel = \"x\"\n");
            files::replace(&server.config, text.as_bytes(), Access::PRIVATE).unwrap();
            assert_eq!(server.near().unwrap().to_string(), near);
            assert_eq!(server.settings().unwrap().unwrap().addresses, ["a:1"]);
        }
    }

    #[test]
    fn a_server_is_told_to_listen_elsewhere_and_keeps_its_other_settings() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path());
        let text = "# mine\nlisten = \"0.0.0.0:1\" # here\naddresses = [\n  \"a:1\",\n]\n\n\
                    [log]\nlevel = \"x\"\n";
        let read = || std::fs::read_to_string(&server.config).unwrap();
        let access = Access { mode: 0o640, ..Access::PRIVATE };
        files::replace(&server.config, text.as_bytes(), access).unwrap();
        let told = |listen: &str, addresses: &[&str]| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            server.configure(listen.parse().unwrap(), &addresses).unwrap();
        };
        told("0.0.0.0:1", &["a:1"]);
        assert_eq!(read(), text);
        told("[::]:2", &["b:2", "c:2"]);
        assert_eq!(
            read(),
            "# mine\nlisten = \"[::]:2\" # here\naddresses = [\"b:2\", \"c:2\"]\n\n[log]\nlevel = \"x\"\n"
        );
        let mode = server.config.metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        files::replace(&server.config, b"listen = \"0.0.0.0:1\"\n", access).unwrap();
        told("0.0.0.0:2", &["b:2"]);
        assert_eq!(read(), "listen = \"0.0.0.0:2\"\n", "nobody asks for its addresses");
    }

    #[test]
    fn only_a_server_without_a_vault_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path());
        let write = |name: &str| files::write_private(&dir.path().join(name), b"x").unwrap();
        write("server.key");
        write("vault.db");
        // Killed while they were made.
        write(".vault.db.vault-new");
        write(".vault.db.vault-new-journal");
        write(".server.key.vault-new");
        write("head");
        assert!(server.is_there());
        let fault = server.discard().unwrap_err().to_string();
        assert!(fault.ends_with("holds `head`: this server is in use"), "{fault}");
        assert!(dir.path().join("server.key").exists());
        std::fs::remove_file(dir.path().join("head")).unwrap();
        write(CONFIG);
        server.discard().unwrap();
        assert!(!server.is_there());
        assert!(dir.path().join(CONFIG).exists(), "it may have been there before");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "the configuration and the lock");
    }
}
