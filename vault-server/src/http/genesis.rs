//! `POST /v1/genesis`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};

use crate::vault::Peer;

use super::app::App;
use super::error::Fault;

/// Room for two signed bodies in base64.
const BODY: usize = 4 << 20;

/// Stores the first record and the first entry: 201 without a body.
pub async fn store(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let (request, _place) = app.intake.json(&headers, body, BODY).await?;
    app.vault.genesis(&peer, request).await?;
    Ok(StatusCode::CREATED)
}
