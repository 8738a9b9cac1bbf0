//! The list of routes, and what stands before each: the path, the verb, and whether the caller is
//! let in. What a route does lives in its own file.

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
use super::{agent, auth, forwards, halts, kv, metrics, review, sys, ui};

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

async fn sys_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    match path {
        "mounts" => return Ok(sys::mounts::all(call.only(Verb::Read)?.api)),
        "internal/ui/mounts" => return Ok(sys::mounts::visible(call.only(Verb::Read)?.api)),
        "capabilities-self" => return sys::capabilities(call.only(Verb::Write)?).await,
        "metrics" => return metrics::answer(call.only(Verb::Read)?).await,
        _ => {}
    }
    if let Some(below) = path.strip_prefix("internal/ui/mounts/") {
        return sys::mounts::preflight(call.only(Verb::Read)?.api, below);
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
    match path {
        "token/lookup-self" if call.verb == Verb::Read => Ok(auth::lookup_self(call)),
        "token/lookup-self" => Ok(auth::lookup_self(call.only(Verb::Write)?)),
        "token/renew-self" => Ok(auth::renew_self(call.only(Verb::Write)?)),
        "token/revoke-self" => auth::revoke_self(call.only(Verb::Write)?),
        "token/create" => auth::create(call.only(Verb::Write)?).await,
        "token/accessors" => auth::accessors(call.only(Verb::List)?),
        "token/lookup" => auth::lookup(call.only(Verb::Write)?).await,
        "token/lookup-accessor" => auth::lookup_accessor(call.only(Verb::Write)?).await,
        "token/revoke" => auth::revoke(call.only(Verb::Write)?).await,
        "token/revoke-accessor" => auth::revoke_accessor(call.only(Verb::Write)?).await,
        _ if path.starts_with("token/") => Err(ApiFault::UnsupportedPath),
        _ => Err(ApiFault::NoRoute(format!("auth/{path}"))),
    }
}

async fn agent_route(call: &mut Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    match path {
        "status" => agent::status(call.only(Verb::Read)?.api).await,
        "wait" => agent::wait(call.only(Verb::Read)?).await,
        "join" => agent::waiting(call.only(Verb::Read)?.api).await,
        "machines" => agent::machines(call.only(Verb::Read)?.api).await,
        "exposure" => review::exposure(call.only(Verb::Read)?).await,
        "audit" => agent::audit(call.only(Verb::Read)?).await,
        "log" => review::log(call.only(Verb::Read)?).await,
        "names" => review::names(call.only(Verb::Read)?).await,
        "removed" => review::removed(call.only(Verb::Read)?.api).await,
        "admins" => review::admins(call.only(Verb::Read)?.api).await,
        "writers" => review::writers(call.only(Verb::Read)?),
        "past" => review::past(call.only(Verb::Read)?).await,
        "blast" => review::blast(call.only(Verb::Read)?).await,
        "paths" => Ok(review::paths(call.only(Verb::Read)?.api)),
        "keys" => review::keys(call.only(Verb::Read)?).await,
        "audit/verify" => agent::audit_verify(call.only(Verb::Read)?).await,
        "prepare" => agent::prepare(call.only(Verb::Write)?).await,
        "submit" => agent::submit(call.only(Verb::Write)?).await,
        "sync" => agent::sync(call.only(Verb::Write)?).await,
        "hook" => agent::hook(call.only(Verb::Write)?).await,
        "forwards" => Ok(forwards::list(call.only(Verb::Read)?.api)),
        "forward" => forwards::test(call.only(Verb::Write)?).await,
        "kept" => agent::kept(call.only(Verb::Read)?),
        "sealed" => agent::sealed(call.only(Verb::Read)?).await,
        "acts" => review::acts(call.only(Verb::Read)?).await,
        "scan" => review::scan(call).await,
        "heal" => agent::heal(call.only(Verb::Write)?).await,
        "server" => agent::server(call).await,
        "adopt" => agent::adopt(call.only(Verb::Write)?).await,
        "resume" => halts::resume(call).await,
        "accept" => halts::accept(call.only(Verb::Write)?).await,
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
