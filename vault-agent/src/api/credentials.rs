//! The socket for `LoadCredential=NAME:SOCKET` of systemd units. The service manager connects for
//! each credential, names unit and credential in the address it connects from, and takes what is
//! sent until the end; it cannot be told that there is none. So a connection is held until there is
//! something to send: the unit waits. What gets which secret is in `agent.toml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::audit::{Fact, Op, Outcome, Who};
use shared::blob::Kind;
use shared::plaintext::Plaintext;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::engine::{Engine, Latest, ReadError};
use host::hint;
use machine::binary;
use machine::config::{Config, Credential};
use machine::render;

use super::listen::{accept_each, bind_unix, stopped};
use super::places::Places;
use super::process;

/// Units that wait at a time; others wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// When to look again whether the other side is still there, and for what the server has and this
/// machine has not.
const AGAIN: Duration = Duration::from_secs(5);
/// How long an answer may take to be taken.
const GRACE: Duration = Duration::from_secs(5);
/// What systemd takes for a credential at most. One that is larger fails the start of the unit.
const LARGEST: usize = 1 << 20;

/// The alarm while the socket cannot be made.
const NOT_LISTENING: &str = "E_CREDENTIALS";

/// A socket that is not served yet.
#[derive(Debug)]
pub struct Credentials {
    socket: PathBuf,
    /// `None` while it cannot be made: files are kept right without.
    listener: Option<UnixListener>,
    configs: watch::Receiver<Arc<Config>>,
    engine: Engine,
}

impl Credentials {
    /// Binds the socket, which only root and this user can open. What keeps it from being served is
    /// an alarm, and tried again.
    pub fn bind(socket: &Path, configs: watch::Receiver<Arc<Config>>, engine: Engine) -> Self {
        let mut all = Self { socket: socket.to_owned(), listener: None, configs, engine };
        all.try_bind();
        all
    }

    fn try_bind(&mut self) {
        match bind_unix(&self.socket, false) {
            Ok(listener) => {
                self.engine.clear_alarm(NOT_LISTENING);
                self.listener = Some(listener);
            }
            Err(why) => {
                let hint = hint::hint(&why).map(|hint| format!(" (hint: {hint})"));
                let (socket, hint) = (self.socket.display(), hint.unwrap_or_default());
                let text = format!("cannot listen on `{socket}`: {why:#}{hint}");
                self.engine.alarm(NOT_LISTENING, text);
            }
        }
    }

    /// Serves until `shutdown` turns true.
    pub async fn serve(mut self, mut shutdown: watch::Receiver<bool>) {
        while self.listener.is_none() {
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                () = sleep(AGAIN) => self.try_bind(),
            }
        }
        let Self { listener: Some(listener), configs, engine, .. } = self else { return };
        let accept = || async {
            let (stream, _) = listener.accept().await?;
            // What `accept` itself tells leaves abstract names out.
            Ok((Request::of(&stream, &stream.peer_addr()?), stream))
        };
        let answer = |(request, stream): (Request, _), place| {
            let (configs, engine, shutdown) = (configs.clone(), engine.clone(), shutdown.clone());
            async move {
                let _place = place;
                request.answer(stream, configs, &engine, shutdown).await;
            }
        };
        let places = Places::new(CONNECTIONS);
        let mut open = accept_each(places, &engine, shutdown.clone(), accept, answer).await;
        while open.join_next().await.is_some() {}
    }
}

/// Who asks for what.
struct Request {
    /// Process and user, for the audit log.
    who: Who,
    /// Whether it is the service manager, which runs as root, or as this very user.
    manager: bool,
    /// Unit and credential.
    wanted: Option<(String, String)>,
}

impl Request {
    fn of(stream: &UnixStream, address: &SocketAddr) -> Self {
        let wanted = address.as_abstract_name().and_then(asked);
        let peer = stream.peer_cred().ok();
        let us = rustix::process::geteuid().as_raw();
        let manager = peer.is_some_and(|peer| peer.uid() == 0 || peer.uid() == us);
        let mut who = match peer {
            Some(peer) => process::describe(peer.pid(), peer.uid()),
            None => Who::lossy("unknown"),
        };
        if let Some((unit, name)) = &wanted {
            who = Who::lossy(&format!("{who} for {unit} {name}"));
        }
        Self { who, manager, wanted }
    }

    /// Sends the credential as soon as it can be; who is not the service manager is sent away.
    async fn answer(
        self,
        mut stream: UnixStream,
        mut configs: watch::Receiver<Arc<Config>>,
        engine: &Engine,
        mut shutdown: watch::Receiver<bool>,
    ) {
        if !self.manager {
            let config = configs.borrow().clone();
            return self.refuse(&config, engine).await;
        }
        let mut changes = engine.changes();
        let mut told = String::new();
        while !has_hung_up(&stream).await {
            changes.mark_unchanged();
            let config = configs.borrow_and_update().clone();
            let why = match self.content(&config, engine).await {
                Ok(content) => return self.send(&mut stream, content.expose()).await,
                Err(why) => why,
            };
            if told != why {
                tracing::warn!(who = %self.who, "a unit waits for its credential: {why}");
                told = why;
            }
            tokio::select! {
                () = stopped(&mut shutdown) => return fail(&mut stream).await,
                Ok(()) = changes.changed() => {}
                Ok(()) = configs.changed() => {}
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// Notes that somebody else asked.
    async fn refuse(&self, config: &Config, engine: &Engine) {
        tracing::warn!(who = %self.who, "only the service manager gets credentials");
        let Ok(credential) = self.credential(config) else { return };
        let (who, path) = (Some(self.who.clone()), Some(credential.secret.clone()));
        let access = Fact { who, path, result: Outcome::Denied, ..Fact::new(Op::LocalRead) };
        if let Err(why) = engine.record(access).await {
            tracing::error!("a refusal is not on record: {why:#}");
        }
    }

    fn credential<'a>(&self, config: &'a Config) -> Result<&'a Credential, &'static str> {
        let Some((unit, name)) = &self.wanted else {
            return Err("the connection names no unit");
        };
        let given = config.credentials.as_ref().and_then(|all| all.find(unit, name));
        given.ok_or("no `[[credential]]` in `agent.toml` is for it")
    }

    /// Returns what is to be sent, never nothing, or why the unit has to wait. That it was read is
    /// on disk then.
    async fn content(&self, config: &Config, engine: &Engine) -> Result<Plaintext, String> {
        let Credential { secret, key, .. } = self.credential(config)?;
        let ver = match engine.latest(secret) {
            Latest::Version { ver, .. } => ver,
            Latest::NotReadable => return Err(format!("this machine may not read `{secret}`")),
            Latest::Unknown => return Err("nothing was heard from the server yet".to_owned()),
            Latest::Missing => return Err(format!("there is no `{secret}`")),
            Latest::Deleted { .. } => return Err(format!("`{secret}` is deleted")),
        };
        let content = match engine.content(secret, Some(ver)).await {
            // A unit that starts with the host gets what it had before.
            Err(why @ (ReadError::Blob(_) | ReadError::Offline { .. })) => {
                engine.last_good(secret).await.ok_or_else(|| why.to_string())
            }
            content => content.map_err(|why| why.to_string()),
        }?;
        let ver = content.ver;
        let value = match content.kind {
            Kind::Kv => value(content.expose(), key.as_deref()),
            Kind::Raw if key.as_deref().is_none_or(|key| key == binary::FILE) => {
                sendable(content.expose(), binary::FILE)
            }
            Kind::Raw => Err("is one file, without keys".to_owned()),
        };
        let value = value.map_err(|why| format!("version {ver} of `{secret}` {why}"))?;
        let (who, path) = (Some(self.who.clone()), Some(secret.clone()));
        let read = Fact { who, path, ver: Some(ver), ..Fact::new(Op::LocalRead) };
        let recorded = engine.record(read).await;
        recorded.map_err(|why| format!("the read cannot be recorded: {why:#}"))?;
        Ok(value)
    }

    async fn send(&self, stream: &mut UnixStream, content: &[u8]) {
        let all = async {
            stream.write_all(content).await?;
            stream.shutdown().await
        };
        match timeout(GRACE, all).await {
            Ok(Ok(())) => tracing::info!(who = %self.who, "credential given"),
            Ok(Err(why)) => tracing::warn!(who = %self.who, "credential not taken: {why}"),
            Err(_) => tracing::warn!(who = %self.who, "credential not taken in time"),
        }
    }
}

/// Reads unit and credential out of the name that systemd connects from:
/// `<random>/unit/<unit>/<credential>`.
fn asked(name: &[u8]) -> Option<(String, String)> {
    let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
    let parts: Vec<_> = name.split('/').collect();
    match parts[..] {
        [_, "unit", unit, credential] if !unit.is_empty() && !credential.is_empty() => {
            Some((unit.to_owned(), credential.to_owned()))
        }
        _ => None,
    }
}

/// Returns the value of a key, or the only one, or what keeps it from being sent.
fn value(content: &[u8], key: Option<&str>) -> Result<Plaintext, String> {
    let fields = render::fields(content).map_err(|why| why.to_string())?;
    let field = match key {
        Some(key) => fields.iter().find(|field| field.name == key),
        None if fields.len() == 1 => fields.first(),
        None => return Err(format!("has {} keys: name one with `key`", fields.len())),
    };
    let field = field.ok_or_else(|| format!("has no key `{}`", key.unwrap_or_default()))?;
    let value = field.value.bytes().ok_or_else(|| format!("has no text at `{}`", field.name))?;
    sendable(value, &field.name)
}

/// Takes what is neither nothing nor too much.
fn sendable(value: &[u8], name: &str) -> Result<Plaintext, String> {
    match value.len() {
        0 => Err(format!("has nothing at `{name}`")),
        length if length > LARGEST => Err(format!("has more than 1 MiB at `{name}`")),
        _ => Ok(Plaintext::from(value)),
    }
}

/// Tells whether the other side is gone. That it will say nothing more is usual: systemd does so at
/// once.
async fn has_hung_up(stream: &UnixStream) -> bool {
    stream.ready(Interest::WRITABLE).await.map_or(true, tokio::io::Ready::is_write_closed)
}

/// Ends a connection without a credential so that the unit does not start: an end alone would be an
/// empty one, and more than systemd takes is an error.
async fn fail(stream: &mut UnixStream) {
    let all = async {
        for _ in 0..=LARGEST / 4096 {
            stream.write_all(&[0; 4096]).await?;
        }
        stream.shutdown().await
    };
    // Who does not read until then has other troubles.
    let _ = timeout(GRACE, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_does() {
        let check = |name: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(unit, name)| (unit.to_owned(), name.to_owned()));
            assert_eq!(asked(name.as_bytes()), expected, "{name}");
        };
        check("7f3a/unit/ghost.service/db", Some(("ghost.service", "db")));
        check("7f3a/unit/ghost@1.service/db-password\0", Some(("ghost@1.service", "db-password")));
        for name in [
            "",
            "7f3a",
            "7f3a/unit/ghost.service",
            "7f3a/unit//db",
            "7f3a/unit/a.service/",
            "7f3a/unit/a/b/c",
            "7f3a/cryptsetup/a/b",
        ] {
            check(name, None);
        }
        assert_eq!(asked(b"\xFF/unit/a/b"), None);
    }

    #[test]
    fn a_value_is_sent_whole_or_not_at_all() {
        let check = |json: &str, key: Option<&str>, expected: Result<&[u8], &str>| {
            let got = value(json.as_bytes(), key);
            let got = got.as_ref().map(Plaintext::expose).map_err(String::as_str);
            assert_eq!(got, expected, "{json} {key:?}");
        };
        check(r#"{"a":"x\n","b":"y"}"#, Some("a"), Ok(b"x\n"));
        check(r#"{"a":1.50}"#, None, Ok(b"1.50"));
        check(r#"{"a":{"$base64":"AP8="}}"#, None, Ok(b"\0\xFF"));
        check(r#"{"a":"x","b":"y"}"#, None, Err("has 2 keys: name one with `key`"));
        check("{}", None, Err("has 0 keys: name one with `key`"));
        check(r#"{"a":"x"}"#, Some("b"), Err("has no key `b`"));
        check(r#"{"a":""}"#, Some("a"), Err("has nothing at `a`"));
        check(r#"{"a":null}"#, Some("a"), Err("has no text at `a`"));
    }
}
