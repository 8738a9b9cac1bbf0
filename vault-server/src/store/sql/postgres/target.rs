//! Where the database is, as `libpq` writes it in a URL; connecting to it, and saying why that
//! failed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use host::hint::hinted;
use postgres::config::{Host, SslMode, TargetSessionAttrs};
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};

use super::super::fault::Fault;
use super::tls::Connector;

/// Time for a connection to each address.
const PATIENCE: Duration = Duration::from_secs(5);
/// The oldest server that is known to do.
const OLDEST: i64 = 130_000;

/// A setting of no meaning: a server that the session reaches directly gives it back, and what
/// lends a session to many does not.
const DIRECT: &str = "-c vault.direct=on";
/// A statement that is stuck, or waits for a server that is, ends after a minute; a transaction
/// whose client is gone holds up the others no longer.
const BOUNDS: &str = "-c statement_timeout=60s -c lock_timeout=15s \
                      -c idle_in_transaction_session_timeout=60s";

/// A database of a PostgreSQL server.
pub struct Target {
    config: Config,
    tls: Option<Connector>,
    shown: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Target {
    /// Reads a URL; `password` stands elsewhere.
    ///
    /// # Errors
    /// If it is malformed, holds a password, or would have the connection trust anybody.
    pub fn parse(url: &str, password: Option<&str>) -> Result<Self> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(value)),
                _ => rest.push(part),
            }
        }
        let plain =
            if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        let mut config: Config = plain.parse().map_err(|_| {
            let way =
                "write it as postgres://USER@HOST:5432/DATABASE, or with ?host=/run/postgresql";
            hinted("the database's URL is malformed", way)
        })?;
        if config.get_password().is_some() {
            let way = "write the password into a file, and name that as `password_file` in [store]";
            return Err(hinted("the database's URL holds a password", way));
        }
        if config.get_hosts().is_empty() {
            let way =
                "write it as postgres://USER@HOST:5432/DATABASE, or with ?host=/run/postgresql";
            return Err(hinted("the database's URL names no host", way));
        }
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let tls = match mode {
            None if is_local => None,
            Some("disable") => None,
            None | Some("verify-full") => Some(Connector::new(roots.as_deref())?),
            Some(other) => {
                let way = "write `verify-full`, with `sslrootcert` for a CA of your own; or \
                           `disable` where nobody else is on the way";
                return Err(hinted(format!("`sslmode={other}` does not say who answers"), way));
            }
        };
        if let Some(password) = password {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("vault-server");
        }
        let given = config.get_options().unwrap_or_default().to_owned();
        config
            .options(format!("{DIRECT} {BOUNDS} {given}").trim())
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(PATIENCE)
            .keepalives_idle(PATIENCE * 2)
            .keepalives_interval(PATIENCE)
            .keepalives_retries(3)
            // Of what was sent and is not acknowledged; without it the kernel tries for 15 minutes.
            .tcp_user_timeout(PATIENCE * 5)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .notice_callback(|notice| {
                tracing::warn!(said = notice.message(), "the database warns");
            });
        Ok(Self { config, tls, shown: place.to_owned() })
    }

    /// Connects to the server that takes writes, directly, so that what it commits is on disk.
    ///
    /// # Errors
    /// If there is none, or it is not fit for it.
    pub fn connect(&self) -> Result<Client, Fault> {
        let connected = match &self.tls {
            Some(tls) => self.config.connect(tls.clone()),
            None => self.config.connect(NoTls),
        };
        let mut client = connected?;
        let asked = "SELECT coalesce(current_setting('vault.direct', true), ''),
                            current_setting('synchronous_commit'),
                            current_setting('server_version_num')::bigint,
                            current_setting('fsync')";
        let found = client.query_one(asked, &[])?;
        if found.try_get::<_, &str>(0)? != "on" {
            return Err(Fault::unasked(POOLED));
        }
        if found.try_get::<_, i64>(2)? < OLDEST {
            return Err(Fault::unasked("its server is older than version 13"));
        }
        if found.try_get::<_, &str>(1)? == "off" {
            client.batch_execute("SET synchronous_commit = on")?;
        }
        if found.try_get::<_, &str>(3)? == "off" {
            tracing::warn!(database = %self, "`fsync` is off there: a power cut loses what it committed");
        }
        Ok(client)
    }

    /// Says why the database cannot be used, and the way out.
    pub fn explain(&self, why: &Fault) -> anyhow::Error {
        let (code, text) = match why {
            Fault::Postgres { code, text, .. } => (code.as_ref(), text.clone()),
            other => (None, other.to_string()),
        };
        let message = format!("cannot use database `{self}`: {text}");
        match way_out(code, &text) {
            Some(way) => hinted(message, way),
            None => anyhow::Error::msg(message),
        }
    }
}

/// What is said of a pooler.
const POOLED: &str = "a pooler answers there, which lends each session to many";

fn way_out(code: Option<&SqlState>, text: &str) -> Option<&'static str> {
    let direct = "name the address of the database's own server in `url`: entries are ordered and \
                  told of within a session";
    if text == POOLED || text.contains("unsupported startup parameter") {
        return Some(direct);
    }
    if text.contains("does not allow writes") {
        return Some("name the primary in `url`, or all servers of the cluster: host1,host2");
    }
    let is = |known: &SqlState| code == Some(known);
    Some(match code {
        None => "is the server up, and its name and port right? `url` in [store] of server.toml",
        _ if is(&SqlState::INVALID_PASSWORD)
            || is(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) =>
        {
            "look at user and `password_file` in [store], and at the server's pg_hba.conf"
        }
        _ if is(&SqlState::INVALID_CATALOG_NAME) => "make it: CREATE DATABASE … OWNER …",
        _ if is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            "make the user of `url` the database's owner: ALTER DATABASE … OWNER TO …"
        }
        _ if is(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
            "name the primary in `url`, or all servers of the cluster: host1,host2"
        }
        _ if is(&SqlState::TOO_MANY_CONNECTIONS) => {
            "raise max_connections there: each vault-server needs five"
        }
        _ if is(&SqlState::DISK_FULL) => "make room on the database's disk",
        Some(_) => return None,
    })
}

/// Reads the password from a file of one line.
///
/// # Errors
/// If others can read the file, or it cannot be read.
pub fn password(file: &std::path::Path) -> Result<zeroize::Zeroizing<String>> {
    let shown = file.display();
    let reading = || format!("password file `{shown}`");
    let bytes = host::files::read_private(file)?.with_context(|| format!("no {}", reading()))?;
    let text = std::str::from_utf8(&bytes).with_context(reading)?;
    Ok(zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> String {
        Target::parse(url, None).err().map(|why| why.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_url_says_who_answers_and_holds_no_password() {
        for good in [
            "postgres://vault@db.example:5432/vault?sslmode=disable",
            "postgresql://vault@a,b/vault?sslmode=disable&connect_timeout=3",
            "postgres://vault@/vault?host=/run/postgresql",
            "postgres://vault@db.example/vault",
            "postgres://vault@db.example/vault?sslmode=verify-full",
        ] {
            assert_eq!(fault(good), "", "{good}");
        }
        for (bad, why) in [
            ("mysql://x", "malformed"),
            ("postgres://vault@db/vault?colour=blue", "malformed"),
            ("postgres://vault:secret@db/vault", "holds a password"),
            ("postgres://vault@db/vault?password=x", "holds a password"),
            ("postgres:///vault", "names no host"),
            ("postgres://vault@db/vault?sslmode=require", "does not say who answers"),
            ("postgres://vault@db/vault?sslmode=prefer", "does not say who answers"),
        ] {
            assert!(fault(bad).contains(why), "{bad}: {}", fault(bad));
            assert!(!fault(bad).contains("secret"), "{bad}");
        }
    }

    #[test]
    fn it_is_shown_without_what_follows_the_place() {
        let url = "postgres://vault@db.example/vault?sslmode=disable&application_name=x";
        let target = Target::parse(url, Some("hunter2")).unwrap();
        assert_eq!(target.to_string(), "postgres://vault@db.example/vault");
    }
}
