//! What every command knows: the flags before or behind any verb, the environment, the terminal,
//! the clock.
//!
//! The only reader of the environment in the CLI. Flags win over variables, and nothing is looked
//! up until it is asked for.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use shared::audit;
use shared::duration;
use shared::time::Time;

use crate::argv::boolean;
use crate::client::{self, Client, Endpoint, Error, tls};
use crate::print::{self, Format};
use host::hint::{Exit, Failure};
use host::shown::Shown;
use host::term::Term;
use machine::ai_tools;
use machine::local::{AI_AGENT, NO_WAIT, REASON};
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
    #[command(flatten)]
    pub tls: tls::Options,
    /// Send this namespace [env: VAULT_NAMESPACE]
    #[arg(long, global = true, hide = true, value_name = "NAME", visible_alias = "ns")]
    pub namespace: Option<String>,
    /// Send a header, NAME=VALUE; repeatable
    #[arg(long = "header", global = true, hide = true, value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Ask another Vault to wrap its answer in a token that lives this long [env: VAULT_WRAP_TTL]
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
    /// Say why, on one line; it stands in the audit log [env: VAULT_REASON]
    #[arg(long, global = true, hide = true, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do not wait until this host's own files have what was written
    #[arg(long, global = true, hide = true)]
    pub no_wait: bool,
    /// Print a line for curl instead of making the request
    #[arg(long, global = true, hide = true)]
    pub output_curl_string: bool,
    /// Print the policy that the request needs instead of making it
    #[arg(long, global = true, hide = true)]
    pub output_policy: bool,
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
    pub fn new(flags: Flags, term: Term, env: Env, clock: fn() -> Time) -> Self {
        Self { flags, term, env, clock }
    }

    /// Returns an environment variable; an empty one counts as absent.
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Returns the time now.
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Returns how to print.
    pub fn format(&self) -> Result<Format, Failure> {
        let text = self.flags.format.clone().or_else(|| self.env("VAULT_FORMAT"));
        text.map_or(Ok(Format::Table), |text| text.parse())
    }

    /// Returns how to print what a change is answered with; refused before anything is changed, not
    /// after.
    pub fn format_of_answer(&self) -> Result<Format, Failure> {
        let format = self.format()?;
        if matches!(format, Format::Raw | Format::Env) {
            print::data(format, &serde_json::Value::Null)?;
        }
        Ok(format)
    }

    /// Prints a table for people, data for programs.
    ///
    /// # Errors
    /// A format that no data has, or a stream that is closed.
    pub fn show(
        &self,
        format: Format,
        table: impl FnOnce() -> Shown,
        data: &impl Serialize,
    ) -> anyhow::Result<Exit> {
        match format {
            Format::Table => self.term.line(table())?,
            other => self.term.document(print::data(other, &serde_json::to_value(data)?)?)?,
        }
        Ok(Exit::OK)
    }

    /// Tells whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        self.term.in_is_tty && !self.flags.non_interactive.unwrap_or(false)
    }

    /// Tells whether stdout may be coloured.
    pub fn colour(&self) -> bool {
        self.term.out_is_tty
            && self.env("NO_COLOR").is_none()
            && self.env("VAULT_CLI_NO_COLOR").is_none()
            && self.env("TERM").is_none_or(|term| term != "dumb")
    }

    /// Returns where the agent of this machine keeps its things.
    pub fn paths(&self) -> anyhow::Result<Paths> {
        let flags = &self.flags;
        Paths::resolve_in(flags.state.clone(), flags.config.clone(), |name| self.env(name))
    }

    /// Tells whether the agent's place was chosen by hand.
    pub fn has_chosen_place(&self) -> bool {
        self.flags.state.is_some() || self.env("VAULT_STATE_DIR").is_some()
    }

    /// Makes the client for the API that flags and environment choose; nothing is connected yet.
    pub fn client(&self) -> Result<Client, Error> {
        self.client_with(|_, _| {})
    }

    /// As [`Global::client`], after a change of what goes with every request.
    pub fn client_with(
        &self,
        change: impl FnOnce(&Endpoint, &mut client::Options),
    ) -> Result<Client, Error> {
        let place = self.place()?;
        if let (Endpoint::Agent { .. }, Some((name, _))) = (&place, self.wrap_ttl()) {
            let fault = Failure::local(format!("{name}: answers are not wrapped in tokens here"));
            let hint =
                "leave it out; `vault token create -path PREFIX -ttl 60s` makes a token that ends";
            return Err(Error::Setup(fault.hint(hint)));
        }
        let mut options = self.options(self.token(&place))?;
        // The agent looks for itself, but not into the environment of other users' processes.
        if place.is_here() && options.show.is_none() {
            let agent = ai_tools::by_environment(|name| self.env(name));
            options.headers.extend(agent.map(|agent| (AI_AGENT.to_owned(), agent)));
        }
        change(&place, &mut options);
        Client::new(place, options)
    }

    /// Makes a client for the agent of this very machine, whatever flags and environment name.
    pub fn own_client(&self, paths: &Paths) -> Result<Client, Error> {
        let place = Endpoint::Agent { sockets: paths.sockets(), paths: paths.clone() };
        Client::new(place, self.options(None)?)
    }

    /// Makes a client for names that nobody can wait for: it starts no agent, and gives up soon.
    pub fn hasty_client(&self, patience: Duration) -> Option<Client> {
        let place = self.place().ok()?;
        let options = self.options(self.token(&place)).ok()?;
        let answers = |socket: &PathBuf| std::os::unix::net::UnixStream::connect(socket).is_ok();
        let place = match place {
            Endpoint::Agent { sockets, .. } => Endpoint::Unix(sockets.into_iter().find(answers)?),
            named => named,
        };
        Client::new(place, client::Options { timeout: patience, retries: 0, ..options }).ok()
    }

    /// Puts together what goes with requests to any API.
    pub fn options(&self, token: Option<String>) -> Result<client::Options, Error> {
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
            offline: false,
            show,
        })
    }

    fn headers(&self) -> Result<Vec<(String, String)>, Error> {
        let flags = &self.flags;
        let mut headers = Vec::new();
        for header in &flags.headers {
            let Some((name, value)) = header.split_once('=') else {
                return Err(Error::setup(format!("header `{header}` is not NAME=VALUE")));
            };
            if name.to_ascii_lowercase().starts_with("x-vault-") {
                return Err(Error::setup(format!(
                    "failed to setup Headers[{name}]: Header starting by 'X-Vault-' are for internal usage only"
                )));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        headers.extend(self.wrap_ttl().map(|(_, ttl)| ("X-Vault-Wrap-TTL".to_owned(), ttl)));
        let mfa = flags.mfa.iter().cloned().chain(self.env("VAULT_MFA"));
        headers.extend(mfa.map(|value| ("X-Vault-MFA".to_owned(), value)));
        headers.extend(self.reason()?.map(|reason| (REASON.to_owned(), reason)));
        if flags.no_wait {
            headers.push((NO_WAIT.to_owned(), "true".to_owned()));
        }
        if flags.policy_override {
            headers.push(("X-Vault-Policy-Override".to_owned(), "true".to_owned()));
        }
        Ok(headers)
    }

    /// Returns why the command is run, if somebody says so.
    fn reason(&self) -> Result<Option<String>, Error> {
        let flag = self.flags.reason.clone().map(|text| ("--reason", text));
        let said = flag.or_else(|| Some(("VAULT_REASON", self.env("VAULT_REASON")?)));
        let Some((name, text)) = said.filter(|(_, text)| !text.is_empty()) else { return Ok(None) };
        let reason = audit::reason(&text);
        let reason = reason.map_err(|why| Error::setup(format!("{name}: {}", why.detail)))?;
        Ok(Some(reason.to_string()))
    }

    /// Returns how long the token is to live that answers are to be wrapped in, and who says so.
    fn wrap_ttl(&self) -> Option<(&'static str, String)> {
        let flag = self.flags.wrap_ttl.clone().map(|ttl| ("-wrap-ttl", ttl));
        let asked = flag.or_else(|| Some(("VAULT_WRAP_TTL", self.env("VAULT_WRAP_TTL")?)));
        // Go's client wraps nothing for no time.
        asked.filter(|(_, ttl)| !matches!(ttl.trim(), "" | "0" | "0s"))
    }

    /// HashiCorp's CLI does not try again unless told to.
    fn retries(&self) -> Result<u32, Error> {
        let Some(text) = self.env("VAULT_MAX_RETRIES") else { return Ok(0) };
        text.parse()
            .map_err(|_| Error::setup(format!("VAULT_MAX_RETRIES `{text}` is not a number")))
    }

    fn is_set(&self, name: &str) -> Result<bool, Error> {
        let Some(text) = self.env(name) else { return Ok(false) };
        boolean(&text).map_err(|why| Error::setup(format!("{name} `{text}`: {why}")))
    }

    /// A flag beats a variable; then an address beats a state directory.
    fn place(&self) -> Result<Endpoint, Error> {
        let flags = &self.flags;
        if let Some(url) = flags.agent_address.as_ref().or(flags.address.as_ref()) {
            return Endpoint::parse(url);
        }
        if flags.state.is_none()
            && let Some(url) = self.env("VAULT_AGENT_ADDR").or_else(|| self.env("VAULT_ADDR"))
        {
            return Endpoint::parse(&url);
        }
        let paths = self.paths().map_err(|why| Error::setup(format!("{why:#}")))?;
        // A user without an agent of his own asks the machine's.
        let machine = PathBuf::from("/run/vault-agent/agent.sock");
        let mut sockets = paths.sockets();
        if !self.has_chosen_place() && paths.socket != machine {
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
    pub fn saved_token(&self) -> Option<String> {
        let saved = || std::fs::read_to_string(self.env("HOME")? + "/.vault-token").ok();
        self.env_token()
            .or_else(|| saved().map(|token| token.trim().to_owned()))
            .filter(|token| !token.is_empty())
    }

    fn env_token(&self) -> Option<String> {
        let token = self.env("VAULT_TOKEN").map(|token| token.trim().to_owned());
        token.filter(|token| !token.is_empty())
    }

    fn timeout(&self) -> Result<Duration, Error> {
        const DEFAULT: Duration = Duration::from_secs(60);
        let Some(text) = self.env("VAULT_CLIENT_TIMEOUT") else { return Ok(DEFAULT) };
        let micros = duration::parse_or_seconds(&text);
        let positive = micros.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
        positive.map(Duration::from_micros).ok_or_else(|| {
            Error::setup(format!("VAULT_CLIENT_TIMEOUT `{text}` is not a duration such as 60s"))
        })
    }

    fn tls(&self) -> Result<tls::Options, Error> {
        let mut tls = self.flags.tls.clone();
        for (file, name) in [
            (&mut tls.ca_cert, "VAULT_CACERT"),
            (&mut tls.ca_path, "VAULT_CAPATH"),
            (&mut tls.client_cert, "VAULT_CLIENT_CERT"),
            (&mut tls.client_key, "VAULT_CLIENT_KEY"),
        ] {
            *file = file.take().or_else(|| self.env(name).map(PathBuf::from));
        }
        tls.tls_server_name = tls.tls_server_name.or_else(|| self.env("VAULT_TLS_SERVER_NAME"));
        if tls.tls_skip_verify.is_none() {
            tls.tls_skip_verify = Some(self.is_set("VAULT_SKIP_VERIFY")?);
        }
        Ok(tls)
    }
}
