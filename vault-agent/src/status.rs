//! `vault-agent status`: how this machine stands, as its own agent tells.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use host::hint::{Exit, Failure};
use host::term::Term;
use host::{clock, table};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use machine::local::{BODY, STATUS, Status};
use machine::paths::Paths;
use tokio::net::UnixStream;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the agent on a socket how it stands.
async fn ask(socket: &Path) -> Result<Status> {
    let stream = UnixStream::connect(socket).await.map_err(|why| {
        Failure::remote(format!("no agent answers at `{}`: {why}", socket.display()))
            .hint("start `vault-agent run`, or `systemctl start vault-agent`")
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(format!("/v1/{STATUS}")).header(HOST, "localhost");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body).into_owned();
        bail!(Failure::remote(format!("the agent answered {status}: {said}")));
    }
    serde_json::from_slice(&body).context("the agent's answer is not the expected JSON")
}

/// Prints the machine, its connection, its alarms and its targets.
pub fn run(paths: &Paths, term: &Term) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let asked = tokio::time::timeout(PATIENCE, ask(&paths.socket)).await;
        asked.unwrap_or_else(|_| {
            bail!(Failure::remote(format!("the agent does not answer within {PATIENCE:?}")))
        })
    })?;
    let now = clock::now();
    term.line(format!("machine  {}", status.machine))?;
    term.line(format!("vault    {}", status.vault))?;
    let server = status.server.as_deref().unwrap_or("none");
    let link = if status.online { "connected" } else { "not connected" };
    term.line(format!("server   {server} ({link})"))?;
    term.line(format!("entry    {}", status.seq))?;
    for alarm in &status.alarms {
        let age = clock::age(now.seconds_since(alarm.since));
        term.line(format!("alarm    {}: {} (for {age})", alarm.code, alarm.text))?;
    }
    let own: Vec<_> = status.targets.iter().filter(|row| row.machine == status.machine).collect();
    if !own.is_empty() {
        let version = |ver: u64| if ver == 0 { "-".to_owned() } else { format!("v{ver}") };
        let cells = own.iter().map(|row| {
            let (wanted, applied) = (version(row.wanted), version(row.applied));
            let (hook, state) = (row.hook.to_string(), row.state.to_string());
            let (target, secret) = (row.target.clone(), row.secret.to_string());
            vec![target, secret, wanted, applied, hook, state, row.detail.clone()]
        });
        let header = ["TARGET", "SECRET", "WANTED", "APPLIED", "HOOK", "STATE", "DETAIL"];
        term.line("")?;
        term.line(table::plain(&header, &cells.collect::<Vec<_>>()))?;
    }
    let lags = own.iter().any(|row| row.lags());
    Ok(if lags || !status.alarms.is_empty() { Exit::REMOTE } else { Exit::OK })
}
