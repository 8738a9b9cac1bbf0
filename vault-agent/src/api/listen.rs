//! The listeners: a unix socket and, if configured, TCP; one task per connection, HTTP/1 with
//! limits on everything that a caller decides. What is answered lives elsewhere.

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
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::daemon::Targets;
use crate::engine::Engine;
use crate::forward::Forwarding;
use crate::page::Page;
use host::hint::{self, hinted};
use machine::config;
use machine::paths::{Paths, demand_short};

use super::caller::Peer;
use super::context::Api;
use super::figures::Figures;
use super::places::{LEAVE, Place, Places};
use super::route::answer;
use super::unread::Unread;

/// Connections at a time on the socket, and on all TCP addresses together; one that is idle makes
/// room for the next.
pub(super) const CONNECTIONS: usize = 512;
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
/// How long nothing must be refused before that is over.
const CALM: Duration = Duration::from_secs(10);
/// The alarm while the system refuses.
const NO_ROOM: &str = "E_CONNECTIONS";
/// The alarm while an address cannot be listened on.
const NOT_LISTENING: &str = "E_LISTEN";
/// How long to wait before it is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// How long the socket of an agent that was killed may still seem to be served: a hook that it was
/// just starting holds it.
const LINGER: Duration = Duration::from_secs(1);
/// What a socket that nobody listens on answers.
const GONE: [ErrorKind; 2] = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];

/// Bound sockets that are not served yet.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: Vec<Tcp>,
    api: Arc<Api>,
}

/// An address to listen on; files are kept right without.
#[derive(Debug)]
struct Tcp {
    address: SocketAddr,
    /// `None` while it cannot be bound.
    bound: Option<TcpListener>,
}

impl Tcp {
    async fn bind(&self, api: &Api) -> Result<TcpListener> {
        api.gate.take_token()?;
        let address = self.address;
        TcpListener::bind(address).await.map_err(|why| {
            let text = format!("cannot listen on `{address}`: {why}");
            match why.kind() {
                ErrorKind::AddrInUse => hinted(
                    text,
                    "end the program that has it, or set another port at `listen` in `agent.toml`",
                ),
                ErrorKind::AddrNotAvailable => hinted(
                    text,
                    "no interface of this host has it: start what brings it, such as Docker, or \
                     mend `listen` in `agent.toml`",
                ),
                _ => anyhow::Error::msg(text),
            }
        })
    }
}

/// Binds what is not bound yet; an alarm names the addresses that cannot be, and ends with them.
async fn try_bind(all: &mut [Tcp], api: &Api) {
    let mut failed = Vec::new();
    for tcp in all.iter_mut().filter(|tcp| tcp.bound.is_none()) {
        match tcp.bind(api).await {
            Ok(listener) => tcp.bound = Some(listener),
            Err(why) => {
                let hint = hint::hint(&why).map(|hint| format!(" (hint: {hint})"));
                failed.push(format!("{why:#}{}", hint.unwrap_or_default()));
            }
        }
    }
    // What does not depend on the address is said once.
    failed.dedup();
    match &failed[..] {
        [] => api.engine.clear_alarm(NOT_LISTENING),
        all => api.engine.alarm(NOT_LISTENING, all.join("; ")),
    }
}

impl Listeners {
    /// Binds the unix socket and what else is configured; reads or makes the token file. What keeps
    /// an address from being served is an alarm, and tried again.
    ///
    /// # Errors
    /// If another agent answers on the socket, or it cannot be made; if others than this host and
    /// its containers could reach an address.
    pub async fn bind(
        engine: Engine,
        paths: &Paths,
        options: &config::Api,
        targets: Option<Targets>,
    ) -> Result<Self> {
        for address in &options.listen {
            config::check_listen(*address).map_err(anyhow::Error::msg)?;
        }
        let api = Arc::new(Api::open(engine, paths, options, targets)?);
        let socket = options.socket.as_deref().unwrap_or(&paths.socket);
        let unix = bind_unix(socket, api.gate.is_shared())
            .with_context(|| format!("cannot listen on `{}`", socket.display()))?;
        let unbound = |address: &SocketAddr| Tcp { address: *address, bound: None };
        let mut tcp: Vec<Tcp> = options.listen.iter().map(unbound).collect();
        if !tcp.is_empty() {
            try_bind(&mut tcp, &api).await;
        }
        Ok(Self { unix, tcp, api })
    }

    /// Has the API tell how it goes with those who are told of alarms, before it is served.
    #[must_use]
    pub fn with(mut self, forwarding: Forwarding) -> Self {
        if let Some(api) = Arc::get_mut(&mut self.api) {
            api.forwarding = Some(forwarding);
        }
        self
    }

    /// Returns what answers for figures, to be served elsewhere too.
    pub fn figures(&self) -> Figures {
        Figures::new(Arc::clone(&self.api))
    }

    /// Has callers who may ask for a review open the page.
    pub fn lead_to(&self, page: Page) {
        // There is one page of an agent.
        let _ = self.api.page.set(page);
    }

    /// Returns the first address that is listened on, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.iter().find_map(|tcp| tcp.bound.as_ref())?.local_addr().ok()
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
    tokio::join!(on_unix, serve_tcp(tcp, api, shutdown));
    Ok(())
}

/// Serves each address from when it is bound, until `shutdown` turns true.
async fn serve_tcp(mut waiting: Vec<Tcp>, api: Arc<Api>, mut shutdown: watch::Receiver<bool>) {
    let (mut served, all) = (JoinSet::new(), waiting.len());
    loop {
        for bound in waiting.extract_if(.., |tcp| tcp.bound.is_some()).filter_map(|tcp| tcp.bound) {
            let places = Places::among(CONNECTIONS, all);
            served.spawn(accept_tcp(bound, places, api.clone(), shutdown.clone()));
        }
        if waiting.is_empty() {
            break;
        }
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            () = tokio::time::sleep(LISTEN_AGAIN) => try_bind(&mut waiting, &api).await,
        }
    }
    while served.join_next().await.is_some() {}
}

async fn accept_unix(listener: UnixListener, api: Arc<Api>, shutdown: watch::Receiver<bool>) {
    let strangers = Places::new(STRANGERS);
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok((stream.peer_cred()?, stream))
    };
    let answer = |(peer, stream): (UCred, _), place: Place| {
        let peer = api.gate.peer(peer.pid(), peer.uid(), peer.gid());
        let (api, shutdown, strangers) = (api.clone(), shutdown.clone(), strangers.clone());
        async move {
            let place = match peer {
                // Without a place among them the connection is closed.
                Peer::Stranger(_) => tokio::select! {
                    strange = strangers.take() => strange,
                    () = place.dismissed() => return,
                    () = tokio::time::sleep(LEAVE) => return,
                },
                Peer::Allowed(_) | Peer::Tcp(..) => place,
            };
            one(stream, api, peer, shutdown, place).await;
        }
    };
    let engine = &api.engine;
    let places = Places::new(CONNECTIONS);
    finish(accept_each(places, engine, shutdown.clone(), accept, answer).await).await;
}

async fn accept_tcp(
    listener: TcpListener,
    places: Arc<Places>,
    api: Arc<Api>,
    shutdown: watch::Receiver<bool>,
) {
    let accept = || async {
        let (stream, peer) = listener.accept().await?;
        Ok((Peer::tcp((peer, stream.local_addr()?)), stream))
    };
    let answer = |(peer, stream): (_, TcpStream), place| {
        // Answers are small: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        let (api, shutdown) = (api.clone(), shutdown.clone());
        one(stream, api, peer, shutdown, place)
    };
    let engine = &api.engine;
    finish(accept_each(places, engine, shutdown.clone(), accept, answer).await).await;
}

/// Waits for connections to finish, but not for long.
async fn finish(mut open: JoinSet<()>) {
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Takes connections until `shutdown` turns true, as many as there are places for, and returns
/// those that are still open then. Each keeps its place until it ends.
pub(super) async fn accept_each<C, A, F>(
    places: Arc<Places>,
    engine: &Engine,
    mut shutdown: watch::Receiver<bool>,
    accept: impl Fn() -> A,
    answer: impl Fn(C, Place) -> F,
) -> JoinSet<()>
where
    A: Future<Output = io::Result<C>>,
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    let mut calm_at: Option<tokio::time::Instant> = None;
    loop {
        while open.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = stopped(&mut shutdown) => return open,
            () = tokio::time::sleep_until(calm_at.unwrap_or_else(tokio::time::Instant::now)),
                if calm_at.is_some() =>
            {
                calm_at = None;
                engine.clear_alarm(NO_ROOM);
                continue;
            }
        };
        match accepted {
            // Only who is there has somebody else leave.
            Ok(connection) => tokio::select! {
                place = places.take() => drop(open.spawn(answer(connection, place))),
                () = stopped(&mut shutdown) => return open,
            },
            Err(why) => {
                // Out of file descriptors, accepting would fail again at once.
                engine.alarm(NO_ROOM, format!("cannot accept local connections: {why}"));
                calm_at = Some(tokio::time::Instant::now() + CALM);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means shutdown as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Answers the requests of one connection until it ends, `shutdown` turns true, or somebody else
/// needs its place while it is idle.
pub(super) async fn one<S>(
    stream: S,
    api: Arc<Api>,
    peer: Peer,
    mut shutdown: watch::Receiver<bool>,
    place: Place,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (peer, place) = (Arc::new(peer), Arc::new(place));
    let seat = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        let (api, peer, busy) = (api.clone(), peer.clone(), seat.begin());
        async move {
            let (parts, body) = request.into_parts();
            let unread = Unread::new(&parts, body);
            let request = Request::from_parts(parts, Body::new(unread.clone()));
            let answer = answer(&api, &peer, request).await;
            let answer = unread.drain(answer).await;
            drop(busy);
            Ok::<_, Infallible>(answer)
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
        () = place.dismissed() => {
            connection.as_mut().graceful_shutdown();
            place.leave(connection).await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("a connection ended: {why}");
    }
}
