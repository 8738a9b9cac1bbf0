//! A machine: its state folder, its agent, its `.env`, and the command line run on it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Bins, Daemon, Ran, neighbour, run, watch};

/// Passphrase of the admin's key in every world.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A machine of the world; its agent is stopped when dropped.
#[derive(Debug)]
pub struct Host {
    /// The machine's name.
    pub name: String,
    /// Folder that plays this machine's disk.
    pub dir: PathBuf,
    /// The programs.
    pub bins: Bins,
    /// The version that its programs go by from now on, if that is another one.
    pub version: Option<&'static str>,
    /// The agent, while it runs.
    pub agent: Option<Daemon>,
}

impl Host {
    /// Makes the machine's folder.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn new(name: &str, dir: PathBuf, bins: Bins) -> Self {
        std::fs::create_dir_all(dir.join("home")).expect("a writable folder");
        Self { name: name.to_owned(), dir, bins, version: None, agent: None }
    }

    /// Returns the agent's state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Returns the `.env` of this machine.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.dir.join("home/.env")
    }

    /// Returns what the `.env` holds, empty if it is not there.
    #[must_use]
    pub fn env(&self) -> String {
        std::fs::read_to_string(self.env_file()).unwrap_or_default()
    }

    /// Prepares `program` with this machine's environment and nothing of the caller's but PATH.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.join("home"))
            .env("VAULT_STATE_DIR", self.state())
            .env("VAULT_PASSPHRASE_FILE", self.passphrase())
            .current_dir(self.dir.join("home"));
        neighbour::of(&mut command, self.version);
        command
    }

    fn passphrase(&self) -> PathBuf {
        let file = self.dir.join("passphrase");
        if !file.exists() {
            let mut private = OpenOptions::new();
            let mut out = private
                .write(true)
                .create(true)
                .mode(0o600)
                .open(&file)
                .expect("a writable folder");
            writeln!(out, "{PASSPHRASE}").expect("a writable file");
        }
        file
    }

    /// Runs `vault ARGS`.
    pub fn vault(&self, args: &[&str]) -> Ran {
        self.vault_with(args, "")
    }

    /// Waits until `vault status` ends with 0.
    ///
    /// # Panics
    /// After a minute, with what it says.
    pub fn is_well(&self) {
        let said = RefCell::default();
        let is_well = || {
            let ran = self.vault(&["status"]);
            let is_well = ran.code == 0;
            said.replace(ran.out + &ran.err);
            is_well.then_some(())
        };
        watch::poll_with("nothing is wrong", is_well, || said.take());
    }

    /// Runs `vault ARGS` with `input` on standard input.
    pub fn vault_with(&self, args: &[&str], input: &str) -> Ran {
        run(self.command(self.bins.vault).args(args), input)
    }

    /// Runs `vault-agent ARGS`.
    pub fn agent_command(&self, args: &[&str]) -> Ran {
        run(self.command(self.bins.agent).args(args), "")
    }

    /// Starts the agent and waits until it is ready.
    pub fn start(&mut self) {
        let mut command = self.command(self.bins.agent);
        command.arg("run");
        self.agent = Some(Daemon::start(command, &self.log_file()));
    }

    /// Stops the agent, as a shutdown would.
    pub fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            assert!(agent.stop(), "the agent of {} did not stop well:\n{}", self.name, agent.log());
        }
    }

    /// Returns where the agent's output goes.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Makes `.env` hold `secrets`, with a hook that appends a line to `hooks.log` when it runs.
    pub fn target(&self, secrets: &[&str]) {
        let file = self.env_file();
        let hook = format!("echo ran >> {}", self.hook_log().display());
        let mut args = vec!["target", "add", file.to_str().expect("a plain path")];
        args.extend(secrets);
        args.extend(["--on-change", &hook]);
        let _ = self.agent_command(&args).ok();
    }

    /// Returns the file that the hook of [`Host::target`] appends to.
    #[must_use]
    pub fn hook_log(&self) -> PathBuf {
        self.dir.join("home/hooks.log")
    }

    /// Returns how often the hook has run.
    #[must_use]
    pub fn hook_runs(&self) -> usize {
        std::fs::read_to_string(self.hook_log()).unwrap_or_default().lines().count()
    }
}

/// Returns every file below `folder`.
///
/// # Panics
/// If the folder cannot be read.
#[must_use]
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder").flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    found
}
