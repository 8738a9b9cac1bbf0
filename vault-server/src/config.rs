//! The configuration file, and the places that the environment names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use host::account;
use host::config_fault::ConfigFault;
use host::hint::hinted;
use host::logging::Log;
use host::shown::quoted;

/// Name of the file inside a data directory that was chosen by hand.
const FILE: &str = "server.toml";

/// What `vault-server` runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Directory of the database and the server key.
    pub data: PathBuf,
    /// `host:port` under which agents reach this server, in the order to try.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Where `/healthz` and `/metrics` are served, loopback only.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// Where log, blobs and audit records are kept.
    #[serde(default)]
    pub store: Store,
    /// Sizes and times of connections.
    #[serde(default)]
    pub limits: Limits,
    /// What one machine may take.
    #[serde(default)]
    pub shares: Shares,
    /// How long audit records are kept.
    #[serde(default)]
    pub audit: Audit,
    /// Where backups go, and how often.
    #[serde(default)]
    pub backup: Backup,
    /// What is logged and how.
    #[serde(default)]
    pub log: Log,
}

/// Where log, blobs and audit records are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// A database of PostgreSQL; without one they are in the data directory.
    pub url: Option<String>,
    /// File with the password for it.
    pub password_file: Option<PathBuf>,
}

/// Sizes and times of connections, whoever is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// Largest set of request headers in bytes.
    pub header_bytes: u32,
    /// Places that strangers and unfinished handshakes share.
    pub strangers: usize,
    /// Open requests of one connection.
    pub streams: u32,
    /// Time for a TLS handshake.
    pub handshake_seconds: u64,
    /// Time for a request's body to arrive.
    pub request_seconds: u64,
    /// Time between pings; a connection that answers none in the same time again is closed.
    pub ping_seconds: u64,
    /// Time that open requests get at the end of the program.
    pub shutdown_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            header_bytes: 16 << 10,
            strangers: 64,
            streams: 100,
            handshake_seconds: 10,
            request_seconds: 30,
            ping_seconds: 10,
            shutdown_seconds: 5,
        }
    }
}

/// What one machine may take, whoever signed what it carries. The rates allow ten seconds' worth at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// Open connections.
    pub connections: usize,
    /// Open requests, the stream that follows the log not among them.
    pub requests: usize,
    /// Bytes of answers that it has not read yet.
    pub answer_bytes: usize,
    /// Slowest pace of a request's body, in bytes per second.
    pub body_pace: u64,
    /// Requests.
    pub requests_per_second: u64,
    /// Bytes of requests and answers, and of archived audit records that are looked through.
    pub bytes_per_second: u64,
    /// Bytes of entries, on disk and in the memory of all who fold the log.
    pub log_bytes_per_day: u64,
    /// Bytes of blobs.
    pub blob_bytes_per_day: u64,
    /// Bytes of audit records.
    pub audit_bytes_per_day: u64,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            connections: 4,
            requests: 16,
            answer_bytes: 4 << 20,
            body_pace: 16 << 10,
            requests_per_second: 4000,
            bytes_per_second: 32 << 20,
            log_bytes_per_day: 128 << 20,
            blob_bytes_per_day: 512 << 20,
            audit_bytes_per_day: 64 << 20,
        }
    }
}

/// A day, in microseconds.
pub const DAY: u64 = 86_400_000_000;
/// An hour, in microseconds.
const HOUR: u64 = 3_600_000_000;

/// How long audit records are kept. No clock ever deletes one: only the archive's size does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Age in microseconds at which records go from the database into sealed files; 0 for none.
    #[serde(deserialize_with = "age")]
    pub keep: u64,
    /// Bytes of records in the database; the oldest of more go into sealed files.
    pub database_bytes: u64,
    /// Bytes of sealed files; the oldest of more are deleted.
    pub archive_bytes: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep: 400 * DAY, database_bytes: 256 << 20, archive_bytes: 1 << 30 }
    }
}

/// Backups that the server makes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Their folder; without one there are none.
    pub dir: Option<PathBuf>,
    /// Microseconds between two.
    #[serde(deserialize_with = "every")]
    pub every: u64,
    /// How many stay there.
    #[serde(deserialize_with = "kept")]
    pub keep: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self { dir: None, every: DAY, keep: 7 }
    }
}

fn every<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let micros = shared::duration::parse(&text).and_then(|micros| u64::try_from(micros).ok());
    micros.filter(|micros| *micros >= HOUR).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no time of an hour or more, as in 24h"))
    })
}

fn kept<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let keep = u32::deserialize(deserializer)?;
    let why = || serde::de::Error::custom(format!("is {keep}, but must be 1 to 10000"));
    if (1..=10_000).contains(&keep) { Ok(keep) } else { Err(why()) }
}

fn age<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let micros = shared::duration::parse(&text).and_then(|micros| u64::try_from(micros).ok());
    micros.filter(|micros| *micros == 0 || *micros >= DAY).ok_or_else(|| {
        let why = format!("`{text}` is neither 0 nor a time of a day or more, as in 400d");
        serde::de::Error::custom(why)
    })
}

/// A commented configuration with every key at its default.
pub const EXAMPLE: &str = include_str!("example.toml");

impl Config {
    /// Parses a configuration; `file` is only named in errors.
    ///
    /// # Errors
    /// If a key in it is unknown, malformed or out of range.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigFault> {
        let config: Self = toml::from_str(text)
            .map_err(|why| ConfigFault::toml(file, text, &why).with_hint(EXAMPLE_HINT))?;
        config.check().map_err(|(key, why)| {
            let at = host::config_fault::line_of(text, key);
            ConfigFault::at(file, text, at, Some(key), &why).with_hint(EXAMPLE_HINT)
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.data.is_absolute() {
            return Err(("data", format!("`{}` is not an absolute path", self.data.display())));
        }
        if let Some(addr) = self.metrics_listen.filter(|addr| !addr.ip().is_loopback()) {
            return Err(("metrics_listen", format!("`{addr}` is not a loopback address")));
        }
        if let Some(bad) = self.addresses.iter().find(|address| !is_host_port(address)) {
            return Err(("addresses", format!("holds `{bad}`, which is not host:port")));
        }
        if let Some(dir) = self.backup.dir.as_ref().filter(|dir| !dir.is_absolute()) {
            return Err(("dir", format!("`{}` is not an absolute path", dir.display())));
        }
        let Store { url, password_file } = &self.store;
        let is_known =
            |url: &str| ["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it));
        if url.as_ref().is_some_and(|url| !is_known(url)) {
            return Err(("url", "does not begin with `postgres://`".to_owned()));
        }
        if let Some(file) = password_file.as_ref().filter(|file| !file.is_absolute()) {
            return Err(("password_file", format!("`{}` is not an absolute path", file.display())));
        }
        let Self { limits, shares, .. } = self;
        let any = (1, 1 << 50);
        let ranges = [
            ("body_bytes", limits.body_bytes as u64, 2 << 20, 256 << 20),
            ("header_bytes", limits.header_bytes.into(), 1 << 10, 1 << 20),
            ("strangers", limits.strangers as u64, 4, 4096),
            ("streams", limits.streams.into(), 4, 4096),
            ("handshake_seconds", limits.handshake_seconds, 1, 300),
            ("request_seconds", limits.request_seconds, 1, 3600),
            ("ping_seconds", limits.ping_seconds, 1, 3600),
            ("shutdown_seconds", limits.shutdown_seconds, 0, 300),
            ("connections", shares.connections as u64, 1, 1024),
            ("requests", shares.requests as u64, 4, 4096),
            ("answer_bytes", shares.answer_bytes as u64, 2 << 20, 1 << 30),
            ("body_pace", shares.body_pace, 1, 1 << 30),
            ("requests_per_second", shares.requests_per_second, any.0, any.1),
            ("bytes_per_second", shares.bytes_per_second, any.0, any.1),
            ("log_bytes_per_day", shares.log_bytes_per_day, any.0, any.1),
            ("blob_bytes_per_day", shares.blob_bytes_per_day, any.0, any.1),
            ("audit_bytes_per_day", shares.audit_bytes_per_day, any.0, any.1),
            ("database_bytes", self.audit.database_bytes, 8 << 20, 1 << 40),
            ("archive_bytes", self.audit.archive_bytes, 0, 1 << 50),
        ];
        for (key, value, least, most) in ranges {
            if value < least || value > most {
                return Err((key, format!("is {value}, but must be {least} to {most}")));
            }
        }
        Ok(())
    }
}

const MISSING_HINT: &str = "run `vault-server init` first, or name the file with --config";
const EXAMPLE_HINT: &str = "`vault-server config example` prints every key with its meaning";

/// Tells whether `text` is a host name or address, a colon and a port.
pub fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        !bare.is_empty()
            && bare.chars().all(plain)
            && (bare.len() < host.len() || !bare.contains(':'))
            && port.parse::<u16>().is_ok()
    })
}

/// Where configuration and data live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The configuration file.
    pub config: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Whether the data directory was given by hand.
    given: bool,
}

impl Places {
    /// Finds both: as given; else beside each other in a data directory given; else where the
    /// system keeps them, or under the user's own directories.
    ///
    /// # Errors
    /// If the current directory or the user's home is unknown.
    pub fn find(config: Option<&Path>, data: Option<&Path>) -> Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path).context("no current directory");
        let mut places = match data {
            Some(data) => {
                let data = absolute(data)?;
                Self { config: data.join(FILE), data, given: true }
            }
            None if rustix::process::geteuid().is_root() => Self::of_host(),
            None => Self {
                config: home("XDG_CONFIG_HOME", ".config")?.join(FILE),
                data: home("XDG_STATE_HOME", ".local/state")?,
                given: false,
            },
        };
        if let Some(config) = config {
            places.config = absolute(config)?;
        }
        Ok(places)
    }

    /// Returns the command that starts a server here, to be typed.
    pub fn run_command(&self) -> String {
        let data = self.given.then_some(&*self.data);
        let is_usual = Self::find(None, data).is_ok_and(|usual| usual.config == self.config);
        let config = (!is_usual).then_some(&*self.config);
        let flag = |(flag, path): (&str, Option<&Path>)| {
            path.map(|path| format!(" {flag} {}", quoted(&path.to_string_lossy())))
        };
        let flags = [("--config", config), ("--data", data)].into_iter().filter_map(flag);
        format!("vault-server run{}", flags.collect::<String>())
    }

    /// Returns those of a server that serves a whole host.
    pub fn of_host() -> Self {
        Self {
            config: "/etc/vault-server/server.toml".into(),
            data: "/var/lib/vault-server".into(),
            given: false,
        }
    }

    /// Returns where the configuration is on another host whose files are below a folder.
    pub fn below(&self, root: &Path) -> Self {
        let config = self.config.strip_prefix("/").unwrap_or(&self.config);
        Self { config: root.join(config), ..self.clone() }
    }

    /// Returns the data directory and where the database is, whether there is a configuration or
    /// not.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn kept(&self) -> Result<(PathBuf, Store), ConfigFault> {
        match self.read() {
            Ok(config) => Ok((config.data, config.store)),
            Err(why) if why.missing => Ok((self.data.clone(), Store::default())),
            Err(why) => Err(why),
        }
    }

    /// Reads the configuration; a data directory given by hand goes before its own.
    ///
    /// # Errors
    /// As [`Config::parse`], and if the file cannot be read.
    pub fn read(&self) -> Result<Config, ConfigFault> {
        let file = &self.config;
        let text = std::fs::read_to_string(file).map_err(|why| {
            let fault = ConfigFault::unread(file, &why);
            if fault.missing { fault.with_hint(MISSING_HINT) } else { fault }
        })?;
        let mut config = Config::parse(file, &text)?;
        if self.given {
            config.data.clone_from(&self.data);
        }
        Ok(config)
    }
}

/// Returns the directory of the credentials that systemd gave to this program.
pub fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn home(variable: &str, below: &str) -> Result<PathBuf> {
    let folder = account::folder(variable, below).map(|folder| folder.join("vault-server"));
    folder.ok_or_else(|| hinted("the home directory is unknown", "name one with --data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        format!("{:#}", Config::parse(Path::new("f.toml"), text).unwrap_err())
    }

    #[test]
    fn the_example_holds_every_default() {
        let config = Config::parse(Path::new("example"), EXAMPLE).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.shares, Shares::default());
        assert_eq!(config.audit, Audit::default());
        assert_eq!(config.backup, Backup::default());
        assert_eq!(config.log, Log::default());
        let commented = EXAMPLE.replace("# metrics_listen", "metrics_listen");
        assert!(Config::parse(Path::new("example"), &commented).unwrap().metrics_listen.is_some());
    }

    #[test]
    fn faults_name_file_line_and_key() {
        let base = "listen = \"127.0.0.1:8443\"\ndata = \"/d\"\n";
        for (added, message) in [
            (
                "colour = 1\n",
                "`f.toml` line 3, key `colour`: unknown field `colour`, \
                 expected one of `listen`, `data`, `addresses`, `metrics_listen`, \
                 `store`, `limits`, `shares`, `audit`, `backup`, `log`",
            ),
            (
                "[limits]\nstreams = \"many\"\n",
                "`f.toml` line 4, key `streams`: invalid type: string \"many\", expected u32",
            ),
            (
                "[limits]\nstrangers = 1\n",
                "`f.toml` line 4, key `strangers`: is 1, but must be 4 to 4096",
            ),
            (
                "[shares]\nconnections = 0\n",
                "`f.toml` line 4, key `connections`: is 0, but must be 1 to 1024",
            ),
            (
                "metrics_listen = \"0.0.0.0:9000\"\n",
                "`f.toml` line 3, key `metrics_listen`: `0.0.0.0:9000` is not a loopback address",
            ),
            (
                "addresses = [\"vault\"]\n",
                "`f.toml` line 3, key `addresses`: holds `vault`, which is not host:port",
            ),
            (
                "[audit]\nkeep = \"90m\"\n",
                "`f.toml` line 4, key `keep`: `90m` is neither 0 nor a time of a day or more, as in 400d",
            ),
            (
                "[audit]\ndatabase_bytes = 1\n",
                "`f.toml` line 4, key `database_bytes`: is 1, but must be 8388608 to 1099511627776",
            ),
            (
                "[backup]\nevery = \"5m\"\n",
                "`f.toml` line 4, key `every`: `5m` is no time of an hour or more, as in 24h",
            ),
            (
                "[store]\nurl = \"mysql://db\"\n",
                "`f.toml` line 4, key `url`: does not begin with `postgres://`",
            ),
            ("[backup]\nkeep = 0\n", "`f.toml` line 4, key `keep`: is 0, but must be 1 to 10000"),
            (
                "[log]\nlevel = \"loud\"\n",
                "`f.toml` line 4, key `level`: unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
            ),
        ] {
            assert_eq!(fault(&format!("{base}{added}")), message);
        }
        let pasted = format!("{EXAMPLE}\n[backup] # pasted\nkeep = 3\n");
        let first = 1 + EXAMPLE.lines().position(|line| line == "[backup]").unwrap();
        let message = format!("key `backup`: the table begins at line {first} already: write its");
        assert!(fault(&pasted).contains(&message), "{}", fault(&pasted));
        assert_eq!(
            fault("listen = \"127.0.0.1:1\"\ndata = \"d\"\n"),
            "`f.toml` line 2, key `data`: `d` is not an absolute path"
        );
    }

    #[test]
    fn the_command_names_places_given_by_hand() {
        let places = Places::find(None, Some(Path::new("/d"))).unwrap();
        assert_eq!(places.run_command(), "vault-server run --data /d");
    }

    #[test]
    fn addresses_have_host_and_port() {
        for good in ["10.8.0.3:8443", "vault.example:1", "[::1]:8443", "localhost:0"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in ["", "vault", ":8443", "::1:8443", "a:99999", "a b:1", "[]:1", "http://a:1"] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}
