//! A daemon as a child: started with its log in a file, watched until it is ready, stopped and
//! waited for. It ends by itself when this process is gone: its standard input is a pipe from here.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::process::{Child as Process, ChildStdin, Command};

use host::hint::{Failure, hinted};
use host::shown::Shown;

/// How long a daemon may take to finish what it is at.
const STOPPING: Duration = Duration::from_secs(10);
/// How long a daemon may take to start.
const STARTING: Duration = Duration::from_secs(60);
/// Lines of a log that are shown when its daemon failed.
const LAST_LINES: usize = 12;
/// Bytes at the end of a log in which they are looked for.
const LAST_BYTES: u64 = 16 << 10;

/// Longest path of a unix socket, without the final zero (unix(7)).
const LONGEST: usize = 107;

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

impl Child {
    /// Starts a daemon, in a process group of its own so that Ctrl-C reaches only this process; its
    /// log and the socket on which it says that it is ready are in `folder`.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self> {
        let ready = Ready::bind(&folder.join(format!("{name}.ready")))?;
        let log = folder.join(format!("{name}.log"));
        let mut options = File::options();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&log);
        let file = file.with_context(|| format!("making `{}`", log.display()))?;
        let second = file.try_clone().context("opening the log twice")?;
        let process = command
            .arg("--exit-with-stdin")
            .env("NOTIFY_SOCKET", &ready.path)
            .env_remove("VAULT_STATE_DIR")
            .env_remove("VAULT_TOKEN")
            .env_remove("VAULT_PASSPHRASE_FILE")
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(second)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let program = command.as_std().get_program().display();
        let mut process = process.with_context(|| format!("starting `{program}`"))?;
        let alive = process.stdin.take();
        Ok(Self { name, process, alive, log, ready })
    }

    /// Waits until it says that it is ready; returns where it listens.
    ///
    /// # Errors
    /// If it ends before, or takes a minute; with the last lines of its log.
    pub async fn ready(&mut self) -> Result<String> {
        let waited = tokio::time::timeout(STARTING, async {
            tokio::select! {
                biased;
                listen = self.ready.wait() => listen.map(Ok),
                ended = self.process.wait() => Ok(Err(ended.context("waiting for a child")?)),
            }
        });
        let Ok(waited) = waited.await else {
            bail!(self.failure("did not become ready within a minute"))
        };
        match waited? {
            Ok(Some(address)) => Ok(address),
            Ok(None) => bail!(self.failure("is ready but does not say where it listens")),
            Err(status) => bail!(self.failure(&format!("ended at once ({status})"))),
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
        let Ok(status) = tokio::time::timeout(STOPPING, self.process.wait()).await else {
            self.process.kill().await.context("killing a child")?;
            bail!(self.failure("did not stop and was killed"))
        };
        let status = status.context("waiting for a child")?;
        if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
            bail!(self.failure(&format!("failed while stopping ({status})")));
        }
        Ok(())
    }

    fn failure(&self, what: &str) -> Failure {
        let (name, lines) = (self.name, last_lines(&self.log));
        let end = if lines.is_empty() { "" } else { ":" };
        let head = format!("the {name} {what}{end}").into();
        Failure::local(Shown::lines([vec![head], lines].concat()))
            .hint(format!("its whole log is in `{}`", self.log.display()))
    }
}

/// Returns the last lines of a log, indented.
fn last_lines(log: &Path) -> Vec<Shown> {
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
    shown.iter().map(|line| format!("  {line}").into()).collect()
}

/// A socket on which one child says that it is ready, in the manner of systemd's `NOTIFY_SOCKET`.
#[derive(Debug)]
struct Ready {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ready {
    /// Makes the socket, in a private folder.
    fn bind(path: &Path) -> Result<Self> {
        check_length(path)?;
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path)
            .with_context(|| format!("making the socket `{}`", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Waits for readiness; returns where the child listens, if it said so (sd_notify(3)).
    async fn wait(&self) -> Result<Option<String>> {
        let (mut listen, mut buffer) = (None, [0; 4096]);
        loop {
            let length = self.socket.recv(&mut buffer).await.context("waiting for readiness")?;
            let datagram = String::from_utf8_lossy(&buffer[..length]);
            let address = datagram.lines().find_map(|line| line.strip_prefix("X_LISTEN="));
            listen = address.map(str::to_owned).or(listen);
            if datagram.lines().any(|line| line == "READY=1") {
                return Ok(listen);
            }
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Refuses a socket path that the kernel would not take.
pub fn check_length(path: &Path) -> Result<()> {
    let length = path.as_os_str().len();
    if length > LONGEST {
        let text = format!("`{}` has {length} bytes, sockets take {LONGEST}", path.display());
        return Err(hinted(text, "choose a shorter `--data DIR`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &Path, script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::start("server", command, dir).unwrap()
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
        assert!(shown[0] == "  line 38" && shown[11] == "  line 49" && shown.len() == 12);
        assert!(last_lines(&dir.path().join("none")).is_empty());
    }

    #[tokio::test]
    async fn datagrams_add_up_until_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let ready = Ready::bind(&dir.path().join("n")).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        for datagram in ["STATUS=loading\nX_LISTEN=[::1]:5\n", "READY=1\nMAINPID=5"] {
            sender.send_to(datagram.as_bytes(), &ready.path).await.unwrap();
        }
        assert_eq!(ready.wait().await.unwrap().as_deref(), Some("[::1]:5"));
    }

    #[test]
    fn long_socket_paths_are_refused_before_the_kernel_does() {
        let long = PathBuf::from(format!("/{}", "x".repeat(107)));
        let hint = host::hint::hint(&check_length(&long).unwrap_err()).unwrap();
        assert!(hint.contains("shorter `--data DIR`"), "{hint}");
    }
}
