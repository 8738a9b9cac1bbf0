//! Asking this machine's own agent, for the verbs of `vault-agent` itself.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use host::hint::{Failure, hinted};
use host::systemd::{self, Whose};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use machine::ai_tools;
use machine::local::{AI_AGENT, BODY, NO_REASON, REASON};
use machine::paths::{Paths, demand_short};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use shared::audit::{self, Reason};
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

/// Why the command is run, once for the program: it goes with every request.
static WHY: OnceLock<Reason> = OnceLock::new();

/// What stays as it is in the path of a request.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the route to a secret's `data`, `metadata` or `subkeys`.
pub fn route(kind: &str, path: &SecretPath) -> String {
    let segments = path.rest().split('/').map(|part| utf8_percent_encode(part, PLAIN).to_string());
    let mount = utf8_percent_encode(path.mount(), PLAIN);
    format!("{mount}/{kind}/{}", segments.collect::<Vec<_>>().join("/"))
}

/// Has every request say why the command is run, as `--reason` or `VAULT_REASON` has it.
///
/// # Errors
/// If it is no reason.
pub fn say_why(flag: Option<&str>, env: Option<&str>) -> Result<()> {
    let said = flag.map(|text| ("--reason", text)).or_else(|| Some(("VAULT_REASON", env?)));
    let Some((name, text)) = said.filter(|(_, text)| !text.is_empty()) else { return Ok(()) };
    let reason = audit::reason(text);
    let reason = reason.map_err(|why| Failure::local(format!("{name}: {}", why.detail)))?;
    // The program says it once.
    let _ = WHY.set(reason);
    Ok(())
}

/// Asks the agent whether the caller may go on with what concerns a secret: those who have to say
/// why, and have not, hear so. That its keys were looked at is on record then, and why.
///
/// # Errors
/// If a reason is wanted, or the one that is given tells a value. What else is wrong shows later.
pub fn demand_reason(paths: &Paths, secret: &SecretPath) -> Result<()> {
    match find::<IgnoredAny>(paths, &format!("{}?depth=1", route("subkeys", secret))) {
        Err(why) if is_about_reason(&why) => Err(why),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Tells whether the agent wants a reason, or another one.
fn is_about_reason(why: &anyhow::Error) -> bool {
    let text = why.to_string();
    NO_REASON.iter().any(|start| text.starts_with(start))
}

/// Asks the agent for what a route shows.
pub fn ask<T: DeserializeOwned>(paths: &Paths, route: &str) -> Result<T> {
    parse(&send(paths, Method::GET, route, Bytes::new(), PATIENCE)?)
}

/// As [`ask`], for what may not be there.
pub fn find<T: DeserializeOwned>(paths: &Paths, route: &str) -> Result<Option<T>> {
    let answered = exchanged(paths, Method::GET, route, Bytes::new(), PATIENCE)?;
    if answered.0 == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    parse(&success(answered)?).map(Some)
}

/// As [`ask`], for the bare bytes.
pub fn bytes(paths: &Paths, route: &str) -> Result<Bytes> {
    send(paths, Method::GET, route, Bytes::new(), PATIENCE)
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
    success(exchanged(paths, method, route, body, patience)?)
}

fn exchanged(
    paths: &Paths,
    method: Method,
    route: &str,
    body: Bytes,
    patience: Duration,
) -> Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sent = exchange(paths, method, route, body);
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
) -> Result<(StatusCode, Bytes)> {
    let stream = connect(paths).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(format!("/v1/{route}"));
    if let Some(reason) = WHY.get() {
        request = request.header(REASON, HeaderValue::from_bytes(reason.as_str().as_bytes())?);
    }
    // The agent looks for itself, but not into the environment of other users' processes.
    if let Some(agent) = ai_tools::by_environment(|name| std::env::var(name).ok()) {
        request = request.header(AI_AGENT, agent);
    }
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
