//! Every route on one screen, and what each request passes on its way: a number, a caller, a line
//! in the log.

mod app;
mod checkpoint;
pub mod connection;
mod error;
pub mod local;
mod log;
mod open;
mod routes;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{Extension, MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use shared::audit::Outcome;
use shared::wire::v1;
use shared::wire::v1::log::LAST_HEAD;
use shared::wire::v1::shares::Share;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::config::{Limits, Shares};
use crate::vault::{Caller, Peer, Refusal, Vault};

use app::App;
use error::{Fault, Unrecorded};
use open::{Open, Requests};

/// Makes the router; `shutdown` ends the streams that stay open.
pub fn router(
    vault: Vault,
    limits: &Limits,
    shares: &Shares,
    shutdown: watch::Receiver<bool>,
) -> Router {
    let app = App::new(vault, limits, shares, shutdown);
    Router::new()
        .route(v1::GENESIS, post(routes::genesis))
        .route(v1::ADOPT, post(routes::adopt))
        .route(v1::JOIN, get(routes::waiting).post(routes::join))
        .route(v1::LOG, get(log::read).post(log::append))
        .route(&format!("{}{{id}}", v1::BLOB), get(routes::blob).put(routes::park))
        .route(v1::CHECKPOINT, get(checkpoint::read))
        .route(v1::HEAL, post(routes::heal))
        .route(v1::REPORT, post(routes::report))
        .route(v1::TARGETS, get(routes::targets))
        .route(v1::ACCESS, post(routes::access))
        .route(v1::AUDIT, get(routes::audit))
        .route(v1::AUDIT_LEAVES, get(routes::leaves))
        .route(v1::SHARES, get(routes::shares))
        .fallback(|| async {
            Fault::unseen(StatusCode::NOT_FOUND, Outcome::NotFound, "no such route")
        })
        .method_not_allowed_fallback(|| async {
            let why = "the route does not know this method";
            Fault::unseen(StatusCode::METHOD_NOT_ALLOWED, Outcome::MethodNotAllowed, why)
        })
        .layer(from_fn_with_state(app.clone(), pass))
        .with_state(app)
}

/// Puts a refusal on record that the rules have not seen, before it is answered.
async fn on_record(vault: &Vault, caller: &Caller, response: Response) -> Response {
    let Some(Unrecorded(why)) = response.extensions().get().cloned() else { return response };
    match vault.record_malformed(caller, why).await {
        Ok(()) => response,
        Err(why) => Fault::from(why).into_response(),
    }
}

/// Lets a machine's request in as long as it keeps to its share, and counts the answer.
async fn metered(
    app: &App,
    caller: &Caller,
    open: &mut Open,
    run: impl Future<Output = Response>,
) -> Response {
    let meter = app.vault.meter();
    let admitted = async {
        meter.admit(caller.number)?;
        Ok::<_, Refusal>(meter.request(caller.number).await?)
    };
    let response = match admitted.await {
        Ok(place) => {
            open.at(place);
            on_record(&app.vault, caller, run.await).await
        }
        Err(why) => Fault::from(why).into_response(),
    };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        app.vault.count_limited(caller);
    }
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    meter.take(caller.number, Share::Bytes, bytes);
    response
}

/// Tells whether a key that belongs to no machine may ask this.
fn is_for_strangers(app: &App, route: &str, method: &Method) -> bool {
    match (app.vault.is_founded(), route) {
        (false, v1::GENESIS | v1::ADOPT) => true,
        (true, v1::JOIN) => method == Method::POST,
        (_, _) => false,
    }
}

/// Numbers a request, finds its caller, turns strangers away, logs the answer.
async fn pass(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(requests): Extension<Requests>,
    mut request: Request,
    next: Next,
) -> Response {
    let (start, id) = (Instant::now(), app.requests.fetch_add(1, Relaxed));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "-".to_owned());
    let method = request.method().clone();
    // An owner's own key is for the log alone: all else is the machines'.
    let is_log = [v1::LOG, v1::CHECKPOINT].contains(&route.as_str());
    let caller = app.vault.caller(&peer).filter(|it| !it.is_owner() || is_log);
    let machine = caller.as_ref().map_or("-", |caller| caller.name.as_str());
    let span = tracing::info_span!("request", id, %method, route, machine);
    let mut open = requests.open();
    let head = request.headers().get(LAST_HEAD).filter(|_| route == v1::LOG).cloned();
    let mut response = match caller {
        Some(caller) => {
            request.extensions_mut().insert(caller.clone());
            let run = async {
                match log::shown(&app.vault, &peer, head).await {
                    Ok(()) => next.run(request).instrument(span.clone()).await,
                    Err(fault) => fault.into_response(),
                }
            };
            metered(&app, &caller, &mut open, run).await
        }
        None if is_for_strangers(&app, &route, &method) => {
            let response = next.run(request).instrument(span.clone()).await;
            if response.extensions().get::<Unrecorded>().is_some() {
                app.vault.count_stranger(&peer);
            }
            response
        }
        None => {
            app.vault.count_stranger(&peer);
            // A machine that a database set back does not know yet may be the one that shows it.
            let _ = log::shown(&app.vault, &peer, head).await;
            let why = if [v1::GENESIS, v1::ADOPT].contains(&route.as_str()) {
                Refusal::Claim
            } else {
                Refusal::Stranger
            };
            Fault::from(why).into_response()
        }
    };
    let status = response.status().as_u16();
    app.vault.metrics().answered(status);
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(status, micros, "answered"));
    response.headers_mut().insert("x-request-id", id.into());
    open.until_sent(response)
}
