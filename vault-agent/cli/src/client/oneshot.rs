//! Where no agent listens: the agent's program, started to answer this process alone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::error::Error;
use crate::sibling;
use host::hint::Failure;
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
    let absent = |why: String| {
        let socket = sockets.first().map_or(Path::new(""), PathBuf::as_path).display();
        let text = format!("no agent is listening at `{socket}`, and none can answer here: {why}");
        Error::Absent(Failure::remote(text).hint(
            "start the agent (`vault-agent install`), name another API with VAULT_ADDR, or set this \
             machine up: `vault setup` makes a vault, `vault machine add` on its host adds to one",
        ))
    };
    if !paths.pins().exists() {
        let state = paths.state.display();
        return Err(absent(format!("no machine is set up in `{state}`")));
    }
    if let Err(why) = rustix::fs::access(&paths.state, rustix::fs::Access::WRITE_OK) {
        let state = paths.state.display();
        let text = format!(
            "no agent is listening, and none can answer here: `{state}` cannot be \
            written: {why}"
        );
        return Err(Error::Absent(
            Failure::remote(text)
                .hint("make it writable: what is read is recorded there before it is answered"),
        ));
    }
    let spawn = || -> anyhow::Result<(StdStream, Answering)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(sibling::find("agent")?)
            .args([Path::new("--state"), &paths.state, Path::new("--config"), &paths.config])
            .arg("answer")
            .args(offline.then_some("--offline"))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok((ours, Answering(child)))
    };
    spawn().map_err(|why| absent(format!("{why:#}")))
}
