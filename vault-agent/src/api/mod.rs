//! The local API: Vault's KV v2 over HTTP/1.1 on a unix socket and loopback TCP, and the agent's
//! own routes. This file is the list of routes; what each does lives in its own file.

mod agent;
mod auth;
mod caller;
mod credentials;
mod envelope;
mod error;
mod json;
mod kv;
mod listen;
mod loopback;
mod request;
mod sys;
#[cfg(test)]
mod tests;
mod tokens;
mod turn;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
#[cfg(test)]
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, request::Parts};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::engine::Engine;
use machine::config::{self, Config};
use machine::paths::Paths;

use caller::{Gate, Peer};
use envelope::Answer;
use error::Fault;
use request::{Call, Query, Verb};
use tokens::Tokens;
use turn::Turn;

pub use credentials::Credentials;
pub use listen::{Listeners, serve};

/// Large request bodies read at a time.
const LARGE_BODIES: usize = 8;

/// How long a one-off answer waits for the server before the cache must do.
const REACH: Duration = Duration::from_secs(20);

/// What every route works with.
#[derive(Debug)]
struct Api {
    engine: Engine,
    gate: Gate,
    large_bodies: Semaphore,
}

impl Api {
    fn open(engine: Engine, paths: &Paths, options: &config::Api) -> Result<Self> {
        let token_file = token_file(paths, options);
        let gate = Gate::open(options, &token_file, Tokens::open(&paths.state)?)?;
        Ok(Self { engine, gate, large_bodies: Semaphore::new(LARGE_BODIES) })
    }
}

/// Returns where the token of TCP callers is kept: beside the configuration unless it says otherwise.
#[must_use]
pub fn token_file(paths: &Paths, options: &config::Api) -> std::path::PathBuf {
    options.token_file.clone().unwrap_or_else(|| paths.config.with_file_name("token"))
}

/// Returns the API for callers inside this process, who may do whatever this machine may.
///
/// # Errors
/// If the tokens of the state directory cannot be read.
#[cfg(test)]
fn router(engine: Engine, paths: &Paths) -> Result<Router> {
    let api = Arc::new(Api::open(engine, paths, &config::Api::default())?);
    let peer = Arc::new(Peer::inside());
    Ok(Router::new()
        .fallback(move |request: Request<Body>| async move { answer(&api, &peer, request).await }))
}

/// Answers one connection over an engine of its own, for a host on which no agent runs. The server
/// is asked to catch up first, unless `offline`; where it cannot be reached, the cache answers.
/// Several at once take turns.
///
/// # Errors
/// If the turn does not come, or the identity, the configuration or the database cannot be read.
pub async fn answer_on(stream: UnixStream, paths: &Paths, offline: bool) -> Result<()> {
    let _turn = Turn::wait(paths, turn::PATIENCE)?;
    let engine = Engine::open(paths)?;
    let addresses = Config::load_or_default(&paths.config)?.server;
    if !offline {
        // A server that accepts and says nothing must not keep the caller waiting.
        match timeout(REACH, engine.connect_once(&addresses)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::debug!("answering from the cache: {why:#}"),
            Err(_) => tracing::debug!("answering from the cache: the server does not answer"),
        }
    }
    let api = Arc::new(Api::open(engine.clone(), paths, &config::Api::default())?);
    let (_stop, shutdown) = watch::channel(false);
    listen::one(stream, api, Peer::inside(), shutdown).await;
    if let Err(why) = engine.settle().await {
        tracing::debug!("local accesses are shipped later: {why:#}");
    }
    engine.close().await;
    Ok(())
}

/// Answers one request.
async fn answer(api: &Api, peer: &Peer, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    match admit(api, peer, &parts, body).await {
        Ok(answer) => answer,
        Err(fault) => {
            if fault.status() == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(path = parts.uri.path(), "{fault:?}");
            }
            fault.answer()
        }
    }
}

/// Lets the caller in, then routes.
async fn admit(api: &Api, peer: &Peer, parts: &Parts, body: Body) -> Result<Answer, Fault> {
    caller::refuse_web_pages(peer, &parts.uri, &parts.headers)?;
    let path = request::path(&parts.uri)?;
    let query = Query(parts.uri.query());
    let verb = request::verb(&parts.method, query)?;
    if let Some(answer) = without_token(api, verb, query, &path)? {
        return Ok(answer);
    }
    let caller = match api.gate.admit(peer, &parts.headers).await {
        Ok(caller) => caller,
        // A web page asks before anybody has logged in: it learns that it has to.
        Err(_)
            if is_list_for_pages(verb, &path) && caller::given_token(&parts.headers).is_none() =>
        {
            return Ok(sys::mounts::none_visible());
        }
        Err(fault) => {
            kv::record_stranger(api, peer, &path).await?;
            return Err(fault);
        }
    };
    let headers = &parts.headers;
    let call = Call { api, caller: &caller, verb, query, headers, body: body.into() };
    let (first, below) = path.split_once('/').unwrap_or((&path, ""));
    match first {
        "sys" => sys_route(call, below.trim_end_matches('/')).await,
        "auth" => auth_route(call, below.trim_end_matches('/')).await,
        "agent" => agent_route(call, below.trim_end_matches('/')).await,
        mount => kv_route(call, mount, &path).await,
    }
}

fn is_list_for_pages(verb: Verb, path: &str) -> bool {
    verb == Verb::Read && path.trim_end_matches('/') == "sys/internal/ui/mounts"
}

/// Routes that answer anybody.
fn without_token(
    api: &Api,
    verb: Verb,
    query: Query<'_>,
    path: &str,
) -> Result<Option<Answer>, Fault> {
    Ok(Some(match (path.trim_end_matches('/'), verb) {
        ("sys/health", Verb::Read | Verb::Head) => sys::health(api, query)?,
        ("sys/seal-status", Verb::Read) => sys::seal_status(api),
        ("sys/leader", Verb::Read) => sys::leader(),
        ("sys/init", Verb::Read) => sys::init(),
        ("sys/health" | "sys/seal-status" | "sys/leader" | "sys/init", _) => {
            return Err(Fault::UnknownMethod);
        }
        _ => return Ok(None),
    }))
}

async fn sys_route(mut call: Call<'_>, path: &str) -> Result<Answer, Fault> {
    match (path, call.verb) {
        ("mounts", Verb::Read) => Ok(sys::mounts::all(call.api)),
        ("internal/ui/mounts", Verb::Read) => Ok(sys::mounts::visible(call.api)),
        ("capabilities-self", Verb::Write) => sys::capabilities(&mut call).await,
        ("mounts" | "capabilities-self" | "internal/ui/mounts", _) => {
            Err(Fault::UnsupportedOperation)
        }
        (path, verb) => {
            if let Some(below) = path.strip_prefix("internal/ui/mounts/") {
                return match verb {
                    Verb::Read => sys::mounts::preflight(call.api, below),
                    _ => Err(Fault::UnsupportedOperation),
                };
            }
            let Some(below) = path.strip_prefix("mounts/") else {
                return Err(Fault::UnsupportedPath);
            };
            match (below.strip_suffix("/tune"), verb) {
                (None, Verb::Read) => sys::mounts::one(call.api, below),
                (None, Verb::Write) => sys::mounts::make(&mut call, below).await,
                (None, Verb::Delete) => sys::mounts::disable(&call, below).await,
                (Some(mount), Verb::Read) => sys::mounts::tuning(call.api, mount),
                (Some(mount), Verb::Write) => sys::mounts::tune(&mut call, mount).await,
                (_, _) => Err(Fault::UnsupportedOperation),
            }
        }
    }
}

async fn auth_route(mut call: Call<'_>, path: &str) -> Result<Answer, Fault> {
    match (path, call.verb) {
        ("token/lookup-self", Verb::Read | Verb::Write) => Ok(auth::lookup_self(&call)),
        ("token/renew-self", Verb::Write) => Ok(auth::renew_self(&call)),
        ("token/revoke-self", Verb::Write) => auth::revoke_self(&call),
        ("token/create", Verb::Write) => auth::create(&mut call).await,
        ("token/accessors", Verb::List) => auth::accessors(&call),
        ("token/lookup", Verb::Write) => auth::lookup(&mut call).await,
        ("token/lookup-accessor", Verb::Write) => auth::lookup_accessor(&mut call).await,
        ("token/revoke", Verb::Write) => auth::revoke(&mut call).await,
        ("token/revoke-accessor", Verb::Write) => auth::revoke_accessor(&mut call).await,
        (
            "token/lookup-self"
            | "token/renew-self"
            | "token/revoke-self"
            | "token/create"
            | "token/accessors"
            | "token/lookup"
            | "token/lookup-accessor"
            | "token/revoke"
            | "token/revoke-accessor",
            _,
        ) => Err(Fault::UnsupportedOperation),
        (path, _) if path.starts_with("token/") => Err(Fault::UnsupportedPath),
        _ => Err(Fault::NoRoute(format!("auth/{path}"))),
    }
}

async fn agent_route(mut call: Call<'_>, path: &str) -> Result<Answer, Fault> {
    if !call.caller.scope.is_all() {
        return Err(Fault::Denied);
    }
    match (path, call.verb) {
        ("status", Verb::Read) => Ok(agent::status(call.api).await),
        ("wait", Verb::Read) => agent::wait(&call).await,
        ("machines", Verb::Read) => Ok(agent::machines(call.api)),
        ("exposure", Verb::Read) => agent::exposure(&call).await,
        ("audit", Verb::Read) => agent::audit(&call).await,
        ("audit/verify", Verb::Read) => agent::audit_verify(&call).await,
        ("prepare", Verb::Write) => agent::prepare(&mut call).await,
        ("submit", Verb::Write) => agent::submit(&mut call).await,
        ("sync", Verb::Write) => agent::sync(&call).await,
        ("sample", Verb::Read) => agent::sample(&call).await,
        ("heal", Verb::Write) => agent::heal(&mut call).await,
        (
            "status" | "wait" | "machines" | "exposure" | "audit" | "audit/verify" | "prepare"
            | "submit" | "sync" | "heal" | "sample",
            _,
        ) => Err(Fault::UnsupportedOperation),
        _ => Err(Fault::UnsupportedPath),
    }
}

async fn kv_route(mut call: Call<'_>, mount: &str, full: &str) -> Result<Answer, Fault> {
    if !call.api.engine.state(|state| state.mounts().contains_key(mount)) {
        let slash = if call.verb == Verb::List && !full.ends_with('/') { "/" } else { "" };
        return Err(Fault::NoRoute(format!("{full}{slash}")));
    }
    let below = full.strip_prefix(mount).and_then(|below| below.strip_prefix('/'));
    let below = below.unwrap_or_default();
    if let Some(answer) = kv::edge(below, call.verb) {
        return answer;
    }
    let (kind, path) = below.split_once('/').unwrap_or((below, ""));
    match (kind, call.verb) {
        ("config", Verb::Read) => Ok(kv::config::read(&call, mount)),
        ("config", Verb::Write) => kv::config::write(&mut call, mount).await,
        ("data", Verb::Read) => kv::data::read(&call, mount, path).await,
        ("data", Verb::Write) => {
            kv::data::write(&mut call, mount, path).await.map_err(Fault::of_existence_check)
        }
        ("data", Verb::Patch) => kv::data::patch(&mut call, mount, path).await,
        ("data", Verb::Delete) => kv::versions::delete_newest(&call, mount, path).await,
        ("subkeys", Verb::Read) => kv::subkeys::read(&call, mount, path).await,
        ("delete", Verb::Write) => kv::versions::delete(&mut call, mount, path).await,
        ("undelete", Verb::Write) => kv::versions::undelete(&mut call, mount, path).await,
        ("destroy", Verb::Write) => kv::versions::destroy(&mut call, mount, path).await,
        ("metadata", Verb::List) => kv::list::read(&call, mount, path).await,
        ("metadata", Verb::Read) => kv::metadata::read(&call, mount, path).await,
        ("metadata", Verb::Write) => {
            kv::metadata::write(&mut call, mount, path).await.map_err(Fault::of_existence_check)
        }
        ("metadata", Verb::Patch) => kv::metadata::patch(&mut call, mount, path).await,
        ("metadata", Verb::Delete) => kv::metadata::delete(&call, mount, path).await,
        _ => Err(Fault::UnsupportedOperation),
    }
}
