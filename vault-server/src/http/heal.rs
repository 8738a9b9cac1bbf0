//! `POST /v1/heal`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use crate::vault::Caller;

use super::app::App;
use super::error::{Fault, json};

/// Takes lost entries: 200 with the head and the blobs that are still wanted.
pub async fn give_back(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (request, _place) = app.intake.json(&headers, body, usize::MAX).await?;
    Ok(json(StatusCode::OK, &app.vault.heal(&caller, request).await?))
}
