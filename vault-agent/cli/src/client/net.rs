//! The way to any API: a socket, http, https, or this machine's agent started for one process.
//! hyper on one thread.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::oneshot::{self, Answering};
use super::tls;
use super::{Answer, Endpoint, Error, Options};
use machine::local::{BODY, CACHE_AGE};

/// Vault's own limit on bodies.
const MOST_BYTES: usize = 32 << 20;

/// A request, ready to go.
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Method and URL, for messages.
    pub(super) call: String,
}

/// A connection to any place, made when it is needed: one request at a time, on the calling thread,
/// the connection kept for the next.
pub(super) struct Net {
    place: Endpoint,
    tls: tls::Options,
    timeout: Duration,
    offline: bool,
    runtime: tokio::runtime::Runtime,
    link: RefCell<Option<Link>>,
    /// Dropped last, when the connection to it is gone.
    answering: RefCell<Option<Answering>>,
}

type Link = SendRequest<Full<Bytes>>;

impl Net {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// A system that has no file descriptor left.
    pub(super) fn new(place: Endpoint, options: &Options) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Setup(why.to_string()))?;
        Ok(Self {
            place,
            tls: options.tls.clone(),
            timeout: options.timeout,
            offline: options.offline,
            runtime,
            link: RefCell::new(None),
            answering: RefCell::new(None),
        })
    }

    /// Sends a request and collects its answer, whatever its status.
    ///
    /// # Errors
    /// No connection, no answer in time, or something that is not HTTP.
    pub(super) fn exchange(&self, outgoing: Outgoing) -> Result<Answer, Error> {
        let call = outgoing.call.clone();
        self.runtime.block_on(async {
            match tokio::time::timeout(self.timeout, self.ask(outgoing)).await {
                Ok(result) => result,
                Err(_) => {
                    let why = format!("no answer within {} s", self.timeout.as_secs_f32());
                    Err(Error::Transport { call, why })
                }
            }
        })
    }

    /// Tells whether the agent behind it was started for this process alone.
    pub(super) fn is_alone(&self) -> bool {
        self.answering.borrow().is_some()
    }

    async fn ask(&self, outgoing: Outgoing) -> Result<Answer, Error> {
        let call = outgoing.call;
        let lost = |why: &(dyn std::error::Error + 'static)| Error::Transport {
            call: call.clone(),
            why: chain(why),
        };
        let bytes = outgoing.body.len();
        let mut request = Request::new(Full::new(outgoing.body));
        *request.uri_mut() = outgoing.target.parse().map_err(|why| lost(&why))?;
        *request.headers_mut() = outgoing.headers;
        *request.method_mut() = outgoing.method;
        // A kept connection may have been closed meanwhile: a request that comes back unsent goes
        // over a new one, and so does a read that met the end of the connection, or its reset, on
        // its way.
        let mut fresh = false;
        loop {
            let taken = self.link.borrow_mut().take();
            let mut link = match taken {
                Some(link) => link,
                None => {
                    fresh = true;
                    self.connect(&call).await?
                }
            };
            let read = (!fresh && request.method() == Method::GET).then(|| request.clone());
            match link.try_send_request(request).await {
                Ok(response) => {
                    let answer = collect(&call, response).await?;
                    *self.link.borrow_mut() = Some(link);
                    return Ok(answer);
                }
                Err(mut unsent) => match unsent.take_message().filter(|_| !fresh).or(read) {
                    Some(back) => request = back,
                    // It has answered, as likely as not, before it hung up; hyper does not look.
                    None if bytes > BODY => {
                        return Err(Error::TooMuch { call: call.clone(), bytes });
                    }
                    None => return Err(lost(unsent.error())),
                },
            }
        }
    }

    async fn connect(&self, call: &str) -> Result<Link, Error> {
        let lost =
            |why: io::Error| Error::Transport { call: call.to_owned(), why: why.to_string() };
        match &self.place {
            Endpoint::Agent { sockets, paths } => {
                for socket in sockets {
                    match UnixStream::connect(socket).await {
                        Ok(stream) => return shake(stream).await.map_err(lost),
                        Err(why) if is_absent(&why) => {}
                        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                            return Err(Error::Barred { socket: socket.clone() });
                        }
                        Err(why) => {
                            return Err(lost(io::Error::new(
                                why.kind(),
                                format!("`{}`: {why}", socket.display()),
                            )));
                        }
                    }
                }
                let (stream, answering) = oneshot::start(sockets, paths, self.offline)?;
                *self.answering.borrow_mut() = Some(answering);
                let stream = UnixStream::from_std(stream).map_err(lost)?;
                shake(stream).await.map_err(lost)
            }
            Endpoint::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|why| {
                    lost(io::Error::new(why.kind(), format!("`{}`: {why}", socket.display())))
                })?;
                shake(stream).await.map_err(lost)
            }
            Endpoint::Tcp(address) => {
                let tcp = TcpStream::connect((address.host.as_str(), address.port))
                    .await
                    .map_err(lost)?;
                tcp.set_nodelay(true).map_err(lost)?;
                if address.secure {
                    let tls = tls::connect(&self.tls, &address.host, tcp).await.map_err(lost)?;
                    shake(tls).await.map_err(lost)
                } else {
                    shake(tcp).await.map_err(lost)
                }
            }
        }
    }
}

fn is_absent(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn shake(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> io::Result<Link> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // What goes wrong on the connection comes out at the request that meets it.
    tokio::spawn(connection);
    Ok(sender)
}

async fn collect<B>(call: &str, response: hyper::Response<B>) -> Result<Answer, Error>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status().as_u16();
    let age = response.headers().get(CACHE_AGE).and_then(|age| age.to_str().ok()?.parse().ok());
    let moved = matches!(status, 301 | 302 | 307 | 308);
    let location = response.headers().get(hyper::header::LOCATION).filter(|_| moved);
    let location = location.and_then(|to| to.to_str().ok()).map(str::to_owned);
    match Limited::new(response.into_body(), MOST_BYTES).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            Ok(Answer { call: call.to_owned(), status, body, cache_age: age, location })
        }
        Err(why) if why.is::<LengthLimitError>() => Err(Error::Answer {
            call: call.to_owned(),
            why: format!("more than {MOST_BYTES} bytes"),
        }),
        Err(why) => Err(Error::Transport { call: call.to_owned(), why: chain(&*why) }),
    }
}

/// Shows an error with its causes, each once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
