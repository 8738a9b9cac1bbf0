//! Connections of agents: accepting, counting, the HTTP/2 limits, and their end. What a request
//! does lives in the routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::config::{Limits, Shares};
use crate::meter::{Origin, Place};
use crate::vault::{Peer, Vault};
use host::raw_keys::Acceptor;

use super::app::told_to_stop;
use super::open::Requests;

/// How long a key that belongs to no machine may stay connected.
const STRANGER: Duration = Duration::from_secs(30);
/// How long open requests get on a connection that has to end.
const LEAVE: Duration = Duration::from_secs(5);
/// Pause after the system gave no socket, e.g. for want of file descriptors.
const NO_SOCKET: Duration = Duration::from_millis(100);

/// What every connection needs.
struct Server {
    acceptor: Acceptor,
    router: Router,
    vault: Vault,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
}

/// Serves connections until `shutdown`, then gives open requests their time.
pub async fn run(
    vault: Vault,
    acceptor: Acceptor,
    (limits, shares): (Limits, Shares),
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    let router = super::router(vault.clone(), &limits, &shares, shutdown.clone());
    let server = Arc::new(Server { acceptor, router, vault, limits, shutdown: shutdown.clone() });
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut shutdown) => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, addr)) => {
                    let place = server.vault.meter().places.stranger(addr.ip());
                    open.spawn(Arc::clone(&server).serve(socket, addr, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection accepted");
                    tokio::time::sleep(NO_SOCKET).await;
                }
            },
        }
    }
    drop(listener);
    let time = Duration::from_secs(server.limits.shutdown_seconds);
    let ended = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(time, ended).await.is_err() {
        tracing::warn!(connections = open.len(), "connections cut off");
        open.shutdown().await;
    }
}

/// How a connection has to go.
enum Go {
    /// After the requests that are open.
    Soon,
    /// Another one needs its place.
    Now,
}

impl Server {
    /// Serves one connection.
    async fn serve(self: Arc<Self>, socket: TcpStream, addr: SocketAddr, mut place: Place<Origin>) {
        let metrics = self.vault.metrics();
        // Answers are small and awaited: none may wait for an acknowledgement of the last.
        let _ = socket.set_nodelay(true);
        let accepted = tokio::select! {
            accepted = self.acceptor.accept(socket) => accepted,
            () = place.told_to_go() => Err(anyhow::anyhow!("others wanted to come in")),
        };
        let (stream, key) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                metrics.refused_connections.add(1);
                tracing::debug!(%addr, why = format!("{why:#}"), "no handshake");
                return;
            }
        };
        metrics.connections.add(1);
        self.exchange(stream, Peer { key, addr }, place).await;
        metrics.connections.sub(1);
    }

    /// Waits until the connection has to go: when its machine is removed, when a stranger has
    /// stayed too long without becoming one, or when its place is needed.
    async fn has_to_go(&self, peer: &Peer, mut place: Place<Origin>, requests: &Requests) -> Go {
        let mut machines = self.vault.directory();
        let number = tokio::select! {
            () = place.told_to_go() => return Go::Now,
            known = tokio::time::timeout(STRANGER, async {
                let known = machines.wait_for(|machines| machines.contains_key(&peer.key)).await;
                known.ok().and_then(|machines| machines.get(&peer.key).map(|(number, _)| *number))
            }) => match known {
                Ok(Some(number)) => number,
                Ok(None) | Err(_) => return Go::Soon,
            },
        };
        let places = &self.vault.meter().places;
        let mut own = places.member(number, Arc::clone(&requests.0));
        drop(place);
        tokio::select! {
            () = own.told_to_go() => Go::Now,
            _ = machines.wait_for(|machines| !machines.contains_key(&peer.key)) => Go::Soon,
        }
    }

    /// Serves the requests of one connection until it ends, by itself, at the program's end, or
    /// because it has to go.
    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        peer: Peer,
        place: Place<Origin>,
    ) {
        let (router, requests) = (self.router.clone(), Requests::default());
        let open = requests.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(open.clone());
            router.clone().oneshot(request.map(Body::new))
        });
        let stream = TokioIo::new(stream);
        let mut connection = std::pin::pin!(self.builder().serve_connection(stream, service));
        let mut shutdown = self.shutdown.clone();
        let time = Duration::from_secs(self.limits.request_seconds);
        let time = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(why) = ended {
                    tracing::debug!(addr = %peer.addr, %why, "connection broke");
                }
                return;
            }
            () = told_to_stop(&mut shutdown) => time,
            go = self.has_to_go(&peer, place, &requests) => match go {
                Go::Soon => LEAVE,
                Go::Now => return,
            },
        };
        // Streams end by themselves; a request in progress still gets its answer.
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(time, connection).await;
    }

    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let (limits, ping) = (&self.limits, Duration::from_secs(self.limits.ping_seconds));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .max_send_buf_size(256 << 10)
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping);
        builder
    }
}
