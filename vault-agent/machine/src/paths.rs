//! Where state, configuration and socket live: pure from flags and environment. Nothing is
//! opened or made here.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use host::hint::hinted;

/// The agent's places on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory of identity, pins and database.
    pub state: PathBuf,
    /// `agent.toml`.
    pub config: PathBuf,
    /// Socket of the local API.
    pub socket: PathBuf,
    /// Directory of the credentials that systemd gave to this program.
    pub given: Option<PathBuf>,
}

/// What [`Paths::decide`] looks at.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    root: bool,
    home: Option<PathBuf>,
    state_home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    given: Option<PathBuf>,
}

impl Paths {
    /// Resolves the places from the flags `--state` and `--config`, then from `VAULT_STATE_DIR`,
    /// then from who runs the program.
    ///
    /// # Errors
    /// If a user has neither `HOME` nor the XDG variables.
    pub fn resolve(state: Option<PathBuf>, config: Option<PathBuf>) -> Result<Self> {
        Self::resolve_in(state, config, |name| env::var(name).ok())
    }

    /// As [`Paths::resolve`], with the variables that `env` tells.
    pub fn resolve_in(
        state: Option<PathBuf>,
        config: Option<PathBuf>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = state.or_else(|| set("VAULT_STATE_DIR"));
        let around = Surroundings {
            root: rustix::process::geteuid().is_root(),
            home: set("HOME"),
            state_home: set("XDG_STATE_HOME"),
            config_home: set("XDG_CONFIG_HOME"),
            runtime_dir: set("XDG_RUNTIME_DIR"),
            given: set("CREDENTIALS_DIRECTORY"),
        };
        Self::decide(state, config, around)
    }

    /// Returns the places of the host's agent, which root runs.
    pub fn of_host(config: Option<PathBuf>) -> Self {
        Self {
            state: "/var/lib/vault-agent".into(),
            config: config.unwrap_or_else(|| "/etc/vault-agent/agent.toml".into()),
            socket: "/run/vault-agent/agent.sock".into(),
            given: None,
        }
    }

    fn decide(
        state: Option<PathBuf>,
        config: Option<PathBuf>,
        around: Surroundings,
    ) -> Result<Self> {
        let given = around.given;
        if let Some(state) = state {
            let config = config.unwrap_or_else(|| state.join("agent.toml"));
            let socket = state.join("agent.sock");
            return Ok(Self { state, config, socket, given });
        }
        if around.root {
            return Ok(Self { given, ..Self::of_host(config) });
        }
        let below_home = |given: Option<PathBuf>, default: &str| {
            given.or_else(|| around.home.as_ref().map(|home| home.join(default))).ok_or_else(|| {
                hinted("neither `HOME` nor the XDG variables are set", "pass `--state DIR`")
            })
        };
        let state = below_home(around.state_home.clone(), ".local/state")?.join("vault-agent");
        let config = match config {
            Some(config) => config,
            None => {
                below_home(around.config_home.clone(), ".config")?.join("vault-agent/agent.toml")
            }
        };
        // Without a runtime directory the socket lives beside the state: never in `/tmp`.
        let socket = match around.runtime_dir {
            Some(runtime) => runtime.join("vault-agent/agent.sock"),
            None => state.join("agent.sock"),
        };
        Ok(Self { state, config, socket, given })
    }

    /// Returns the directory of the machine's keys.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity")
    }

    /// Returns the file of the pins.
    pub fn pins(&self) -> PathBuf {
        self.state.join("pins.json")
    }

    /// Returns the database file.
    pub fn database(&self) -> PathBuf {
        self.state.join("agent.db")
    }

    /// Returns the file by which one-off answers take turns.
    pub fn turn(&self) -> PathBuf {
        self.state.join("turn.lock")
    }

    /// Returns the socket for credentials of systemd units, beside that of the local API.
    pub fn credentials(&self) -> PathBuf {
        self.socket.with_file_name("credentials.sock")
    }

    /// Returns the directory of admin key files.
    pub fn admin(&self) -> PathBuf {
        self.state.join("admin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: Option<&str>, config: Option<&str>, around: Surroundings, expected: [&str; 3]) {
        let found = Paths::decide(state.map(Into::into), config.map(Into::into), around).unwrap();
        let [state, config, socket] = expected.map(PathBuf::from);
        assert_eq!(found, Paths { state, config, socket, given: None });
    }

    #[test]
    fn places_follow_flags_then_who_runs() {
        let root = Surroundings { root: true, ..Surroundings::default() };
        let user = Surroundings { home: Some("/home/j".into()), ..Surroundings::default() };
        let xdg = Surroundings {
            home: Some("/home/j".into()),
            state_home: Some("/s".into()),
            config_home: Some("/c".into()),
            runtime_dir: Some("/run/user/1".into()),
            root: false,
            given: None,
        };
        check(Some("/d"), None, root.clone(), ["/d", "/d/agent.toml", "/d/agent.sock"]);
        check(Some("/d"), Some("/x.toml"), user.clone(), ["/d", "/x.toml", "/d/agent.sock"]);
        check(
            None,
            None,
            root,
            ["/var/lib/vault-agent", "/etc/vault-agent/agent.toml", "/run/vault-agent/agent.sock"],
        );
        check(
            None,
            None,
            user,
            [
                "/home/j/.local/state/vault-agent",
                "/home/j/.config/vault-agent/agent.toml",
                "/home/j/.local/state/vault-agent/agent.sock",
            ],
        );
        check(
            None,
            None,
            xdg,
            ["/s/vault-agent", "/c/vault-agent/agent.toml", "/run/user/1/vault-agent/agent.sock"],
        );
    }

    #[test]
    fn a_user_without_home_is_told_what_to_pass() {
        let fault = Paths::decide(None, None, Surroundings::default()).unwrap_err();
        assert_eq!(host::hint::hint(&fault).as_deref(), Some("pass `--state DIR`"));
    }
}
