//! `POST /v1/access`, `GET /v1/audit`, `GET /v1/audit/leaves`.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use shared::wire::v1::audit::{AuditQuery, LeavesQuery};

use crate::store::Unavailable;
use crate::vault::Caller;

use super::app::{App, told_to_stop};
use super::error::{Fault, json};

/// Room for a batch of local reads.
const BODY: usize = 4 << 20;

/// A query string, or why it is malformed.
pub type Asked<T> = Result<Query<T>, QueryRejection>;

/// Takes a parsed query out.
pub fn asked<T>(query: Asked<T>) -> Result<T, Fault> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(why) => Err(Fault::Malformed(format!("the query is malformed: {why}"))),
    }
}

/// Records local reads: 200 with the number of the next one due.
pub async fn access(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (request, _place) = app.intake.json(&headers, body, BODY).await?;
    Ok(json(StatusCode::OK, &app.vault.access(&caller, request).await?))
}

/// Returns audit records: 200 with a page; one that waits for records does not hold up the end of
/// the program.
pub async fn records(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Asked<AuditQuery>,
) -> Result<Response, Fault> {
    let (query, mut shutdown) = (asked(query)?, app.shutdown.clone());
    tokio::select! {
        page = app.vault.audit(&caller, query) => Ok(json(StatusCode::OK, &page?)),
        () = told_to_stop(&mut shutdown) => Err(Unavailable::Stopping.into()),
    }
}

/// Returns audit leaves: 200 with a page.
pub async fn leaves(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Asked<LeavesQuery>,
) -> Result<Response, Fault> {
    Ok(json(StatusCode::OK, &app.vault.leaves(&caller, asked(query)?).await?))
}
