//! `PUT` and `GET /v1/blob/<sha256>`: an age file as it is.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use shared::hash::Hash;
use shared::limits;

use crate::vault::Caller;

use super::app::App;
use super::error::Fault;

fn parse(id: &str) -> Result<Hash, Fault> {
    id.parse().map_err(|why: shared::error::Error| Fault::Malformed(why.detail))
}

/// Parks a blob: 201 without a body, also for one that is here already.
pub async fn park(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let id = parse(&id)?;
    let taken = app.intake.take(&headers, body, limits::BLOB).await?;
    app.vault.put_blob(&caller, id, taken).await?;
    Ok(StatusCode::CREATED)
}

/// Delivers a blob: 200 with its bytes.
pub async fn read(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let bytes = app.vault.read_blob(&caller, parse(&id)?).await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], bytes).into_response())
}
