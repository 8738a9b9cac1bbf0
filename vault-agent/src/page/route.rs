//! The list of addresses, and what stands before each: whose request it is, and whether it comes
//! from this page. What a screen shows lives with its view.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::Instant;

use crate::loopback::Ends;
use host::clock;

use super::answer::{Answer, asset, empty, plain, see_other};
use super::frame::{Fault, Viewed};
use super::guard::{self, Foreign};
use super::href::{Fields, decoded};
use super::site::{Site, Visit};
use super::views::{
    alarms, audit, change, exposed, fleet, machines, readers, secret, secrets, widget,
};
use super::words::{Lang, NO_SESSION};
use super::{language, live};

/// Largest body: a form.
const BODY: usize = 16 << 10;

/// The header by which the script says that nobody has asked for it.
const LOOKS: &str = "x-live";

/// Answers one request of a connection.
pub(super) async fn answer(site: &Arc<Site>, ends: Ends, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let port = match guard::check_host(&parts, |port| site.is_called_by(port)) {
        Ok(port) => port,
        Err(foreign) => return turned_away(foreign),
    };
    let Some(path) = decoded(parts.uri.path()) else { return empty(StatusCode::BAD_REQUEST) };
    // Other pages show it: what its caller shows is its token.
    if let Some(answer) = widget::answer_for(site, &parts, &path).await {
        return answer;
    }
    if let Err(foreign) = guard::check_sender(&parts) {
        return turned_away(foreign);
    }
    if let Some(token) = path.strip_prefix("/open/") {
        return open(site, &parts, token, (port, ends)).await;
    }
    let is_stream = matches!(path.as_str(), "/events" | "/events/audit");
    let only_looks = parts.headers.contains_key(LOOKS) || is_stream;
    let cookie = cookie(&parts.headers, port);
    let session =
        cookie.and_then(|cookie| site.sessions.find(cookie, port, only_looks, Instant::now()));
    let Some(session) = session else { return no_session(&parts.headers) };
    if !session.opener.lets(site.owners.of(ends).await.map(|owner| owner.uid)) {
        tracing::debug!("a session of the page was shown by another user");
        return no_session(&parts.headers);
    }
    if is_stream && parts.method == Method::GET {
        let query = Fields::read(parts.uri.query().unwrap_or_default());
        return live::stream(site, &session, (path != "/events").then_some(&query));
    }
    if let Some(asset) = asset(&path) {
        return asset;
    }
    let query = Fields::read(parts.uri.query().unwrap_or_default());
    let lang = query.get("lang").and_then(Lang::find).or_else(|| session.lang());
    let visit = Visit {
        site,
        session: &session,
        lang: lang.unwrap_or_else(|| accepted(&parts.headers)),
        here: parts.uri.path_and_query().map_or("/", |here| here.as_str()),
        query,
        now: clock::now(),
    };
    let viewed = match parts.method {
        Method::GET => screen(&visit, &path).await,
        _ => act(&visit, &path, &parts, body).await,
    };
    viewed.unwrap_or_else(|fault| fault.answer(&visit))
}

/// Answers what is not looked at, with nothing.
fn turned_away(foreign: Foreign) -> Answer {
    empty(match foreign {
        Foreign::Method => StatusCode::METHOD_NOT_ALLOWED,
        // Nothing is spent by it: a link is still good when somebody follows it.
        Foreign::Ahead => StatusCode::SERVICE_UNAVAILABLE,
        Foreign::Host | Foreign::Origin => StatusCode::FORBIDDEN,
    })
}

/// Every screen.
async fn screen(visit: &Visit<'_>, path: &str) -> Viewed {
    match path {
        "/" => fleet::show(visit).await,
        "/secrets" => secrets::show(visit),
        "/readers" => readers::show(visit).await,
        "/audit" => audit::show(visit).await,
        "/machines" => machines::show(visit).await,
        "/machines/exposed" => exposed::show(visit).await,
        "/alarms" => alarms::show(visit).await,
        _ => match (path.strip_prefix("/secret/"), path.strip_prefix("/change/")) {
            (Some(secret), _) => secret::show(visit, secret).await,
            (None, Some(seq)) => change::show(visit, seq).await,
            (None, None) => Err(Fault::Missing),
        },
    }
}

/// Every form; each shows that it is of this session.
async fn act(visit: &Visit<'_>, path: &str, parts: &Parts, body: Body) -> Viewed {
    let form = form(parts, body).await.ok_or(Fault::Refused)?;
    if !form.get("csrf").is_some_and(|csrf| visit.session.knows(csrf)) {
        return Err(Fault::Refused);
    }
    match path {
        "/language" => language::choose(visit, &form),
        _ => match path.strip_prefix("/secret/") {
            Some(secret) => secret::reveal(visit, secret, &form).await,
            None => Err(Fault::Missing),
        },
    }
}

/// Reads a form; `None` for what is none, or too large.
async fn form(parts: &Parts, body: Body) -> Option<Fields> {
    let kind = parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let bytes: Bytes = Limited::new(body, BODY).collect().await.ok()?.to_bytes();
    Some(Fields::read(str::from_utf8(&bytes).ok()?))
}

/// Opens a session by a link.
async fn open(site: &Site, parts: &Parts, token: &str, (port, ends): (u16, Ends)) -> Answer {
    if parts.method != Method::GET {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let user = site.owners.of(ends).await.map(|owner| owner.uid);
    match site.sessions.open(token, (port, user), Instant::now()) {
        Some(cookie) => {
            site.changed.notify_one();
            tracing::info!(port, "the page was opened by a link");
            let name = cookie_name(port);
            let text = format!("{name}={}; HttpOnly; SameSite=Strict; Path=/", *cookie);
            see_other("/", Some(&text))
        }
        None => {
            // Anybody of this host can try one as often as they like.
            tracing::debug!("a link to the page was wrong, used or over");
            no_session(&parts.headers)
        }
    }
}

/// What who has no session is told, whatever they ask for.
fn no_session(headers: &HeaderMap) -> Answer {
    let [en, de] = NO_SESSION;
    let text = match accepted(headers) {
        Lang::En => en,
        Lang::De => de,
    };
    plain(StatusCode::FORBIDDEN, text)
}

fn accepted(headers: &HeaderMap) -> Lang {
    let header = headers.get(header::ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
    Lang::accepted(header.unwrap_or_default())
}

/// Names the cookie of a session: cookies know no ports, and other pages of this host have theirs.
fn cookie_name(port: u16) -> String {
    format!("vault-ui-{port}")
}

/// Returns the cookie that a browser shows; `None` if it shows two of that name.
fn cookie(headers: &HeaderMap, port: u16) -> Option<&str> {
    let name = cookie_name(port);
    let shown = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
    let pairs = shown.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(of, _)| *of == name).map(|(_, value)| value);
    let first = ours.next();
    first.filter(|_| ours.next().is_none())
}
