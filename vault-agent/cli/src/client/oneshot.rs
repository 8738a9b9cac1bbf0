//! Where no agent listens: the agent's program, started to answer this process alone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::error::Error;
use crate::sibling;
use machine::paths::Paths;

/// An agent that answers this process only; it ends when the connection does.
pub(super) struct Answering(Child);

impl Drop for Answering {
    fn drop(&mut self) {
        // It may still have something to put on disk.
        let _ = self.0.wait();
    }
}

/// Starts the agent's program to answer this process, when no agent listens: cron, CI, rescue.
pub(super) fn start(
    sockets: &[PathBuf],
    paths: &Paths,
    offline: bool,
) -> Result<(StdStream, Answering), Error> {
    let absent =
        |why: String| Error::Absent { socket: sockets.first().cloned().unwrap_or_default(), why };
    if !paths.pins().exists() {
        let state = paths.state.display();
        return Err(absent(format!("no machine is set up in `{state}`")));
    }
    let spawn = || -> anyhow::Result<(StdStream, Answering)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(sibling::find("agent")?)
            .arg("--state")
            .arg(&paths.state)
            .arg("--config")
            .arg(&paths.config)
            .arg("answer")
            .args(offline.then_some("--offline"))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok((ours, Answering(child)))
    };
    spawn().map_err(|why| absent(format!("{why:#}")))
}
