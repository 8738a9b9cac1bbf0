//! Plain HTTP for this machine only: `/healthz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::vault::Vault;

use super::app::told_to_stop;
use super::error::unavailable;

/// Open connections.
const CONNECTIONS: usize = 16;
/// Time for a request's headers, and for the writer to answer a health check.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until `shutdown`.
pub async fn run(vault: Vault, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = told_to_stop(&mut shutdown) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (vault, mut stop) = (vault.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(vault.clone(), request));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                _ = connection => {}
                () = told_to_stop(&mut stop) => {}
            }
            drop(place);
        });
    }
}

async fn answer(vault: Vault, request: Request<Incoming>) -> Result<Response, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (method, "/metrics" | "/healthz") if !matches!(*method, Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned())
        }
        (_, "/metrics") => (StatusCode::OK, vault.metrics_text()),
        (_, "/healthz") => match tokio::time::timeout(PATIENCE, vault.ping()).await {
            Ok(Ok(())) if vault.is_full() => {
                let why = "the disk is full: only owners' entries are taken\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, why)
            }
            Ok(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
            Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", unavailable(&why).1)),
            Err(_) => {
                let why = "the database does not answer\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, why)
            }
        },
        _ => (StatusCode::NOT_FOUND, "no such route\n".to_owned()),
    };
    Ok((status, [(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
