//! Waiting for a daemon to be ready: a datagram socket in the manner of systemd's `NOTIFY_SOCKET`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use host::hint::hinted;
use tokio::net::UnixDatagram;

/// Longest path of a unix socket, without the final zero (unix(7)).
const LONGEST: usize = 107;

/// A socket on which one child says that it is ready.
#[derive(Debug)]
pub struct Ready {
    socket: UnixDatagram,
    path: PathBuf,
}

/// What a child said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is ready.
    pub ready: bool,
    /// Where it listens, if it said so.
    pub listen: Option<String>,
}

impl Notice {
    /// Adds the lines of one datagram (sd_notify(3)); unknown ones are passed over.
    pub fn read(&mut self, datagram: &str) {
        for line in datagram.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => self.ready = true,
                Some(("X_LISTEN", address)) => self.listen = Some(address.to_owned()),
                Some(_) | None => {}
            }
        }
    }
}

impl Ready {
    /// Makes the socket `name` in a private folder.
    ///
    /// # Errors
    /// If the path is too long for a socket, or cannot be bound.
    pub fn bind(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        check_length(&path)?;
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)
            .with_context(|| format!("making the socket `{}`", path.display()))?;
        Ok(Self { socket, path })
    }

    /// Returns what goes into `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for readiness; returns all that was said until then.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn wait(&self) -> Result<Notice> {
        let mut notice = Notice::default();
        let mut buffer = [0; 4096];
        while !notice.ready {
            let length = self.socket.recv(&mut buffer).await.context("waiting for readiness")?;
            notice.read(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(notice)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Refuses a socket path that the kernel would not take.
///
/// # Errors
/// If it is too long.
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

    #[test]
    fn datagrams_add_up() {
        let mut notice = Notice::default();
        notice.read("STATUS=loading\nX_LISTEN=127.0.0.1:1\n");
        assert!(!notice.ready);
        notice.read("READY=1\nMAINPID=5");
        assert_eq!(notice, Notice { ready: true, listen: Some("127.0.0.1:1".into()) });
    }

    #[tokio::test]
    async fn readiness_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let ready = Ready::bind(dir.path(), "n").unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"X_LISTEN=[::1]:5", ready.path()).await.unwrap();
        sender.send_to(b"READY=1", ready.path()).await.unwrap();
        assert_eq!(ready.wait().await.unwrap().listen.as_deref(), Some("[::1]:5"));
    }

    #[test]
    fn long_socket_paths_are_refused_before_the_kernel_does() {
        let long = PathBuf::from(format!("/{}", "x".repeat(107)));
        let hint = host::hint::hint(&check_length(&long).unwrap_err());
        assert_eq!(hint.unwrap(), "choose a shorter `--data DIR`");
    }
}
