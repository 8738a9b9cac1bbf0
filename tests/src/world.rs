//! A server and its machines.

use std::path::{Path, PathBuf};
use std::process::Command;

use host::files;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use vault_server::config::EXAMPLE;

use crate::database::Database;
use crate::{Bins, Daemon, Host, Port, Ran, neighbour, run};

/// The master file of the documentation: what the homelab shares.
pub const MASTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/env.master");

/// The name of the server's data folder.
const DATA: &str = "server";
/// The name of the file in it that SQLite writes.
const FILE: &str = "vault.db";

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
    /// Where it keeps the vault, if that is not in its data folder.
    database: Option<Database>,
}

/// What a server kept at some time.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    database: Option<Database>,
}

impl World {
    /// Initializes and starts a server on a free port. It keeps the vault where the environment
    /// says: a test that runs on both stores begins with this.
    ///
    /// # Panics
    /// If the server does not come up.
    #[must_use]
    pub fn new(bins: Bins) -> Self {
        Self::on(Database::if_wanted(), bins, |_| {})
    }

    /// As [`World::new`], always on SQLite: for a test of the very file, which says why. `prepare`
    /// is called on the server's data folder before there is one.
    ///
    /// # Panics
    /// If the server does not come up.
    #[must_use]
    pub fn on_sqlite(bins: Bins, prepare: impl FnOnce(&Path)) -> Self {
        Self::on(None, bins, prepare)
    }

    fn on(database: Option<Database>, bins: Bins, prepare: impl FnOnce(&Path)) -> Self {
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
            database,
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

    /// Prepares `vault-server VERB --data … REST`; a server that it makes has the world's database.
    #[must_use]
    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bins.server);
        let (verb, rest) = args.split_first().expect("a verb");
        if *verb == "init" {
            self.name_database(rest);
        }
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

    /// Names the database in the configuration of a server that `init` is to make.
    fn name_database(&self, args: &[&str]) {
        let listen = args.windows(2).find(|pair| pair[0] == "--listen");
        let listen = listen.map_or(&*self.address, |pair| pair[1]);
        let (data, file) = (self.data(), self.data().join("server.toml"));
        let Some(database) = self.database.as_ref().filter(|_| !file.exists()) else { return };
        files::create_dir_private(&data).expect("a writable folder");
        let text = EXAMPLE
            .replace("0.0.0.0:8443", listen)
            .replace("/var/lib/vault-server", data.to_str().expect("a plain path"))
            .replace("\n[store]\n", &format!("\n[store]\nurl = \"{}\"\n", database.url()));
        files::write_private(&file, text.as_bytes()).expect("a new file");
    }

    /// Removes all that the server keeps, as if its host had burnt down; it does not run.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub fn burn(&self) {
        std::fs::remove_dir_all(self.data()).expect("a folder of ours");
        if let Some(database) = &self.database {
            database.empty();
        }
    }

    /// Copies what the server keeps, which does not run.
    ///
    /// # Panics
    /// If it cannot be copied.
    #[must_use]
    pub fn keep(&self, name: &str) -> Kept {
        let folder = self.dir.path().join(name);
        copy(&self.data(), &folder);
        Kept { folder, database: self.database.as_ref().map(Database::copy) }
    }

    /// Has the server keep what it did then; it does not run.
    ///
    /// # Panics
    /// If that cannot be put back.
    pub fn put_back(&self, kept: &Kept) {
        std::fs::remove_dir_all(self.data()).expect("a folder of ours");
        copy(&kept.folder, &self.data());
        if let (Some(database), Some(kept)) = (&self.database, &kept.database) {
            database.become_like(kept);
        }
    }

    /// As [`World::put_back`], but what lies beside the database stays as it is.
    ///
    /// # Panics
    /// As there.
    pub fn put_database_back(&self, kept: &Kept) {
        if let (Some(database), Some(kept)) = (&self.database, &kept.database) {
            return database.become_like(kept);
        }
        for end in ["-wal", "-shm"] {
            files::remove_trusted(&self.data().join(format!("{FILE}{end}"))).expect("our files");
        }
        std::fs::copy(kept.folder.join(FILE), self.data().join(FILE)).expect("our files");
    }

    /// Returns a copy of the tables that the server keeps, to be read, whichever its store is and
    /// whether it runs or not.
    ///
    /// # Panics
    /// If there is no vault.
    #[must_use]
    pub fn tables(&self) -> Connection {
        let copy = TempDir::new().expect("a temporary folder");
        let file = copy.path().join("tables");
        let _ = self.server_command(&["backup", file.to_str().expect("a plain path")]).ok();
        // The file stays there as long as it is open.
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
    }

    /// Runs statements on the database of the server, which does not run.
    ///
    /// # Panics
    /// If the database refuses.
    pub fn alter(&self, sql: &str) {
        match &self.database {
            Some(database) => database.run(sql),
            None => {
                let file = Connection::open(self.data().join(FILE)).expect("a database");
                file.execute_batch(sql).expect("statements that it takes");
            }
        }
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

fn copy(from: &Path, to: &Path) {
    let _ = run(Command::new("cp").arg("-a").args([from, to]), "").ok();
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
