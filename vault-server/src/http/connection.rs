//! Connections of agents: accepting, counting, the HTTP/2 limits, and their end. What a request
//! does lives in the routes.

use std::collections::VecDeque;
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
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::config::Limits;
use crate::vault::{Directory, Peer, Vault};
use host::raw_keys::Acceptor;

use super::app::told_to_stop;

/// How long a key that belongs to no machine may stay connected.
const STRANGER: Duration = Duration::from_secs(30);
/// Pause after the system gave no socket, e.g. for want of file descriptors.
const NO_SOCKET: Duration = Duration::from_millis(100);

/// What every connection needs.
struct Server {
    acceptor: Acceptor,
    router: Router,
    vault: Vault,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
    /// Places for connections whose peer has shown its key.
    places: Semaphore,
    /// Places for those of them whose key belongs to no machine.
    strangers: Semaphore,
}

/// Connections whose peer has not shown its key yet. When there are too many, the oldest goes:
/// who means it needs milliseconds, and who opens connections and says nothing keeps nobody out.
struct Lobby {
    most: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Lobby {
    /// Lets one in; the receiver ends when it has to go.
    fn enter(&mut self) -> oneshot::Receiver<()> {
        self.waiting.retain(|guest| !guest.is_closed());
        while self.waiting.len() >= self.most {
            self.waiting.pop_front();
        }
        let (stay, told) = oneshot::channel();
        self.waiting.push_back(stay);
        told
    }
}

/// Serves connections until `shutdown`, then gives open requests their time.
pub async fn run(
    vault: Vault,
    acceptor: Acceptor,
    limits: Limits,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    let most = limits.connections;
    let server = Arc::new(Server {
        acceptor,
        router: super::router(vault.clone(), &limits, shutdown.clone()),
        vault,
        limits,
        shutdown: shutdown.clone(),
        places: Semaphore::new(most),
        strangers: Semaphore::new(most / 4),
    });
    let mut lobby = Lobby { most: most / 2, waiting: VecDeque::new() };
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut shutdown) => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, addr)) => {
                    open.spawn(Arc::clone(&server).serve(socket, addr, lobby.enter()));
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

/// Waits until the peer has to go: when its machine is removed, or when a stranger has stayed too
/// long without becoming one.
async fn has_to_go(mut machines: watch::Receiver<Directory>, peer: &Peer) {
    let known = machines.wait_for(|machines| machines.contains_key(&peer.key));
    if tokio::time::timeout(STRANGER, known).await.is_ok() {
        let _ = machines.wait_for(|machines| !machines.contains_key(&peer.key)).await;
    }
}

impl Server {
    /// Serves one connection.
    async fn serve(
        self: Arc<Self>,
        socket: TcpStream,
        addr: SocketAddr,
        told_to_go: oneshot::Receiver<()>,
    ) {
        let metrics = self.vault.metrics();
        let turned_away = || metrics.refused_connections.add(1);
        // Answers are small and awaited: none may wait for an acknowledgement of the last.
        let _ = socket.set_nodelay(true);
        let accepted = tokio::select! {
            accepted = self.acceptor.accept(socket) => accepted,
            _ = told_to_go => Err(anyhow::anyhow!("others wanted to come in")),
        };
        let (stream, key) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                turned_away();
                tracing::debug!(%addr, why = format!("{why:#}"), "no handshake");
                return;
            }
        };
        let peer = Peer { key, addr };
        let stranger = self.vault.caller(&peer).is_none();
        let Ok(_place) = self.places.try_acquire() else { return turned_away() };
        let stranger_place = stranger.then(|| self.strangers.try_acquire()).transpose();
        let Ok(_stranger_place) = stranger_place else { return turned_away() };
        metrics.connections.add(1);
        self.exchange(stream, peer).await;
        metrics.connections.sub(1);
    }

    /// Serves the requests of one connection until it ends: by itself, at the program's end, when
    /// its machine is removed, or when a stranger's time is over.
    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer) {
        let router = self.router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request.map(Body::new))
        });
        let stream = TokioIo::new(stream);
        let mut connection = std::pin::pin!(self.builder().serve_connection(stream, service));
        let mut shutdown = self.shutdown.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = told_to_stop(&mut shutdown) => None,
            () = has_to_go(self.vault.directory(), &peer) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                // Streams end by themselves; a request in progress still gets its answer.
                connection.as_mut().graceful_shutdown();
                let time = Duration::from_secs(self.limits.request_seconds);
                let Ok(ended) = tokio::time::timeout(time, connection).await else { return };
                ended
            }
        };
        if let Err(why) = ended {
            tracing::debug!(addr = %peer.addr, %why, "connection broke");
        }
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
