//! `POST /v1/report`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use crate::vault::Caller;

use super::app::App;
use super::error::{Fault, json};

/// Room for a signed report in base64.
const BODY: usize = 512 << 10;

/// Keeps the caller's report: 200 with everybody's.
pub async fn exchange(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (request, _place) = app.intake.json(&headers, body, BODY).await?;
    Ok(json(StatusCode::OK, &app.vault.report(&caller, request).await?))
}
