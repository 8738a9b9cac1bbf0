//! A server and its machines.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Bins, Daemon, Host, Port, Ran, neighbour, run};

/// The master file of the documentation: what the homelab shares.
pub const MASTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/env.master");

/// The name of the server's data folder.
const DATA: &str = "server";

/// A server with its data folder.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    /// The programs.
    pub bins: Bins,
    /// Kept while the server is down, too.
    _port: Port,
    address: String,
    setup: String,
    /// The version that the server's program goes by from now on, if that is another one.
    pub version: Option<&'static str>,
    /// The server, while it runs.
    pub server: Option<Daemon>,
}

impl World {
    /// Initializes and starts a server on a free port.
    ///
    /// # Panics
    /// If the server does not come up.
    #[must_use]
    pub fn new(bins: Bins) -> Self {
        Self::prepared(bins, |_| {})
    }

    /// As [`World::new`], with `prepare` called on the server's data folder before there is one.
    ///
    /// # Panics
    /// If the server does not come up.
    #[must_use]
    pub fn prepared(bins: Bins, prepare: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        prepare(&dir.path().join(DATA));
        let port = Port::reserve();
        let address = port.address().to_string();
        let mut world = Self {
            dir,
            bins,
            _port: port,
            address,
            setup: String::new(),
            version: None,
            server: None,
        };
        let out = world.server_command(&["init", "--listen", &world.address]).ok();
        world.setup = find_line(&out, "VLTS1-");
        world.start();
        world
    }

    /// Returns the folder of the whole world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the server's data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join(DATA)
    }

    /// Returns where the server listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns where the server's output goes.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// Returns the line `vault init` wants.
    #[must_use]
    pub fn setup(&self) -> &str {
        &self.setup
    }

    /// Prepares `vault-server VERB --data … REST`.
    #[must_use]
    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bins.server);
        let (verb, rest) = args.split_first().expect("a verb");
        command.arg(verb).args(rest).arg("--data").arg(self.data());
        neighbour::of(&mut command, self.version);
        command
    }

    /// Runs `vault-server VERB --data … REST` to its end.
    pub fn server_command(&self, args: &[&str]) -> Ran {
        run(&mut self.program(args), "")
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) {
        let mut run = self.program(&["run"]);
        // As its unit starts it.
        run.envs(vault_server::MALLOC);
        self.server = Some(Daemon::start(run, &self.log_file()));
    }

    /// Makes a machine's folder, nothing more.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        Host::new(name, self.dir.path().join(name), self.bins)
    }

    /// Makes the vault from machine `name`, with admin `jonas`, and starts its agent.
    pub fn owner(&self, name: &str) -> Host {
        self.owner_on(self.host(name))
    }

    /// As [`World::owner`], on a machine whose folder is there already.
    #[must_use]
    pub fn owner_on(&self, mut host: Host) -> Host {
        let kit = host.dir.join("kit.txt");
        let kit = kit.to_str().expect("a plain path");
        let args = ["init", "--name", &host.name, "--admin", "jonas", "--kit", kit];
        // On standard input: arguments can be read by everybody.
        let _ = host.vault_with(&[&args[..], &["--kit-confirmed"]].concat(), &self.setup).ok();
        host.start();
        host
    }

    /// Adds machine `name` from `owner` with read grants `read` and starts its agent.
    pub fn machine(&self, owner: &Host, name: &str, read: &[&str]) -> Host {
        let mut host = self.host(name);
        self.enrol(owner, &host, read);
        host.start();
        host
    }

    /// Adds `host` to the vault, without starting its agent.
    pub fn enrol(&self, owner: &Host, host: &Host, read: &[&str]) {
        let line = host.agent_command(&["init", "--name", &host.name]).ok();
        let line = find_line(&line, "VLTM1-");
        let mut args = vec!["machine", "add", &line, "--yes"];
        for prefix in read {
            args.extend(["--read", prefix]);
        }
        let pin = find_line(&owner.vault(&args).ok(), "VLTP1-");
        let _ = host.agent_command(&["join", &pin]).ok();
    }
}

/// Returns the word of `text` that starts with `prefix`.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn find_line(text: &str, prefix: &str) -> String {
    let found = text.split_whitespace().find(|word| word.starts_with(prefix));
    found.unwrap_or_else(|| panic!("no {prefix} line in:\n{text}")).to_owned()
}
