//! Where state, configuration and socket live: by flags and environment. Nothing is opened or made
//! here.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;
use host::hint::hinted;

/// Longest path of a socket in bytes: `sun_path` has 108, with a NUL at the end (unix(7)).
const SOCKET_BYTES: usize = 107;

/// Refuses the path of a socket that the system has no room for.
///
/// # Errors
/// How long it is, and the way out.
pub fn demand_short(socket: &Path) -> Result<()> {
    let bytes = socket.as_os_str().len();
    if bytes <= SOCKET_BYTES {
        return Ok(());
    }
    let shown = socket.display();
    let text =
        format!("the path of the socket `{shown}` has {bytes} bytes, {SOCKET_BYTES} at most");
    Err(hinted(text, "choose a shorter `--state DIR`, or set `socket` in `[api]` of agent.toml"))
}

/// The agent's places on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directory of identity, pins and database.
    pub state: PathBuf,
    /// `agent.toml`.
    pub config: PathBuf,
    /// Socket of the local API.
    pub socket: PathBuf,
    /// Where that socket is if the agent runs with a runtime directory and this process without, as
    /// cron starts it, or the other way round.
    pub elsewhere: Option<PathBuf>,
    /// Directory of the credentials that systemd gave to this program.
    pub given: Option<PathBuf>,
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
        Self::decide(rustix::process::geteuid().as_raw(), state, config, env)
    }

    /// Returns the places of the host's agent, which root runs.
    pub fn of_host(config: Option<PathBuf>) -> Self {
        Self {
            state: "/var/lib/vault-agent".into(),
            config: config.unwrap_or_else(|| "/etc/vault-agent/agent.toml".into()),
            socket: "/run/vault-agent/agent.sock".into(),
            elsewhere: None,
            given: None,
        }
    }

    fn decide(
        uid: u32,
        state: Option<PathBuf>,
        config: Option<PathBuf>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A place that depends on where a program was started is another one each time.
        let whole = |name: &str| match set(name) {
            Some(path) if path.is_relative() => Err(hinted(
                format!("`{name}` is `{}`, which does not start with `/`", path.display()),
                format!("set {name} to a whole path, or unset it"),
            )),
            path => Ok(path),
        };
        let given = set("CREDENTIALS_DIRECTORY");
        let state = match state {
            Some(state) => Some(std::path::absolute(state)?),
            None => whole("VAULT_STATE_DIR")?,
        };
        if let Some(state) = state {
            let config = config.unwrap_or_else(|| state.join("agent.toml"));
            let socket = state.join("agent.sock");
            return Ok(Self { state, config, socket, elsewhere: None, given });
        }
        if uid == 0 {
            return Ok(Self { given, ..Self::of_host(config) });
        }
        let folder = |variable: &str, below: &str| -> Result<PathBuf> {
            let folder = match whole(variable)? {
                Some(folder) => Some(folder),
                None => whole("HOME")?.map(|home| home.join(below)),
            };
            folder.ok_or_else(|| {
                hinted("neither `HOME` nor the XDG variables are set", "pass `--state DIR`")
            })
        };
        let state = folder("XDG_STATE_HOME", ".local/state")?.join("vault-agent");
        let config = match config {
            Some(config) => config,
            None => folder("XDG_CONFIG_HOME", ".config")?.join("vault-agent/agent.toml"),
        };
        // Without a runtime directory the socket lives beside the state: never in `/tmp`.
        let below = |runtime: PathBuf| runtime.join("vault-agent/agent.sock");
        let (socket, elsewhere) = match whole("XDG_RUNTIME_DIR")? {
            Some(runtime) => (below(runtime), Some(state.join("agent.sock"))),
            None => (state.join("agent.sock"), Some(below(format!("/run/user/{uid}").into()))),
        };
        Ok(Self { state, config, socket, elsewhere, given })
    }

    /// Returns the sockets where this user's agent may listen, in the order to try.
    pub fn sockets(&self) -> Vec<PathBuf> {
        [&self.socket].into_iter().chain(&self.elsewhere).cloned().collect()
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

    /// Returns the note that this user's lingering was begun for the agent: beside the state.
    pub fn lingering(&self) -> PathBuf {
        let mut name = self.state.file_name().unwrap_or_default().to_owned();
        name.push(".linger");
        self.state.with_file_name(name)
    }

    /// Returns the directory of admin key files.
    pub fn admin(&self) -> PathBuf {
        self.state.join("admin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(uid: u32, flags: [Option<&str>; 2], variables: &[(&str, &str)]) -> Result<Paths> {
        let [state, config] = flags.map(|flag| flag.map(PathBuf::from));
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Paths::decide(uid, state, config, env)
    }

    #[test]
    fn places_follow_flags_then_who_runs() {
        let check = |uid, flags, variables: &[_], expected: [&str; 3]| {
            let [state, config, socket] = expected.map(PathBuf::from);
            let found = decide(uid, flags, variables).unwrap();
            assert_eq!((&found.state, &found.config, &found.socket), (&state, &config, &socket));
        };
        let user = [("HOME", "/home/j")];
        let xdg = [
            user[0],
            ("XDG_STATE_HOME", "/s"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ];
        let told = ["/d", "/d/agent.toml", "/d/agent.sock"];
        check(0, [Some("/d"), None], &[], told);
        check(0, [None, None], &[("VAULT_STATE_DIR", "/d")], told);
        check(7, [Some("/d"), Some("/x.toml")], &user, ["/d", "/x.toml", "/d/agent.sock"]);
        let host =
            ["/var/lib/vault-agent", "/etc/vault-agent/agent.toml", "/run/vault-agent/agent.sock"];
        check(0, [None, None], &[], host);
        let below_home = [
            "/home/j/.local/state/vault-agent",
            "/home/j/.config/vault-agent/agent.toml",
            "/home/j/.local/state/vault-agent/agent.sock",
        ];
        check(7, [None, None], &user, below_home);
        let named =
            ["/s/vault-agent", "/c/vault-agent/agent.toml", "/run/user/1/vault-agent/agent.sock"];
        check(7, [None, None], &xdg, named);
    }

    #[test]
    fn an_agent_with_another_environment_is_found() {
        let sockets =
            |uid, flags, variables: &[_]| decide(uid, flags, variables).unwrap().sockets();
        let home = ("HOME", "/h");
        let (beside, own) =
            ("/h/.local/state/vault-agent/agent.sock", "/run/user/7/vault-agent/agent.sock");
        assert_eq!(sockets(7, [None, None], &[home]), [PathBuf::from(beside), own.into()]);
        let session = [home, ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(sockets(7, [None, None], &session), [PathBuf::from(own), beside.into()]);
        // An agent that was chosen is no other.
        assert_eq!(sockets(7, [Some("/d"), None], &[home]), [PathBuf::from("/d/agent.sock")]);
        assert_eq!(sockets(0, [None, None], &[]), [PathBuf::from("/run/vault-agent/agent.sock")]);
    }

    #[test]
    fn a_flag_is_taken_from_where_the_program_was_started() {
        let paths = decide(7, [Some("state"), None], &[]).unwrap();
        assert_eq!(paths.state, env::current_dir().unwrap().join("state"));
    }

    #[test]
    fn relative_places_are_refused() {
        let user = ("HOME", "/home/j");
        for (name, variables) in [
            ("XDG_STATE_HOME", &[user, ("XDG_STATE_HOME", "state")][..]),
            ("XDG_CONFIG_HOME", &[user, ("XDG_CONFIG_HOME", "./c")]),
            ("XDG_RUNTIME_DIR", &[user, ("XDG_RUNTIME_DIR", "run")]),
            ("HOME", &[("HOME", "home")]),
            ("VAULT_STATE_DIR", &[user, ("VAULT_STATE_DIR", "state")]),
        ] {
            let fault = decide(1000, [None, None], variables).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("`{name}` is `")), "{fault}");
            assert!(fault.ends_with("does not start with `/`"), "{fault}");
        }
    }

    #[test]
    fn a_socket_has_a_short_path() {
        let path = |bytes: usize| PathBuf::from(format!("/{}", "s".repeat(bytes - 1)));
        demand_short(&path(107)).unwrap();
        let fault = demand_short(&path(108)).unwrap_err().to_string();
        assert!(fault.ends_with("has 108 bytes, 107 at most"), "{fault}");
    }

    #[test]
    fn a_user_without_home_is_told_what_to_pass() {
        let fault = decide(7, [None, None], &[]).unwrap_err();
        assert_eq!(host::hint::hint(&fault).as_deref(), Some("pass `--state DIR`"));
    }
}
