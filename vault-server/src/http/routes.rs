//! What every route does, but for the log's: parses the request, asks the vault, writes the answer.

use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use host::store::StoreFailure;
use shared::hash::Hash;
use shared::limits;
use shared::wire::v1::audit::{AccessRequest, AuditQuery, LeavesQuery};
use shared::wire::v1::join::JoinRequest;
use shared::wire::v1::log::{AdoptRequest, GenesisRequest, HealRequest};
use shared::wire::v1::report::{ReportRequest, TargetsQuery};
use shared::wire::v1::shares::Share;

use crate::vault::{Caller, Peer, Refusal};

use super::app::{App, Asked, Json, told_to_stop};
use super::error::{Fault, held, json};

/// Room for two signed bodies in base64, or a batch of local reads.
const BATCH: usize = 4 << 20;
/// Room for a line that people could copy.
const LINE: usize = 4 << 10;
/// Room for a signed record in base64, and the text of targets as a JSON string.
const REPORT: usize = 1 << 20;

/// Stores the first record and the first entry: 201 without a body.
pub async fn genesis(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(request, _place): Json<GenesisRequest, BATCH>,
) -> Result<StatusCode, Fault> {
    app.vault.genesis(&peer, request).await?;
    Ok(StatusCode::CREATED)
}

/// Takes a vault over from one of its machines: 201 without a body.
pub async fn adopt(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(request, _place): Json<AdoptRequest, { usize::MAX }>,
) -> Result<StatusCode, Fault> {
    app.vault.adopt(&peer, request).await?;
    Ok(StatusCode::CREATED)
}

/// Takes a stranger's request to join: 200 at once, so that its host can say that it waits; to the
/// same one again once it has become a machine, or after some seconds as it is. One that is held
/// does not hold up the end of the program.
pub async fn join(
    State(mut app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(request, _place): Json<JoinRequest, LINE>,
) -> Result<Response, Fault> {
    let waits = app.vault.is_asking(&peer, &request.line);
    let mut reply = app.vault.ask_to_join(&peer, request).await?;
    if waits && !reply.joined {
        reply.joined = tokio::select! {
            joined = app.vault.has_joined(&peer) => joined,
            () = told_to_stop(&mut app.shutdown) => false,
        };
    }
    Ok(json(StatusCode::OK, &reply))
}

/// Returns who asks to join: 200.
pub async fn waiting(State(app): State<App>) -> Response {
    json(StatusCode::OK, &app.vault.asking_to_join())
}

/// Takes lost entries: 200 with the head and the blobs that are still wanted.
pub async fn heal(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request, _place): Json<HealRequest, { usize::MAX }>,
) -> Result<Response, Fault> {
    app.vault.afford(&caller, &[Share::Log, Share::Blobs, Share::Audit])?;
    let room = app.room(&caller).await;
    Ok(held(&app.vault.heal(caller, request).await?, room))
}

/// Keeps the caller's report: 200, with some of the others' if asked for.
pub async fn report(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request, _place): Json<ReportRequest, REPORT>,
) -> Result<Response, Fault> {
    let room = app.room(&caller).await;
    Ok(held(&app.vault.report(caller, request).await?, room))
}

/// Returns who reported what last: 200 with a page.
pub async fn targets(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<TargetsQuery>,
) -> Result<Response, Fault> {
    let room = app.room(&caller).await;
    Ok(held(&app.vault.targets(caller, query).await?, room))
}

/// Records local reads: 200 with the number of the next one due.
pub async fn access(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request, _place): Json<AccessRequest, BATCH>,
) -> Result<Response, Fault> {
    Ok(json(StatusCode::OK, &app.vault.access(caller, request).await?))
}

/// Returns audit records: 200 with a page; one that waits for records does not hold up the end of
/// the program.
pub async fn audit(
    State(mut app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<AuditQuery>,
) -> Result<Response, Fault> {
    tokio::select! {
        found = app.vault.audit(caller, query) => {
            let (page, room) = found?;
            Ok(held(&page, room))
        }
        () = told_to_stop(&mut app.shutdown) => Err(Refusal::from(StoreFailure::Closed).into()),
    }
}

/// Returns audit leaves: 200 with a page.
pub async fn leaves(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<LeavesQuery>,
) -> Result<Response, Fault> {
    let (page, room) = app.vault.leaves(caller, query).await?;
    Ok(held(&page, room))
}

/// Returns which machines wanted more than their share: 200.
pub async fn shares(State(app): State<App>) -> Response {
    json(StatusCode::OK, &app.vault.shares())
}

/// Parks a blob: 201 without a body, also for one that is here already.
pub async fn park(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Fault> {
    let id = blob_id(&id)?;
    app.vault.afford(&caller, &[Share::Blobs, Share::Audit])?;
    let taken = app.take(request, limits::BLOB).await?;
    app.vault.put_blob(caller, id, taken).await?;
    Ok(StatusCode::CREATED)
}

/// Delivers a blob: 200 with its bytes, an age file as it is.
pub async fn blob(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let id = blob_id(&id)?;
    app.vault.afford(&caller, &[Share::Audit])?;
    let room = app.room(&caller).await;
    let bytes = app.vault.read_blob(caller, id).await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], room.hold(bytes.into())).into_response())
}

fn blob_id(id: &str) -> Result<Hash, Fault> {
    id.parse().map_err(|why: shared::error::Error| Fault::malformed(why.detail))
}
