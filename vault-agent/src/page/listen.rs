//! The listener of the page: loopback alone, with limits on everything that a caller decides.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::loopback::Ends;
use host::hint::hinted;

use super::answer::empty;
use super::route;
use super::site::Site;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and how long a connection may be idle.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEADER_BYTES: usize = 16 << 10;
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a connection may live at most: streams begin anew by themselves.
const LIFE: Duration = Duration::from_hours(1);
/// How long to leave off accepting when the system refuses.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the port on 127.0.0.1, or any that is free.
///
/// # Errors
/// If it cannot be bound.
pub(super) async fn bind(port: Option<u16>) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    TcpListener::bind(address).await.map_err(|why| {
        let text = format!("the page cannot listen on `{address}`: {why}");
        match why.kind() {
            ErrorKind::AddrInUse => {
                hinted(text, "end the program that has it, or set another `port` in `[ui]`")
            }
            _ => anyhow::Error::msg(text),
        }
    })
}

/// Serves until `stop` turns true, and ends every connection then.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let site = site.clone();
                open.spawn(async move {
                    // A stream that has no ends has no other end.
                    if let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) {
                        let _ = timeout(LIFE, one(stream, (peer, own), site)).await;
                    }
                    drop(place);
                });
            }
            Err(why) => {
                tracing::warn!(%why, "the page cannot accept connections");
                sleep(PAUSE).await;
            }
        }
    }
    open.shutdown().await;
}

/// Takes the next connection, once there is a place for one.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn one(stream: TcpStream, ends: Ends, site: Arc<Site>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let site = site.clone();
        async move {
            let answer = route::answer(&site, ends, request.map(Body::new));
            let answer = timeout(ANSWER_TIME, answer).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| empty(StatusCode::GATEWAY_TIMEOUT)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(why) = connection.await {
        tracing::debug!("a connection to the page ended: {why}");
    }
}
