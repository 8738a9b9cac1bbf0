//! Asking this machine's own agent, for the verbs of `vault-agent` itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use host::hint::{Failure, hinted};
use host::systemd::{self, Whose};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use machine::local::{BODY, REASON};
use machine::paths::{Paths, demand_short};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::path::SecretPath;
use tokio::net::UnixStream;

/// How an agent comes to run.
const STARTS: &str = "`systemctl start vault-agent` starts an installed one; `sudo vault-agent \
                      install`, or `vault-agent install --user`, installs it";
/// The same where no systemd runs.
const RUNS: &str = "`vault-agent run` runs it in a terminal; have what starts programs here start \
                    that";
/// How a host becomes a machine of a vault.
const JOINS: &str = "run here the `vault-agent join` line that `vault machine add` prints on an \
                     admin's machine; `--state DIR` names another place";
/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where it has to ask the server first.
const LONG: Duration = Duration::from_mins(2);
/// The same where only the end of a program is waited for, which has a limit of its own.
const ENDLESS: Duration = Duration::from_hours(24 * 365);

/// What the record of a read says where callers have to say why: these verbs show no value.
const WHY: &str = "a command of vault-agent looks at a target or source";

/// What stays as it is in the path of a request.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the route to a secret's `data`, `metadata` or `subkeys`.
pub fn route(kind: &str, path: &SecretPath) -> String {
    let segments = path.rest().split('/').map(|part| utf8_percent_encode(part, PLAIN).to_string());
    let mount = utf8_percent_encode(path.mount(), PLAIN);
    format!("{mount}/{kind}/{}", segments.collect::<Vec<_>>().join("/"))
}

/// Asks the agent for what a route shows.
pub fn ask<T: DeserializeOwned>(paths: &Paths, route: &str) -> Result<T> {
    parse(&send(paths, Method::GET, route, Bytes::new(), PATIENCE)?)
}

/// As [`ask`], for what may not be there.
pub fn find<T: DeserializeOwned>(paths: &Paths, route: &str) -> Result<Option<T>> {
    let answered = exchanged(paths, Method::GET, route, Bytes::new(), (PATIENCE, Some(WHY)))?;
    if answered.0 == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    parse(&success(answered)?).map(Some)
}

/// As [`ask`], for the bare bytes, which a person is shown: they say why.
pub fn bytes(paths: &Paths, route: &str, reason: Option<&str>) -> Result<Bytes> {
    success(exchanged(paths, Method::GET, route, Bytes::new(), (PATIENCE, reason))?)
}

/// Has the agent do what a route does.
pub fn post<T: DeserializeOwned>(paths: &Paths, route: &str, body: &impl Serialize) -> Result<T> {
    let body = serde_json::to_vec(body).context("writing the request")?;
    parse(&send(paths, Method::POST, route, body.into(), LONG)?)
}

/// As [`post`], for what may take as long as it likes; the agent's end ends it.
pub fn post_and_wait<T: DeserializeOwned>(
    paths: &Paths,
    route: &str,
    body: &impl Serialize,
) -> Result<T> {
    let body = serde_json::to_vec(body).context("writing the request")?;
    parse(&send(paths, Method::POST, route, body.into(), ENDLESS)?)
}

/// Has the agent drop what a route shows.
pub fn delete(paths: &Paths, route: &str) -> Result<()> {
    send(paths, Method::DELETE, route, Bytes::new(), PATIENCE).map(drop)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).context("the agent's answer is not the expected JSON")
}

fn send(
    paths: &Paths,
    method: Method,
    route: &str,
    body: Bytes,
    patience: Duration,
) -> Result<Bytes> {
    success(exchanged(paths, method, route, body, (patience, Some(WHY)))?)
}

fn exchanged(
    paths: &Paths,
    method: Method,
    route: &str,
    body: Bytes,
    (patience, reason): (Duration, Option<&str>),
) -> Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sent = exchange(paths, method, route, body, reason);
        tokio::time::timeout(patience, sent).await.unwrap_or_else(|_| {
            bail!(Failure::remote(format!("the agent does not answer within {patience:?}")))
        })
    })
}

async fn connect(paths: &Paths) -> Result<UnixStream> {
    let mut first = None;
    for socket in paths.sockets() {
        demand_short(&socket)?;
        match UnixStream::connect(&socket).await {
            Ok(stream) => return Ok(stream),
            Err(why) => drop(first.get_or_insert(why)),
        }
    }
    let why = first.map(|why| format!(": {why}")).unwrap_or_default();
    let socket = paths.socket.display();
    bail!(Failure::remote(format!("no agent answers at `{socket}`{why}")).hint(starts(paths)))
}

/// Tells whether an agent of this machine runs.
pub fn is_running(paths: &Paths) -> bool {
    paths.sockets().iter().any(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
}

/// Says how an agent comes to run here: one whose host is in no vault cannot be started.
pub fn starts(paths: &Paths) -> String {
    match has_joined(paths) {
        true if systemd::runs(Whose::Host) => STARTS.to_owned(),
        true => RUNS.to_owned(),
        false => format!("{}: {JOINS}", unjoined(paths)),
    }
}

/// Refuses what no agent would heed.
///
/// # Errors
/// If no machine has joined a vault here.
pub fn demand_machine(paths: &Paths) -> Result<()> {
    if has_joined(paths) {
        return Ok(());
    }
    let host = Paths::of_host(None);
    let hint = match has_joined(&host) {
        true => "the machine of this host is root's: run the same line with `sudo`",
        false => JOINS,
    };
    Err(hinted(format!("{}: no agent would heed this", unjoined(paths)), hint))
}

fn unjoined(paths: &Paths) -> String {
    format!("no machine has joined a vault in `{}`", paths.state.display())
}

/// Tells whether a machine has joined a vault there, as far as this user may look.
fn has_joined(paths: &Paths) -> bool {
    let pins = paths.pins().symlink_metadata();
    !pins.is_err_and(|why| why.kind() == std::io::ErrorKind::NotFound)
}

async fn exchange(
    paths: &Paths,
    method: Method,
    route: &str,
    body: Bytes,
    reason: Option<&str>,
) -> Result<(StatusCode, Bytes)> {
    let stream = connect(paths).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(format!("/v1/{route}"));
    let request = match reason {
        Some(reason) => request.header(REASON, HeaderValue::from_bytes(reason.as_bytes())?),
        None => request,
    };
    let request = request.header(HOST, "localhost").body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY).collect().await;
    Ok((status, body.map_err(anyhow::Error::from_boxed)?.to_bytes()))
}

fn success((status, body): (StatusCode, Bytes)) -> Result<Bytes> {
    if status == StatusCode::OK || status == StatusCode::NO_CONTENT {
        return Ok(body);
    }
    bail!(refused(status, &body))
}

/// Takes text and hint out of an answer that is no success.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let errors = serde_json::from_slice::<serde_json::Value>(body).ok();
    let text = errors.as_ref().and_then(|errors| errors.get("errors")?.get(0)?.as_str());
    let Some(text) = text else {
        let said = String::from_utf8_lossy(body);
        return Failure::remote(format!("the agent answered {status}: {}", said.trim()));
    };
    match text.split_once("\nhint: ") {
        Some((text, hint)) => Failure::remote(text).hint(hint),
        None => Failure::remote(text),
    }
}
