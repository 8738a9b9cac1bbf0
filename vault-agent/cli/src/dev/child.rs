//! A daemon as a child: started with its log in a file, watched until it is ready, stopped and
//! waited for. It ends by itself when this process is gone: its standard input is a pipe from here.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, ChildStdin, Command};

use super::ready::{Notice, Ready};
use host::hint::Failure;

/// How long a daemon may take to finish what it is at.
const STOPPING: Duration = Duration::from_secs(10);
/// How long a daemon may take to start.
const STARTING: Duration = Duration::from_secs(60);
/// Lines of a log that are shown when its daemon failed.
const LAST_LINES: usize = 12;
/// Bytes at the end of a log in which they are looked for.
const LAST_BYTES: u64 = 16 << 10;

/// A daemon.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: Process,
    /// The other end of its standard input: closed by the system with this process. Kept outside of
    /// `process`, which would close it as soon as it is waited for.
    #[cfg_attr(not(test), expect(dead_code, reason = "dropping it is what it is for"))]
    alive: Option<ChildStdin>,
    log: PathBuf,
    ready: Ready,
}

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// What people call it.
    pub name: &'static str,
    /// The file.
    pub file: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Child {
    /// Starts a daemon, in a process group of its own so that Ctrl-C reaches only this process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: Program<'_>, ready: Ready) -> Result<Self> {
        let mut log = File::options();
        let log = log
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&program.log)
            .with_context(|| format!("making `{}`", program.log.display()))?;
        let second = log.try_clone().context("opening the log twice")?;
        let mut command = Command::new(program.file);
        command
            .args(&program.arguments)
            .env("NOTIFY_SOCKET", ready.path())
            .env_remove("VAULT_STATE_DIR")
            .env_remove("VAULT_TOKEN")
            .env_remove("VAULT_PASSPHRASE_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(second))
            .process_group(0)
            .kill_on_drop(true);
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(fault) if fault.kind() == ErrorKind::NotFound => bail!(
                Failure::local(format!("there is no program `{}`", program.file.display())).hint(
                    "build all of them with `cargo build --workspace`, or install them together"
                )
            ),
            Err(fault) => {
                return Err(fault).context(format!("starting `{}`", program.file.display()));
            }
        };
        let alive = process.stdin.take();
        Ok(Self { name: program.name, process, alive, log: program.log, ready })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// If it ends before, or takes a minute; with the last lines of its log.
    pub async fn ready(&mut self) -> Result<Notice> {
        let waited = tokio::time::timeout(STARTING, async {
            tokio::select! {
                biased;
                notice = self.ready.wait() => notice.map(Ok),
                ended = self.process.wait() => Ok(Err(ended.context("waiting for a child")?)),
            }
        });
        match waited.await {
            Ok(Ok(Ok(notice))) => Ok(notice),
            Ok(Ok(Err(status))) => bail!(self.failure(&format!("ended at once ({status})"))),
            Ok(Err(fault)) => Err(fault),
            Err(_) => bail!(self.failure("did not become ready within a minute")),
        }
    }

    /// Waits until it ends, which it should not.
    pub async fn ended(&mut self) -> Failure {
        match self.process.wait().await {
            Ok(status) => self.failure(&format!("ended by itself ({status})")),
            Err(fault) => self.failure(&format!("is lost: {fault}")),
        }
    }

    /// Stops it and waits for it; kills it if it does not stop.
    ///
    /// # Errors
    /// If it had to be killed, or failed while stopping.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended in between, which is as well.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(STOPPING, self.process.wait()).await {
            Ok(status) => {
                let status = status.context("waiting for a child")?;
                if !fine(status) {
                    bail!(self.failure(&format!("failed while stopping ({status})")));
                }
                Ok(())
            }
            Err(_) => {
                self.process.kill().await.context("killing a child")?;
                bail!(self.failure("did not stop and was killed"))
            }
        }
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        let lines = last_lines(&self.log);
        let text =
            format!("{} {what}{}{lines}", self.name, if lines.is_empty() { "" } else { ":\n" });
        Failure::local(text).hint(format!("its whole log is in `{}`", self.log.display()))
    }
}

/// Tells whether a daemon that was asked to stop ended as it should.
fn fine(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

/// Returns the last lines of a log, indented.
fn last_lines(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LAST_LINES)..];
    shown.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &Path, script: &str) -> Child {
        let program = Program {
            name: "the server",
            file: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            log: dir.join("log"),
        };
        Child::start(program, Ready::bind(dir, "n").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_child_that_ends_early_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(dir.path(), "echo address in use >&2; exit 3");
        let failure = child.ready().await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the server ended at once (exit status: 3):\n  address in use"
        );
    }

    #[tokio::test]
    async fn a_child_is_stopped_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path(), "exec cat").stop().await.unwrap();
        let failure = start(dir.path(), "trap 'exit 7' TERM; read line");
        let failure = failure.stop().await;
        // The shell may be stopped before it has set its trap.
        assert!(failure.is_ok() || failure.unwrap_err().to_string().contains("exit status: 7"));
    }

    #[tokio::test]
    async fn a_child_sees_the_end_of_its_input_when_the_parent_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(dir.path(), "cat; exit 0");
        let wait = tokio::time::timeout(Duration::from_millis(50), child.process.wait());
        assert!(wait.await.is_err(), "waiting must not end it");
        drop(child.alive.take());
        assert!(child.process.wait().await.unwrap().success());
    }

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let text: String = (0..50).map(|n| format!("line {n}\n")).collect();
        host::files::write_private(&log, text.as_bytes()).unwrap();
        let shown = last_lines(&log);
        assert!(shown.starts_with("  line 38\n") && shown.ends_with("  line 49"));
        assert_eq!(last_lines(&dir.path().join("none")), "");
    }
}
