//! The listeners: a unix socket and, if configured, loopback TCP; one task per connection, HTTP/1
//! with limits on everything that a caller decides. What is answered lives elsewhere.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::engine::Engine;
use host::hint::hinted;
use machine::config;
use machine::paths::{Paths, demand_short};

use super::caller::Peer;
use super::context::Api;
use super::route::answer;
use super::unread::Unread;

/// Connections at a time, for each listener; others wait in the system's queue.
const CONNECTIONS: usize = 512;
/// Connections at a time of users who may not use the socket: they may still show a token.
const STRANGERS: usize = 32;
/// How long a header may take, and how long a connection may be idle.
const HEADER_TIME: Duration = Duration::from_secs(75);
/// Largest head of a request.
const HEADER_BYTES: usize = 64 << 10;
/// How long connections may finish what they do on shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// How long to leave off accepting when the system refuses.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the socket of an agent that was killed may still seem to be served: a hook that it was
/// just starting holds it.
const LINGER: Duration = Duration::from_secs(1);
/// What a socket that nobody listens on answers.
const GONE: [ErrorKind; 2] = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];

/// Bound sockets that are not served yet.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    api: Arc<Api>,
}

impl Listeners {
    /// Binds the unix socket and, if configured, a loopback address; reads or makes the token file.
    ///
    /// # Errors
    /// If another agent answers on the socket, the port is in use, a name in `allow` is unknown, or
    /// a file cannot be made.
    pub async fn bind(engine: Engine, paths: &Paths, options: &config::Api) -> Result<Self> {
        let api = Arc::new(Api::open(engine, paths, options)?);
        let socket = options.socket.as_deref().unwrap_or(&paths.socket);
        let unix = bind_unix(socket, api.gate.is_shared())
            .with_context(|| format!("cannot listen on `{}`", socket.display()))?;
        let tcp = match options.listen {
            None => None,
            Some(address) if !address.ip().is_loopback() => {
                let text = format!("`{address}` is not a loopback address");
                return Err(hinted(text, "use 127.0.0.1 or [::1]"));
            }
            Some(address) => Some(TcpListener::bind(address).await.map_err(|why| {
                let text = format!("cannot listen on `{address}`: {why}");
                match why.kind() {
                    ErrorKind::AddrInUse => {
                        hinted(text, "set another port at `listen` in `agent.toml`")
                    }
                    _ => anyhow::Error::msg(text),
                }
            })?),
        };
        Ok(Self { unix, tcp, api })
    }

    /// Returns the TCP address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

/// Binds the socket in a folder made for it; a socket that nobody listens on is replaced.
pub(super) fn bind_unix(socket: &Path, shared: bool) -> Result<UnixListener> {
    demand_short(socket)?;
    if let Some(folder) = socket.parent().filter(|folder| !folder.exists()) {
        let mode = if shared { 0o755 } else { 0o700 };
        fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
        // Whatever this process masks.
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
    }
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => bail!("it is there and is no socket"),
        Ok(_) if is_served(socket)? => {
            return Err(hinted("another agent listens there", "stop it, or use `--state DIR`"));
        }
        Ok(_) => match fs::remove_file(socket) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why.into()),
            Ok(()) | Err(_) => {}
        },
        Err(why) if why.kind() == ErrorKind::NotFound => {}
        Err(why) => return Err(why.into()),
    }
    // Nobody else can connect before the mode is set: whoever does is judged by its credentials.
    let listener = UnixListener::bind(socket)?;
    let mode = if shared { 0o666 } else { 0o600 };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Tells whether somebody listens on a socket, and goes on to: a connection ends with the last who
/// holds the listener.
fn is_served(socket: &Path) -> Result<bool> {
    let until = Instant::now() + LINGER;
    loop {
        let mut stream = match std::os::unix::net::UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(why) if GONE.contains(&why.kind()) => return Ok(false),
            Err(why) => return Err(why.into()),
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        stream.set_read_timeout(Some(left))?;
        // However it ends: the next try to connect tells more.
        let _ = stream.read(&mut [0]);
    }
}

/// Serves until `shutdown` turns true, then lets open requests finish for a while.
pub async fn serve(listeners: Listeners, shutdown: watch::Receiver<bool>) -> Result<()> {
    let Listeners { unix, tcp, api } = listeners;
    let on_unix = accept_unix(unix, api.clone(), shutdown.clone());
    let on_tcp = async {
        if let Some(tcp) = tcp {
            accept_tcp(tcp, api, shutdown).await;
        }
    };
    tokio::join!(on_unix, on_tcp);
    Ok(())
}

async fn accept_unix(listener: UnixListener, api: Arc<Api>, shutdown: watch::Receiver<bool>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok((stream.peer_cred()?, stream))
    };
    let answer = |(peer, stream): (UCred, _), place| {
        let peer = api.gate.peer(peer.pid(), peer.uid(), peer.gid());
        let place = match peer {
            Peer::Stranger(_) => strangers.clone().try_acquire_owned().ok(),
            Peer::Allowed(_) | Peer::Loopback(..) => Some(place),
        };
        let (api, shutdown) = (api.clone(), shutdown.clone());
        async move {
            // Without a place the connection is closed.
            if let Some(_place) = place {
                one(stream, api, peer, shutdown).await;
            }
        }
    };
    finish(accept_each(CONNECTIONS, shutdown.clone(), accept, answer).await).await;
}

async fn accept_tcp(listener: TcpListener, api: Arc<Api>, shutdown: watch::Receiver<bool>) {
    let accept = || async {
        let (stream, peer) = listener.accept().await?;
        Ok((Peer::loopback((peer, stream.local_addr()?)), stream))
    };
    let answer = |(peer, stream): (_, TcpStream), place| {
        // Answers are small: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        let (api, shutdown) = (api.clone(), shutdown.clone());
        async move {
            let _place = place;
            one(stream, api, peer, shutdown).await;
        }
    };
    finish(accept_each(CONNECTIONS, shutdown.clone(), accept, answer).await).await;
}

/// Waits for connections to finish, but not for long.
async fn finish(mut open: JoinSet<()>) {
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Takes connections until `shutdown` turns true, `most` at a time, and returns those that are
/// still open then. Each keeps its place until it ends.
pub(super) async fn accept_each<C, A, F>(
    most: usize,
    mut shutdown: watch::Receiver<bool>,
    accept: impl Fn() -> A,
    answer: impl Fn(C, OwnedSemaphorePermit) -> F,
) -> JoinSet<()>
where
    A: Future<Output = io::Result<C>>,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((accept().await?, place))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stopped(&mut shutdown) => return open,
        };
        match accepted {
            Ok((connection, place)) => {
                open.spawn(answer(connection, place));
            }
            Err(why) => {
                // Out of file descriptors, accepting would fail again at once.
                tracing::warn!("cannot accept a connection: {why}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means shutdown as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Answers the requests of one connection until it ends, or `shutdown` turns true.
pub(super) async fn one<S>(
    stream: S,
    api: Arc<Api>,
    peer: Peer,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, peer) = (api.clone(), peer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let unread = Unread::new(&parts, body);
            let request = Request::from_parts(parts, Body::new(unread.clone()));
            let answer = answer(&api, &peer, request).await;
            Ok::<_, Infallible>(unread.drain(answer).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .pipeline_flush(true)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("a connection ended: {why}");
    }
}
