//! `[metrics] listen`: figures for Prometheus over plain HTTP, without a token, by addresses alone:
//! a web page that was given this host's address for a name of its own gets nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::Method;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::context::Api;
use super::envelope::ApiAnswer;
use super::metrics;
use super::places::{Place, Places};

/// Open connections; one that is idle makes room for the next.
pub(super) const CONNECTIONS: usize = 16;
/// Time for a request's head, and for a connection between two.
const PATIENCE: Duration = Duration::from_secs(75);
/// Longest life of a connection: those who keep quiet give way.
const LIFE: Duration = Duration::from_mins(10);
/// How long to wait before an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// The alarm while an address cannot be listened on.
const NOT_LISTENING: &str = "E_LISTEN_METRICS";

/// How long a page serves all who ask: each page asks the server, and these ask without a token.
const FRESH: Duration = Duration::from_secs(1);

/// What answers for figures.
#[derive(Clone, Debug)]
pub struct Figures {
    api: Arc<Api>,
    /// The last page, and when it was written.
    last: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Figures {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api, last: Arc::default() }
    }

    /// Returns a page of now; who asks meanwhile waits for the same.
    async fn page(&self) -> String {
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return text.clone();
        }
        let text = metrics::text(&self.api).await;
        *last = Some((Instant::now(), text.clone()));
        text
    }

    /// Serves each address until `shutdown` turns true. One that cannot be bound is an alarm, and
    /// tried again.
    pub async fn serve(self, listen: Vec<SocketAddr>, mut shutdown: watch::Receiver<bool>) {
        let all = listen.into_iter().map(|address| self.clone().serve_one(address));
        let mut served = tokio::task::JoinSet::new();
        all.for_each(|one| drop(served.spawn(one)));
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    async fn serve_one(self, address: SocketAddr) {
        let engine = &self.api.engine;
        let subject = address.to_string();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(why) => {
                    let hint = "end the program that has it, or mend `listen` of `[metrics]`";
                    let text = format!("cannot listen on `{address}`: {why} (hint: {hint})");
                    engine.alarm_about(NOT_LISTENING, &subject, text);
                    sleep(AGAIN).await;
                }
            }
        };
        engine.clear_alarm_about(NOT_LISTENING, &subject);
        self.accept(listener).await;
    }

    /// Serves connections for ever.
    pub(super) async fn accept(self, listener: TcpListener) {
        let places = Places::new(CONNECTIONS);
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                // Out of file descriptors, it would fail again at once.
                sleep(AGAIN).await;
                continue;
            };
            let place = places.take().await;
            tokio::spawn(self.clone().one(socket, place));
        }
    }

    /// Answers the requests of one connection until it ends, or somebody else needs its place while
    /// it is idle.
    async fn one(self, socket: TcpStream, place: Place) {
        let place = Arc::new(place);
        let seat = Arc::clone(&place);
        let answer = move |request: Request<Incoming>| {
            let (figures, busy) = (self.clone(), seat.begin());
            async move {
                let answer = answer(&figures, &request).await;
                drop(busy);
                Ok::<_, Infallible>(answer)
            }
        };
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let connection = builder.serve_connection(TokioIo::new(socket), service_fn(answer));
        tokio::pin!(connection);
        // However it ends: who asks comes again.
        tokio::select! {
            _ = timeout(LIFE, connection.as_mut()) => {}
            () = place.dismissed() => {
                connection.as_mut().graceful_shutdown();
                let _ = place.leave(connection).await;
            }
        }
    }
}

async fn answer(figures: &Figures, request: &Request<Incoming>) -> ApiAnswer {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_address) {
        return refused(StatusCode::FORBIDDEN, "ask by address: http://127.0.0.1:PORT/metrics\n");
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => metrics::plain(figures.page().await),
        (_, "/metrics") => refused(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
        _ => refused(StatusCode::NOT_FOUND, "there is only /metrics\n"),
    }
}

fn refused(status: StatusCode, why: &'static str) -> ApiAnswer {
    let mut answer = Response::new(Body::from(why));
    *answer.status_mut() = status;
    answer
}

/// Tells whether a `Host` is an address, or `localhost`: nobody can give a name to that.
fn is_address(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !host.ends_with(']') => name,
        Some(_) | None => host,
    };
    let ip = name.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_asked_for_by_address() {
        for (host, expected) in [
            ("127.0.0.1:9844", true),
            ("10.0.0.5", true),
            ("[::1]:9844", true),
            ("[::1]", true),
            ("localhost:9844", true),
            ("evil.example:9844", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_address(host), expected, "{host}");
        }
    }
}
