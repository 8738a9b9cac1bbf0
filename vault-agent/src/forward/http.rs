//! One `POST` over HTTP/1.1, a connection kept for the next. No redirect is followed; plain HTTP
//! stays in the local network. What is posted does not live here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fault::{About, Fault};
use super::tls;

/// How much of an answer is read so that the connection stays.
const ANSWER: usize = 64 << 10;
/// How long it is read: its head has said already what came of it.
const LINGER: Duration = Duration::from_secs(2);
/// Longest wait that the other side may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// A client of one address at a time.
#[derive(Debug, Default)]
pub struct Http {
    open: Option<(String, Open)>,
}

/// A connection; it ends with this.
#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    _task: JoinSet<()>,
}

impl Http {
    /// Posts a body.
    ///
    /// # Errors
    /// If the address is none, nobody answers there, or not with success.
    pub async fn post(&mut self, url: &str, headers: HeaderMap, body: Bytes) -> Result<(), Fault> {
        // What `Uri` says of a bad one could hold parts of it.
        let uri: Uri = url.parse().map_err(|_| no_address())?;
        let authority = uri.authority().ok_or_else(|| Fault::new("its address has no host"))?;
        let origin = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(Method::POST).uri(path);
        if let Some(all) = request.headers_mut() {
            *all = headers;
        }
        let agent = format!("vault-agent/{}", host::version::own());
        let request = request.header(HOST, authority.as_str()).header(USER_AGENT, agent);
        let request = request.body(Full::new(body));
        let request = request.map_err(|_| Fault::new("the request cannot be built"))?;
        let kept = self.open.take().filter(|(of, open)| *of == origin && !open.sender.is_closed());
        let mut open = match kept {
            Some((_, mut open)) => match open.sender.ready().await {
                Ok(()) => open,
                Err(_) => connect(&uri).await?,
            },
            None => connect(&uri).await?,
        };
        let answer = open.sender.send_request(request).await.map_err(|why| broken(&why))?;
        let (status, wait) = (answer.status(), wait(answer.headers()));
        // What it says is for people who run it; it could hold what was sent.
        let rest = Limited::new(answer.into_body(), ANSWER).collect();
        if timeout(LINGER, rest).await.is_ok_and(|rest| rest.is_ok()) {
            self.open = Some((origin, open));
        }
        judge(status, wait)
    }
}

/// Refuses plain HTTP to an address beyond the local network. A name that resolves to nothing now
/// may do so later.
pub async fn demand_near(url: &str) -> Result<(), Fault> {
    let Some(rest) = url.strip_prefix("http://") else { return Ok(()) };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let uri: Uri = format!("http://{authority}").parse().map_err(|_| no_address())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let Ok(found) = lookup_host((host, uri.port_u16().unwrap_or(80))).await else { return Ok(()) };
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() || found.iter().any(|address| is_near(address.ip())) {
        return Ok(());
    }
    Err(far())
}

fn no_address() -> Fault {
    Fault::new("its address is none of the web")
}

fn far() -> Fault {
    Fault::new("plain `http://` would leave the local network: use `https://`")
}

/// Tells whether an answer is success.
fn judge(status: StatusCode, after: Option<Duration>) -> Result<(), Fault> {
    if status.is_success() {
        return Ok(());
    }
    let (about, more) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (About::Sender, ": is the token right?")
        }
        StatusCode::NOT_FOUND => {
            (About::Sender, ": is its address right, and the token if that is in it?")
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => (About::Sender, ""),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => (About::Way, ""),
        _ if status.is_client_error() => (About::Message, ""),
        _ if status.is_redirection() => {
            (About::Sender, ": no redirect is followed: name where it leads")
        }
        _ => (About::Way, ""),
    };
    Err(Fault { text: format!("it answered {}{more}", status.as_u16()), about, after })
}

/// Returns how long the other side wants to be left alone (RFC 9110, section 10.2.3); dates are
/// passed over.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

async fn connect(uri: &Uri) -> Result<Open, Fault> {
    let host = uri.host().ok_or_else(|| Fault::new("its address has no host"))?;
    let is_plain = uri.scheme_str() != Some("https");
    let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
    let tcp = reach(host, port, is_plain).await?;
    if is_plain {
        return shake(TokioIo::new(tcp)).await;
    }
    shake(TokioIo::new(tls::connect(host, tcp).await?)).await
}

async fn shake<S>(stream: TokioIo<S>) -> Result<Open, Fault>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await.map_err(|why| broken(&why))?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // How it ends, who sends is told.
        let _ = connection.await;
    });
    Ok(Open { sender, _task: task })
}

/// Connects to the first address of a host that answers.
async fn reach(host: &str, port: u16, is_plain: bool) -> Result<TcpStream, Fault> {
    let found = lookup_host((host.trim_matches(['[', ']']), port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|_| Fault::new("the name of its host cannot be resolved"))?.collect();
    let mut last = Fault::new("the name of its host has no address");
    for address in found {
        if is_plain && !is_near(address.ip()) {
            last = far();
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                // Messages are small: waiting to fill a segment only costs time.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(why) => last = Fault::new(format!("cannot connect: {}", why.kind())),
        }
    }
    Err(last)
}

/// Tells whether an address is of this host or the local network: loopback, private (RFC 1918, RFC
/// 4193), shared (RFC 6598), link-local.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn broken(why: &hyper::Error) -> Fault {
    Fault::new(if why.is_timeout() {
        "it does not answer in time"
    } else {
        "the connection broke off"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_near() {
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("192.168.1.5", true),
            ("100.64.0.1", true),
            ("fd00::1", true),
            ("::ffff:10.0.0.1", true),
            ("93.184.216.34", false),
            ("100.128.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[tokio::test]
    async fn an_address_is_judged_before_anything_is_posted() {
        for near in ["http://127.0.0.1/x?y", "http://[fd00::1]:8/", "https://93.184.216.34/x"] {
            assert_eq!(demand_near(near).await, Ok(()), "{near}");
        }
        for away in ["http://93.184.216.34/x", "http://[2001:db8::1]:8080"] {
            assert_eq!(demand_near(away).await, Err(far()), "{away}");
        }
    }

    #[test]
    fn answers_are_judged() {
        assert!(judge(StatusCode::ACCEPTED, None).is_ok());
        for (status, about) in [
            (400, About::Message),
            (401, About::Sender),
            (403, About::Sender),
            (404, About::Sender),
            (405, About::Message),
            (407, About::Sender),
            (408, About::Way),
            (410, About::Message),
            (413, About::Message),
            (422, About::Message),
            (429, About::Way),
            (302, About::Sender),
            (500, About::Way),
            (503, About::Way),
        ] {
            let fault = judge(StatusCode::from_u16(status).unwrap(), None).unwrap_err();
            assert!(fault.text.starts_with(&format!("it answered {status}")), "{}", fault.text);
            assert_eq!(fault.about, about, "{status}");
        }
        assert!(judge(StatusCode::FOUND, None).unwrap_err().text.contains("no redirect"));
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "99999".parse().unwrap());
        assert_eq!(wait(&headers), Some(LONGEST_WAIT));
        headers.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        assert_eq!(wait(&headers), None);
    }
}
