//! Waiting for a daemon to be ready: a datagram socket in the manner of systemd's `NOTIFY_SOCKET`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::net::UnixDatagram;

/// Longest path of a unix socket, without the final zero (unix(7)).
const LONGEST: usize = 107;

/// A socket on which one child says that it is ready.
#[derive(Debug)]
pub struct Ready {
    socket: UnixDatagram,
    /// What goes into `NOTIFY_SOCKET`.
    pub path: PathBuf,
}

impl Ready {
    /// Makes the socket, in a private folder.
    pub fn bind(path: &Path) -> Result<Self> {
        check_length(path)?;
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path)
            .with_context(|| format!("making the socket `{}`", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Waits for readiness; returns where the child listens, if it said so (sd_notify(3)).
    pub async fn wait(&self) -> Result<Option<String>> {
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
        anyhow::bail!(
            "`{}` has {length} bytes, sockets take {LONGEST}\nhint: choose a shorter `--data DIR`",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(check_length(&long).unwrap_err().to_string().contains("shorter `--data DIR`"));
    }
}
