//! Authenticates callers: by peer credentials on the unix socket, by tokens on TCP. What a caller
//! may do with a secret lives in `tokens` and the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderMap, HeaderName, Uri, header};
use shared::audit::{Agent, Asker, Who};
use shared::hash::Hash;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, OnceCell};
use zeroize::Zeroizing;

use crate::loopback::{Ends, Owner, Owners};
use host::account;
use host::files::{self, Access};
use host::hint::hinted;
use machine::config::{self, Allow, Auth};

use super::asker::Askers;
use super::error::ApiFault;
use super::hosts::{Hosts, Origin};
use super::process;
use super::tokens::{self, Scope, Tokens};

/// How long a caller with a wrong token waits; one after the other, whoever they are.
const SLOW: Duration = Duration::from_millis(250);
/// The group that may read the token file, where it exists.
const GROUP: &str = "vault";

/// The other end of a connection, and what the connection alone proves.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// A user that may use the socket, or this very process.
    Allowed(Local),
    /// Another user on the socket.
    Stranger(Local),
    /// Somebody over TCP, who is looked for when their name is first needed.
    Tcp(Ends, OnceCell<Local>),
}

/// A caller, as far as the connection tells.
#[derive(Clone, Debug)]
pub(super) struct Local {
    who: Who,
    /// The process, where it is known.
    pid: Option<i32>,
    /// The AI agent that it works for; looked for when it is first needed.
    agent: OnceCell<Option<Agent>>,
}

impl Local {
    fn new(pid: Option<i32>, uid: u32) -> Self {
        Self { pid, ..Self::named(process::describe(pid, uid)) }
    }

    /// A caller of whom nothing but this is known.
    const fn named(who: Who) -> Self {
        Self { who, pid: None, agent: OnceCell::const_new() }
    }
}

impl Peer {
    /// This process calling itself.
    pub(super) fn inside() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::Allowed(Local::new(Some(pid), rustix::process::getuid().as_raw()))
    }

    /// A caller over TCP.
    pub(super) const fn tcp(ends: Ends) -> Self {
        Self::Tcp(ends, OnceCell::const_new())
    }
}

/// A caller that was let in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who asks, and why, for the audit log.
    pub(super) by: Asker,
    /// What they may do.
    pub(super) scope: Scope,
}

/// Lets callers in.
#[derive(Debug)]
pub(super) struct Gate {
    users: Vec<u32>,
    groups: Vec<u32>,
    /// Where the token of callers over TCP is kept; `None` where none needs it.
    token_file: Option<PathBuf>,
    /// Whether callers on loopback need none.
    trusts_loopback: bool,
    hosts: Hosts,
    /// SHA-256 of that token, once it is read.
    token: OnceLock<Hash>,
    pub(super) tokens: Tokens,
    /// What is wrong with `allow`, for people.
    pub(super) unknown: Vec<String>,
    owners: Owners,
    pub(super) askers: Askers,
    slow: Mutex<()>,
}

impl Gate {
    /// Resolves names; those that nobody has let nobody in.
    pub(super) fn open(options: &config::Api, token_file: &Path, tokens: Tokens) -> Self {
        let us = rustix::process::geteuid().as_raw();
        let mut gate = Self {
            // Root and this user can read the keys themselves.
            users: vec![0, us],
            groups: Vec::new(),
            token_file: None,
            trusts_loopback: options.auth == Auth::Loopback,
            hosts: Hosts::new(&options.listen, &options.hosts),
            token: OnceLock::new(),
            tokens,
            unknown: Vec::new(),
            owners: Owners::default(),
            askers: Askers::new(options),
            slow: Mutex::new(()),
        };
        for allow in &options.allow {
            match allow {
                Allow::User(name) => {
                    let user = account::user(name).map(|user| user.uid);
                    match user.or_else(|| name.parse().ok()) {
                        Some(user) => gate.users.push(user),
                        None => gate.unknown.push(format!("user `{name}`, who does not exist")),
                    }
                }
                Allow::Group(name) => match account::group(name) {
                    Some(group) => gate.groups.push(group),
                    None => gate.unknown.push(format!("group `@{name}`, which does not exist")),
                },
            }
        }
        if options.wants_token() {
            gate.token_file = Some(token_file.to_owned());
        }
        gate
    }

    /// Reads the token file, or makes it, unless that is done or no caller needs it.
    ///
    /// # Errors
    /// If it cannot be read, or is open to everybody: nobody is let in by its token then.
    pub(super) fn take_token(&self) -> Result<()> {
        if let (Some(file), None) = (&self.token_file, self.token.get()) {
            // Another call has read the same file.
            let _ = self.token.set(token(file)?);
        }
        Ok(())
    }

    /// Tells whether others than root and this user are let in.
    pub(super) fn is_shared(&self) -> bool {
        self.users.len() > 2 || !self.groups.is_empty()
    }

    /// Judges a connection on the unix socket.
    pub(super) fn peer(&self, pid: Option<i32>, uid: u32, gid: u32) -> Peer {
        let allowed = self.users.contains(&uid)
            || self.groups.contains(&gid)
            || (!self.groups.is_empty()
                && pid.is_some_and(|pid| {
                    process::groups(pid, uid).iter().any(|group| self.groups.contains(group))
                }));
        let local = Local::new(pid, uid);
        if allowed { Peer::Allowed(local) } else { Peer::Stranger(local) }
    }

    /// Returns who is at the other end of a connection, for the audit log.
    pub(super) async fn asker(&self, peer: &Peer) -> Asker {
        let local = match peer {
            Peer::Allowed(local) | Peer::Stranger(local) => local,
            Peer::Tcp(ends, local) => local.get_or_init(|| self.look_for(*ends)).await,
        };
        let agent = local.agent.get_or_init(|| self.askers.agent_of(local.pid)).await.clone();
        Asker { agent, ..local.who.clone().into() }
    }

    async fn look_for(&self, ends: Ends) -> Local {
        match self.owners.of(ends).await {
            Some(Owner { uid, pid: Some(pid) }) => Local::new(Some(pid), uid),
            Some(Owner { uid, pid: None }) => Local::named(Who::lossy(&format!("tcp uid {uid}"))),
            // Of another network namespace, as containers are, or gone.
            None => Local::named(Who::lossy(&format!("tcp {}", ends.0.ip().to_canonical()))),
        }
    }

    /// Tells where a connection comes from, by both of its ends.
    fn origin(&self, (theirs, ours): &Ends) -> Origin {
        match [theirs, ours].iter().all(|end| end.ip().is_loopback()) {
            true if self.trusts_loopback => Origin::Trusted,
            true => Origin::Loopback,
            false => Origin::Elsewhere,
        }
    }

    /// Refuses what only a web page sends: pages may post to any port of this host, with any text
    /// as body, and by a name of theirs (DNS rebinding).
    pub(super) fn refuse_web_pages(
        &self,
        peer: &Peer,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiFault> {
        if headers.contains_key(header::ORIGIN) {
            let text = "requests with an `Origin` header are refused";
            return Err(ApiFault::Forbidden(text.into()));
        }
        match peer {
            Peer::Allowed(_) | Peer::Stranger(_) => Ok(()),
            Peer::Tcp(ends, _) => self.hosts.check(self.origin(ends), uri, headers),
        }
    }

    /// Lets the sender of a request in, or says why not.
    pub(super) async fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, ApiFault> {
        let given = given_token(headers);
        let issued = given.is_some_and(tokens::is_issued);
        if let Some(token) = given.and_then(|given| self.tokens.find(given)) {
            return self.caller(peer, headers, Scope::Limited(token)).await;
        }
        let open = match peer {
            // Whoever shows a token that has ended does not mean to do without one.
            _ if issued => false,
            Peer::Allowed(_) => true,
            Peer::Stranger(_) => false,
            Peer::Tcp(ends, _) if self.origin(ends) == Origin::Trusted => true,
            Peer::Tcp(..) => given.zip(self.token.get()).is_some_and(|(given, token)| {
                Hash::of(&[given.as_bytes()]).as_bytes().ct_eq(token.as_bytes()).into()
            }),
        };
        if open {
            return self.caller(peer, headers, Scope::All).await;
        }
        if given.is_some() {
            let who = self.asker(peer).await.who;
            tracing::warn!(%who, "a wrong token was shown");
            let _turn = self.slow.lock().await;
            tokio::time::sleep(SLOW).await;
            return Err(ApiFault::InvalidToken);
        }
        Err(ApiFault::Denied)
    }

    async fn caller(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Caller, ApiFault> {
        let by = self.askers.heard(self.asker(peer).await, headers)?;
        Ok(Caller { by, scope })
    }
}

/// Returns the token of a request: `X-Vault-Token`, or `Authorization: Bearer`.
pub(super) fn given_token(headers: &HeaderMap) -> Option<&str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || {
        let (kind, token) = text(header::AUTHORIZATION)?.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then_some(token.trim())
    };
    text(HeaderName::from_static("x-vault-token")).or_else(bearer).filter(|token| !token.is_empty())
}

/// Reads the token file, or makes it with a fresh token, and returns the token's hash.
fn token(path: &Path) -> Result<Hash> {
    use std::os::unix::fs::PermissionsExt as _;
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            let text = format!("token file `{}` is empty", path.display());
            bail!(hinted(text, "remove it: a new one is made"))
        }
        Ok(text) => {
            let mode = path.metadata()?.permissions().mode();
            if mode & 0o007 != 0 {
                let (path, mode) = (path.display(), mode & 0o7777);
                let text =
                    format!("token file `{path}` may be read by everybody (mode {mode:04o})");
                bail!(hinted(text, "chmod o= it"));
            }
            Ok(Hash::of(&[text.trim().as_bytes()]))
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            let token = Zeroizing::new(format!("vlt.{}", *tokens::random()));
            // Only root can hand a file to a group it is not in.
            let is_root = rustix::process::geteuid().is_root();
            let gid = if is_root { account::group(GROUP) } else { None };
            let access = Access { uid: None, gid, mode: 0o640 };
            files::replace(path, format!("{}\n", *token).as_bytes(), access)?;
            Ok(Hash::of(&[token.as_bytes()]))
        }
        Err(why) => {
            Err(why).with_context(|| format!("cannot read token file `{}`", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_either_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(given_token(&headers), None);
        headers.insert("authorization", "bearer abc".parse().unwrap());
        assert_eq!(given_token(&headers), Some("abc"));
        headers.insert("x-vault-token", "def".parse().unwrap());
        assert_eq!(given_token(&headers), Some("def"));
    }
}
