//! Whether this host's agent runs: an agent that listens answers, wherever its socket is.

use std::os::unix::net::UnixStream;

use host::config_fault::ConfigFault;
use rustix::net::sockopt::socket_peercred;

use crate::config::Config;
use crate::paths::Paths;

/// How `vault-agent target add` begins to say that none does.
pub const NOT_RUNNING: &str = "warning: no agent runs here";

/// Connects to the agent of this state, if one answers: at the socket that the configuration names,
/// and at those where an agent of another environment listens.
///
/// # Errors
/// If the configuration is wrong, so that nobody knows where to ask.
pub fn answering(paths: &Paths) -> Result<Option<UnixStream>, ConfigFault> {
    let config = Config::load_or_default(&paths.config)?;
    let mut sockets = config.api.socket.into_iter().chain(paths.sockets());
    Ok(sockets.find_map(|socket| UnixStream::connect(socket).ok()))
}

/// Returns the number of the process that answers, as the kernel tells it: an agent hides from its
/// own user what else would say whose it is.
///
/// # Errors
/// As [`answering`].
pub fn process(paths: &Paths) -> Result<Option<u32>, ConfigFault> {
    let peer = answering(paths)?.and_then(|socket| socket_peercred(socket).ok());
    Ok(peer.map(|peer| peer.pid.as_raw_nonzero().get().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use host::files::Access;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn an_agent_is_found_wherever_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf { dir.path().canonicalize().unwrap().join(name) };
        let paths = Paths {
            elsewhere: Some(at("elsewhere.sock")),
            ..Paths::resolve(Some(at("")), None).unwrap()
        };
        let socket = format!("[api]\nsocket = \"{}\"\n", at("named.sock").display());
        host::files::replace_trusted(&paths.config, socket.as_bytes(), Access::PRIVATE).unwrap();
        assert!(answering(&paths).unwrap().is_none());
        for socket in [paths.socket.clone(), at("elsewhere.sock"), at("named.sock")] {
            let listener = UnixListener::bind(&socket).unwrap();
            assert!(answering(&paths).unwrap().is_some(), "{}", socket.display());
            assert_eq!(process(&paths).unwrap(), Some(std::process::id()));
            drop(listener);
            assert!(answering(&paths).unwrap().is_none());
            assert_eq!(process(&paths).unwrap(), None);
        }
        host::files::replace_trusted(&paths.config, b"[api", Access::PRIVATE).unwrap();
        assert!(answering(&paths).is_err());
    }
}
