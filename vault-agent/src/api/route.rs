//! The way of a request to its route: whether the caller is let in and says why, and which function
//! answers. The list of routes lives in `routes`, what a route does in its own file.

use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, request::Parts};
use host::version;
use machine::local::AGENT;

use crate::metrics::METRICS;

use super::caller::{self, Peer};
use super::context::Api;
use super::envelope::ApiAnswer;
use super::error::ApiFault;
use super::request::{self, Call, Query, Verb};
use super::routes::{self, Route};
use super::{agent, auth, forwards, halts, kv, metrics, reasons, review, sys, ui};

/// Answers one request.
pub(super) async fn answer(api: &Api, peer: &Peer, request: Request<Body>) -> ApiAnswer {
    let (parts, body) = request.into_parts();
    let mut answer = match admit(api, peer, &parts, body).await {
        Ok(answer) => answer,
        Err(fault) => {
            if fault.status() == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(path = parts.uri.path(), "{fault:?}");
            }
            fault.answer()
        }
    };
    // A program of another version knows by it why it is not understood.
    if let Ok(own) = HeaderValue::from_str(version::own()) {
        answer.headers_mut().insert(AGENT, own);
    }
    answer
}

/// Lets the caller in, then routes.
async fn admit(api: &Api, peer: &Peer, parts: &Parts, body: Body) -> Result<ApiAnswer, ApiFault> {
    api.gate.refuse_web_pages(peer, &parts.uri, &parts.headers)?;
    refuse_wrapping(&parts.headers)?;
    let path = request::path(&parts.uri)?;
    let query = Query(parts.uri.query());
    let verb = request::verb(&parts.method, query)?;
    if let Some(answer) = without_token(api, verb, query, &path)? {
        return Ok(answer);
    }
    let for_pages = verb == Verb::Read && path.trim_end_matches('/') == "sys/internal/ui/mounts";
    let caller = match api.gate.admit(peer, &parts.headers).await {
        Ok(caller) => caller,
        // A web page asks before anybody has logged in: it learns that it has to.
        Err(_) if for_pages && caller::given_token(&parts.headers).is_none() => {
            return Ok(sys::mounts::none_visible());
        }
        Err(fault) => {
            kv::record_stranger(api, peer, &path).await?;
            return Err(fault);
        }
    };
    let (mount, below) = path.split_once('/').unwrap_or((&path, ""));
    let (caller, headers) = (&caller, &parts.headers);
    let mut call = Call { api, caller, verb, mount, below, query, headers, body: body.into() };
    let below = below.trim_end_matches('/');
    match mount {
        "sys" => sys_route(&mut call, below).await,
        "auth" => auth_route(&mut call, below).await,
        "agent" => agent_route(&mut call, below).await,
        _ => kv_route(&mut call, &path).await,
    }
}

/// Refuses to answer in the open what was to be wrapped in a token.
fn refuse_wrapping(headers: &HeaderMap) -> Result<(), ApiFault> {
    let asked = headers.get("x-vault-wrap-ttl").map(|ttl| ttl.to_str().unwrap_or_default().trim());
    match asked {
        None | Some("" | "0" | "0s") => Ok(()),
        Some(_) => Err(ApiFault::Refused(
            "X-Vault-Wrap-TTL: answers are not wrapped in tokens here\nhint: leave `-wrap-ttl` \
             out; `vault token create -path PREFIX -ttl 60s` makes a token that ends"
                .to_owned(),
        )),
    }
}

/// Routes that answer anybody.
fn without_token(
    api: &Api,
    verb: Verb,
    query: Query<'_>,
    path: &str,
) -> Result<Option<ApiAnswer>, ApiFault> {
    Ok(Some(match (path.trim_end_matches('/'), verb) {
        ("sys/health", Verb::Read | Verb::Head) => sys::health(api, query)?,
        ("sys/seal-status", Verb::Read) => sys::seal_status(api),
        ("sys/leader", Verb::Read) => sys::leader(),
        ("sys/init", Verb::Read) => sys::init(),
        ("sys/health" | "sys/seal-status" | "sys/leader" | "sys/init", _) => {
            return Err(ApiFault::UnknownMethod);
        }
        _ => return Ok(None),
    }))
}

/// Finds the route below `sys/`, `auth/` or `agent/`, if the caller may go on to it.
async fn found(call: &Call<'_>, list: &'static [Route], path: &str) -> Result<(), ApiFault> {
    let route = routes::find(list, path, call.verb)?;
    reasons::check(call, &route.why).await
}

async fn sys_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    found(call, routes::SYS, path).await?;
    match path {
        "mounts" => return Ok(sys::mounts::all(call.api)),
        "internal/ui/mounts" => return Ok(sys::mounts::visible(call.api)),
        "capabilities-self" => return sys::capabilities(call).await,
        "metrics" => return metrics::answer(call).await,
        _ => {}
    }
    if let Some(below) = path.strip_prefix("internal/ui/mounts/") {
        return sys::mounts::preflight(call.api, below);
    }
    let below = path.strip_prefix("mounts/").ok_or(ApiFault::UnsupportedPath)?;
    match (below.strip_suffix("/tune"), call.verb) {
        (None, Verb::Read) => sys::mounts::one(call.api, below),
        (None, Verb::Write) => sys::mounts::make(call, below).await,
        (None, Verb::Delete) => sys::mounts::disable(call, below).await,
        (Some(mount), Verb::Read) => sys::mounts::tuning(call.api, mount),
        (Some(mount), Verb::Write) => sys::mounts::tune(call, mount).await,
        (_, _) => Err(ApiFault::UnsupportedOperation),
    }
}

async fn auth_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    if !path.starts_with("token/") {
        return Err(ApiFault::NoRoute(format!("auth/{path}")));
    }
    found(call, routes::AUTH, path).await?;
    match path {
        "token/lookup-self" => Ok(auth::lookup_self(call)),
        "token/renew-self" => Ok(auth::renew_self(call)),
        "token/revoke-self" => auth::revoke_self(call),
        "token/create" => auth::create(call).await,
        "token/accessors" => auth::accessors(call),
        "token/lookup" => auth::lookup(call).await,
        "token/lookup-accessor" => auth::lookup_accessor(call).await,
        "token/revoke" => auth::revoke(call).await,
        "token/revoke-accessor" => auth::revoke_accessor(call).await,
        _ => Err(ApiFault::UnsupportedPath),
    }
}

async fn agent_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    found(call, routes::AGENT, path).await?;
    match path {
        "status" => agent::status(call.api).await,
        "wait" => agent::wait(call).await,
        "join" => agent::waiting(call.api).await,
        "machines" => agent::machines(call.api).await,
        "exposure" => review::exposure(call).await,
        "audit" => agent::audit(call).await,
        "log" => review::log(call).await,
        "names" => review::names(call).await,
        "checkpoint" => review::checkpoint(call.api).await,
        "removed" => Ok(review::removed(call.api)),
        "admins" => review::admins(call.api).await,
        "writers" => review::writers(call),
        "past" => review::past(call).await,
        "blast" => review::blast(call).await,
        "paths" => Ok(review::paths(call.api)),
        "keys" => review::keys(call).await,
        "audit/verify" => agent::audit_verify(call).await,
        "prepare" => agent::prepare(call).await,
        "submit" => agent::submit(call).await,
        "sync" => agent::sync(call).await,
        "hook" => agent::hook(call).await,
        "forwards" => Ok(forwards::list(call.api)),
        "forward" => forwards::test(call).await,
        "kept" => agent::kept(call),
        "sealed" => agent::sealed(call).await,
        "given" => agent::given(call).await,
        "acts" => review::acts(call).await,
        "scan" => review::scan(call).await,
        "heal" => agent::heal(call).await,
        "server" => agent::server(call).await,
        "adopt" => agent::adopt(call).await,
        "resume" => halts::resume(call).await,
        "accept" => halts::accept(call).await,
        "set-aside" => halts::set_aside(call).await,
        "ui" => ui::ui(call).await,
        _ => Err(ApiFault::UnsupportedPath),
    }
}

async fn kv_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    let engine = &call.api.engine;
    // Before the first sync nothing is known of any mount.
    if engine.state(shared::log::State::seq) == 0 && engine.own(|_, _| ()).is_none() {
        return Err(ApiFault::Unheard);
    }
    if !call.api.has_mount(call.mount) {
        let slash = if call.verb == Verb::List && !path.ends_with('/') { "/" } else { "" };
        return Err(ApiFault::NoRoute(format!("{path}{slash}")));
    }
    if let Some(answer) = kv::edge(call.below, call.verb)? {
        return Ok(answer);
    }
    let kind = call.below.split('/').next().unwrap_or_default();
    let route = routes::find(routes::KV, kind, call.verb);
    reasons::check(call, &route.map_err(|_| ApiFault::UnsupportedOperation)?.why).await?;
    match (kind, call.verb) {
        ("config", Verb::Read) => Ok(kv::config::read(call)),
        ("config", Verb::Write) => kv::config::write(call).await,
        ("data", Verb::Read) => {
            let began = Instant::now();
            let answer = kv::data::read(call).await;
            METRICS.reads.observe(began.elapsed());
            answer
        }
        ("data", Verb::Write) => kv::data::write(call).await.map_err(ApiFault::of_existence_check),
        ("data", Verb::Patch) => kv::data::patch(call).await,
        ("data", Verb::Delete) => kv::versions::delete_newest(call).await,
        ("subkeys", Verb::Read) => kv::data::subkeys(call).await,
        ("delete", Verb::Write) => kv::versions::delete(call).await,
        ("undelete", Verb::Write) => kv::versions::undelete(call).await,
        ("destroy", Verb::Write) => kv::versions::destroy(call).await,
        ("metadata", Verb::List) => kv::list::read(call).await,
        ("metadata", Verb::Read) => kv::metadata::read(call).await,
        ("metadata", Verb::Write) => {
            kv::metadata::write(call).await.map_err(ApiFault::of_existence_check)
        }
        ("metadata", Verb::Patch) => kv::metadata::write(call).await,
        ("metadata", Verb::Delete) => kv::metadata::delete(call).await,
        _ => Err(ApiFault::UnsupportedOperation),
    }
}
