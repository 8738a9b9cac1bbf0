//! A daemon as a real process: started, waited for by its own readiness message, killed or stopped.

use std::fs::OpenOptions;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to be ready or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// What it said when it was ready.
    pub ready: String,
}

impl Daemon {
    /// Starts `command` and waits until it says `READY=1`; its output goes to `log`.
    ///
    /// # Panics
    /// If it exits first or is not ready in a minute; the message holds its log.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let socket = log.with_extension("notify");
        let _ = std::fs::remove_file(&socket);
        let inbox = UnixDatagram::bind(&socket).expect("a free socket path");
        inbox.set_read_timeout(Some(Duration::from_millis(100))).expect("a valid timeout");
        let out = OpenOptions::new().create(true).append(true).open(log).expect("a writable log");
        let err = out.try_clone().expect("a second handle");
        command.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = command.spawn().expect("the program starts");
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            if let Ok(length) = inbox.recv(&mut buffer) {
                let ready = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if ready.lines().any(|line| line == "READY=1") {
                    return Self { child, log: log.to_owned(), ready };
                }
            }
            let exited = child.try_wait().expect("a child of ours");
            if exited.is_some() || begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("{command:?} is not ready ({exited:?}):\n{log}");
            }
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it with SIGKILL and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it with SIGTERM and returns whether it exited with success.
    ///
    /// # Panics
    /// If there is no `kill` program.
    pub fn stop(&mut self) -> bool {
        let pid = self.pid().to_string();
        Command::new("kill").arg(pid).status().expect("kill(1) exists");
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
