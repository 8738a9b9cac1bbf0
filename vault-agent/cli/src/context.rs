//! What every command knows: the flags before or behind any verb, the environment, the terminal,
//! the clock.
//!
//! The only reader of the environment in the CLI. Flags win over variables, and nothing is looked
//! up until it is asked for.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use shared::duration;
use shared::time::Time;

use crate::client::tls;
use crate::client::{self, Client, Endpoint};
use crate::print::{self, Format};
use host::hint::{Exit, Failure};
use host::term::Term;
use machine::paths::Paths;

/// Flags of every command, with HashiCorp's names; help shows them by `vault help flags` alone.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Talk to this API: https://, http:// or unix:// [env: VAULT_ADDR; default: this machine's
    /// agent]
    #[arg(long, global = true, hide = true, value_name = "URL")]
    pub address: Option<String>,
    /// Talk to this agent instead [env: VAULT_AGENT_ADDR]
    #[arg(long, global = true, hide = true, value_name = "URL")]
    pub agent_address: Option<String>,
    /// Print as table, json, yaml, pretty or raw; kv get also as env [env: VAULT_FORMAT]
    #[arg(long, global = true, hide = true, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Use the agent with this state directory [env: VAULT_STATE_DIR]
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Read the agent's configuration from here
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask nothing; fail where an answer would be needed
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    pub non_interactive: Option<bool>,
    /// Trust the certificates in this PEM file [env: VAULT_CACERT]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Trust the certificates in this directory [env: VAULT_CAPATH]
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub ca_path: Option<PathBuf>,
    /// Show this certificate to the server [env: VAULT_CLIENT_CERT]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Key of that certificate [env: VAULT_CLIENT_KEY]
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Expect this name in the server's certificate [env: VAULT_TLS_SERVER_NAME]
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Accept any certificate: for tests only [env: VAULT_SKIP_VERIFY]
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    pub tls_skip_verify: Option<bool>,
    /// Send this namespace [env: VAULT_NAMESPACE]
    #[arg(long, global = true, hide = true, value_name = "NAME", visible_alias = "ns")]
    pub namespace: Option<String>,
    /// Send a header, NAME=VALUE; repeatable
    #[arg(long = "header", global = true, hide = true, value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Ask for the answer to be wrapped in a token that lives this long [env: VAULT_WRAP_TTL]
    #[arg(long, global = true, hide = true, value_name = "DURATION")]
    pub wrap_ttl: Option<String>,
    /// Send this second factor; repeatable [env: VAULT_MFA]
    #[arg(long, global = true, hide = true, value_name = "VALUE")]
    pub mfa: Vec<String>,
    /// Override soft-mandatory policies of the server
    #[arg(long, global = true, hide = true)]
    pub policy_override: bool,
    /// Follow no redirect [env: VAULT_DISABLE_REDIRECTS]
    #[arg(long, global = true, hide = true)]
    pub disable_redirects: bool,
    /// Print a line for curl instead of making the request
    #[arg(long, global = true, hide = true)]
    pub output_curl_string: bool,
    /// Print the policy that the request needs instead of making it
    #[arg(long, global = true, hide = true)]
    pub output_policy: bool,
}

/// Reads a truth value as Go's `ParseBool` does.
///
/// # Errors
/// Says which words are understood.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Looks an environment variable up.
pub type Env = Box<dyn Fn(&str) -> Option<String>>;

/// What every command knows.
pub struct Global {
    /// Flags of every command.
    pub flags: Flags,
    /// The standard streams.
    pub term: Term,
    env: Env,
    clock: fn() -> Time,
}

impl Global {
    /// Puts together what commands know; nothing is looked up yet.
    #[must_use]
    pub fn new(flags: Flags, term: Term, env: Env, clock: fn() -> Time) -> Self {
        Self { flags, term, env, clock }
    }

    /// Returns an environment variable; an empty one counts as absent.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Returns the time now.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Returns how to print.
    ///
    /// # Errors
    /// `Invalid output format`, as HashiCorp's.
    pub fn format(&self) -> Result<Format, Failure> {
        match self.flags.format.clone().or_else(|| self.env("VAULT_FORMAT")) {
            Some(text) => text.parse(),
            None => Ok(Format::Table),
        }
    }

    /// Returns how to print what a change is answered with; refused before anything is changed, not
    /// after.
    ///
    /// # Errors
    /// As [`Global::format`]; formats that no answer has.
    pub fn format_of_answer(&self) -> Result<Format, Failure> {
        match self.format()? {
            format @ (Format::Raw | Format::Env) => {
                print::data(format, &serde_json::Value::Null).map(|_| format)
            }
            format => Ok(format),
        }
    }

    /// Prints a table for people, data for programs.
    ///
    /// # Errors
    /// A format that no data has, or a stream that is closed.
    pub fn show(
        &self,
        format: Format,
        table: impl FnOnce() -> String,
        data: &impl Serialize,
    ) -> anyhow::Result<Exit> {
        let text = match format {
            Format::Table => table(),
            other => print::data(other, &serde_json::to_value(data)?)?,
        };
        self.term.line(text)?;
        Ok(Exit::OK)
    }

    /// Tells whether a person can be asked.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        self.term.in_is_tty && !self.flags.non_interactive.unwrap_or(false)
    }

    /// Tells whether stdout may be coloured.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.term.out_is_tty
            && self.env("NO_COLOR").is_none()
            && self.env("VAULT_CLI_NO_COLOR").is_none()
            && self.env("TERM").is_none_or(|term| term != "dumb")
    }

    /// Returns where the agent of this machine keeps its things.
    ///
    /// # Errors
    /// When neither a flag nor the environment tells where they are.
    pub fn paths(&self) -> anyhow::Result<Paths> {
        let flags = &self.flags;
        Paths::resolve_in(flags.state.clone(), flags.config.clone(), |name| self.env(name))
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.env("HOME").map(PathBuf::from)
    }

    /// Connects nothing yet: makes the client for the API that flags and environment choose.
    ///
    /// # Errors
    /// A malformed address, header or time limit.
    pub fn client(&self) -> Result<Client, client::Error> {
        let place = self.place()?;
        let options = self.options(self.token(&place), false)?;
        Client::new(place, options)
    }

    /// As [`Global::client`], for what is not to wait for the server.
    ///
    /// # Errors
    /// As [`Global::client`].
    pub fn offline_client(&self) -> Result<Client, client::Error> {
        let place = self.place()?;
        let options = self.options(self.token(&place), true)?;
        Client::new(place, options)
    }

    /// As [`Global::client`], where `VAULT_TOKEN` is for somebody else: this machine's agent is not
    /// shown it.
    ///
    /// # Errors
    /// As [`Global::client`].
    pub fn tokenless_client(&self) -> Result<Client, client::Error> {
        let place = self.place()?;
        let token = match place {
            Endpoint::Agent { .. } => None,
            Endpoint::Unix(_) | Endpoint::Tcp(_) => self.token(&place),
        };
        let options = self.options(token, false)?;
        Client::new(place, options)
    }

    /// Makes a client for names that nobody can wait for: it starts no agent, and gives up soon.
    #[must_use]
    pub fn hasty_client(&self, patience: Duration) -> Option<Client> {
        let place = self.place().ok()?;
        let token = self.token(&place);
        let place = match place {
            Endpoint::Agent { sockets, .. } => {
                let answers =
                    |socket: &PathBuf| std::os::unix::net::UnixStream::connect(socket).is_ok();
                Endpoint::Unix(sockets.into_iter().find(answers)?)
            }
            named => named,
        };
        let options = self.options(token, false).ok()?;
        Client::new(place, client::Options { timeout: patience, retries: 0, ..options }).ok()
    }

    /// Puts together what goes with requests to any API.
    ///
    /// # Errors
    /// A malformed header, number or time limit.
    pub fn options(
        &self,
        token: Option<String>,
        offline: bool,
    ) -> Result<client::Options, client::Error> {
        let flags = &self.flags;
        let show = match (flags.output_curl_string, flags.output_policy) {
            (true, _) => Some(client::Show::Curl),
            (false, true) => Some(client::Show::Policy),
            (false, false) => None,
        };
        Ok(client::Options {
            token,
            namespace: flags.namespace.clone().or_else(|| self.env("VAULT_NAMESPACE")),
            headers: self.headers()?,
            timeout: self.timeout()?,
            tls: self.tls()?,
            retries: self.retries()?,
            redirects: !flags.disable_redirects && !self.is_set("VAULT_DISABLE_REDIRECTS")?,
            offline,
            show,
        })
    }

    fn headers(&self) -> Result<Vec<(String, String)>, client::Error> {
        let flags = &self.flags;
        let mut headers = Vec::new();
        for header in &flags.headers {
            let Some((name, value)) = header.split_once('=') else {
                return Err(client::Error::Setup(format!("header `{header}` is not NAME=VALUE")));
            };
            if name.to_ascii_lowercase().starts_with("x-vault-") {
                return Err(client::Error::Setup(format!(
                    "failed to setup Headers[{name}]: Header starting by 'X-Vault-' are for internal usage only"
                )));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        if let Some(ttl) = flags.wrap_ttl.clone().or_else(|| self.env("VAULT_WRAP_TTL")) {
            headers.push(("X-Vault-Wrap-TTL".to_owned(), ttl));
        }
        let mfa = flags.mfa.iter().cloned().chain(self.env("VAULT_MFA"));
        headers.extend(mfa.map(|value| ("X-Vault-MFA".to_owned(), value)));
        if flags.policy_override {
            headers.push(("X-Vault-Policy-Override".to_owned(), "true".to_owned()));
        }
        Ok(headers)
    }

    /// HashiCorp's CLI does not try again unless told to.
    fn retries(&self) -> Result<u32, client::Error> {
        let Some(text) = self.env("VAULT_MAX_RETRIES") else { return Ok(0) };
        text.parse().map_err(|_| {
            client::Error::Setup(format!("VAULT_MAX_RETRIES `{text}` is not a number"))
        })
    }

    fn is_set(&self, name: &str) -> Result<bool, client::Error> {
        let Some(text) = self.env(name) else { return Ok(false) };
        boolean(&text).map_err(|why| client::Error::Setup(format!("{name} `{text}`: {why}")))
    }

    /// A flag beats a variable; then an address beats a state directory.
    fn place(&self) -> Result<Endpoint, client::Error> {
        let flags = &self.flags;
        if let Some(url) = flags.agent_address.as_ref().or(flags.address.as_ref()) {
            return Endpoint::parse(url);
        }
        if flags.state.is_none()
            && let Some(url) = self.env("VAULT_AGENT_ADDR").or_else(|| self.env("VAULT_ADDR"))
        {
            return Endpoint::parse(&url);
        }
        let paths = self.paths().map_err(|why| client::Error::Setup(format!("{why:#}")))?;
        // A user without an agent of his own asks the machine's.
        let machine = PathBuf::from("/run/vault-agent/agent.sock");
        let chosen = flags.state.is_some() || self.env("VAULT_STATE_DIR").is_some();
        let mut sockets = vec![paths.socket.clone()];
        if !chosen && paths.socket != machine {
            sockets.push(machine);
        }
        Ok(Endpoint::Agent { sockets, paths })
    }

    /// `~/.vault-token` belongs to the server that one logged in to, so only a named address gets
    /// it.
    fn token(&self, place: &Endpoint) -> Option<String> {
        match place {
            Endpoint::Agent { .. } => self.env_token(),
            Endpoint::Unix(_) | Endpoint::Tcp(_) => self.saved_token(),
        }
    }

    /// Returns the token of the environment, else the one that a login has saved.
    #[must_use]
    pub fn saved_token(&self) -> Option<String> {
        let saved = || std::fs::read_to_string(self.home()?.join(".vault-token")).ok();
        self.env_token()
            .or_else(|| saved().map(|token| token.trim().to_owned()))
            .filter(|token| !token.is_empty())
    }

    fn env_token(&self) -> Option<String> {
        let token = self.env("VAULT_TOKEN").map(|token| token.trim().to_owned());
        token.filter(|token| !token.is_empty())
    }

    fn timeout(&self) -> Result<Duration, client::Error> {
        const DEFAULT: Duration = Duration::from_secs(60);
        let Some(text) = self.env("VAULT_CLIENT_TIMEOUT") else { return Ok(DEFAULT) };
        let micros = duration::parse_or_seconds(&text);
        let positive = micros.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
        positive.map(Duration::from_micros).ok_or_else(|| {
            client::Error::Setup(format!(
                "VAULT_CLIENT_TIMEOUT `{text}` is not a duration such as 60s"
            ))
        })
    }

    fn tls(&self) -> Result<tls::Options, client::Error> {
        let file = |flag: &Option<PathBuf>, name| {
            flag.clone().or_else(|| self.env(name).map(PathBuf::from))
        };
        let skip_verify = match self.flags.tls_skip_verify {
            Some(flag) => flag,
            None => self.is_set("VAULT_SKIP_VERIFY")?,
        };
        Ok(tls::Options {
            ca_cert: file(&self.flags.ca_cert, "VAULT_CACERT"),
            ca_path: file(&self.flags.ca_path, "VAULT_CAPATH"),
            client_cert: file(&self.flags.client_cert, "VAULT_CLIENT_CERT"),
            client_key: file(&self.flags.client_key, "VAULT_CLIENT_KEY"),
            server_name: self
                .flags
                .tls_server_name
                .clone()
                .or_else(|| self.env("VAULT_TLS_SERVER_NAME")),
            skip_verify,
        })
    }
}
