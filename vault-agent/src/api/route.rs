//! The list of routes, and what stands before each: the path, the verb, and whether the caller is
//! let in. What a route does lives in its own file.

use axum::body::Body;
use axum::http::{Request, StatusCode, request::Parts};

use super::caller::{self, Peer};
use super::context::Api;
use super::envelope::ApiAnswer;
use super::error::ApiFault;
use super::request::{self, Call, Query, Verb};
use super::{agent, auth, kv, sys};

/// Answers one request.
pub(super) async fn answer(api: &Api, peer: &Peer, request: Request<Body>) -> ApiAnswer {
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
async fn admit(api: &Api, peer: &Peer, parts: &Parts, body: Body) -> Result<ApiAnswer, ApiFault> {
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

async fn sys_route(mut call: Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    match (path, call.verb) {
        ("mounts", Verb::Read) => Ok(sys::mounts::all(call.api)),
        ("internal/ui/mounts", Verb::Read) => Ok(sys::mounts::visible(call.api)),
        ("capabilities-self", Verb::Write) => sys::capabilities(&mut call).await,
        ("mounts" | "capabilities-self" | "internal/ui/mounts", _) => {
            Err(ApiFault::UnsupportedOperation)
        }
        (path, verb) => {
            if let Some(below) = path.strip_prefix("internal/ui/mounts/") {
                return match verb {
                    Verb::Read => sys::mounts::preflight(call.api, below),
                    _ => Err(ApiFault::UnsupportedOperation),
                };
            }
            let Some(below) = path.strip_prefix("mounts/") else {
                return Err(ApiFault::UnsupportedPath);
            };
            match (below.strip_suffix("/tune"), verb) {
                (None, Verb::Read) => sys::mounts::one(call.api, below),
                (None, Verb::Write) => sys::mounts::make(&mut call, below).await,
                (None, Verb::Delete) => sys::mounts::disable(&call, below).await,
                (Some(mount), Verb::Read) => sys::mounts::tuning(call.api, mount),
                (Some(mount), Verb::Write) => sys::mounts::tune(&mut call, mount).await,
                (_, _) => Err(ApiFault::UnsupportedOperation),
            }
        }
    }
}

async fn auth_route(mut call: Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
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
        ) => Err(ApiFault::UnsupportedOperation),
        (path, _) if path.starts_with("token/") => Err(ApiFault::UnsupportedPath),
        _ => Err(ApiFault::NoRoute(format!("auth/{path}"))),
    }
}

async fn agent_route(mut call: Call<'_>, path: &str) -> Result<ApiAnswer, ApiFault> {
    if !call.caller.scope.is_all() {
        return Err(ApiFault::Denied);
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
        ) => Err(ApiFault::UnsupportedOperation),
        _ => Err(ApiFault::UnsupportedPath),
    }
}

async fn kv_route(mut call: Call<'_>, mount: &str, full: &str) -> Result<ApiAnswer, ApiFault> {
    if !call.api.engine.state(|state| state.mounts().contains_key(mount)) {
        let slash = if call.verb == Verb::List && !full.ends_with('/') { "/" } else { "" };
        return Err(ApiFault::NoRoute(format!("{full}{slash}")));
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
            kv::data::write(&mut call, mount, path).await.map_err(ApiFault::of_existence_check)
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
            kv::metadata::write(&mut call, mount, path).await.map_err(ApiFault::of_existence_check)
        }
        ("metadata", Verb::Patch) => kv::metadata::patch(&mut call, mount, path).await,
        ("metadata", Verb::Delete) => kv::metadata::delete(&call, mount, path).await,
        _ => Err(ApiFault::UnsupportedOperation),
    }
}
