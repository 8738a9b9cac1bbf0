//! A machine with an engine, a small server in the same process, and the API over both.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use shared::audit::Fact;

use crate::api::caller::Peer;
use crate::api::context::Api;
use crate::api::figures::Figures;
use crate::api::route::answer;
use crate::api::token_file;
use crate::engine::Engine;
use crate::engine::tests::Lone;
use machine::config;
use machine::paths::Paths;

/// One machine called `here` and how a caller reaches its API.
#[derive(Clone)]
pub(crate) struct World {
    api: Arc<Api>,
    peer: Peer,
    pub(super) paths: Paths,
    lone: Arc<Lone>,
}

impl World {
    /// A machine that may do everything, called by an allowed user.
    pub(crate) async fn new() -> Self {
        Self::with_grants(&["*"], &["*"]).await
    }

    /// A machine with these grants.
    pub(super) async fn with_grants(read: &[&str], write: &[&str]) -> Self {
        Self::make(read, write, &config::Api::default(), Peer::inside()).await
    }

    /// A machine of which everybody has to say why they ask.
    pub(super) async fn demanding() -> Self {
        let require_reason = config::RequireReason::All;
        let options = config::Api { require_reason, ..config::Api::default() };
        Self::make(&["*"], &["*"], &options, Peer::inside()).await
    }

    /// A machine whose API is called over loopback TCP and wants a token.
    pub(super) async fn on_loopback() -> Self {
        let address = "127.0.0.1:1".parse().unwrap();
        let options = config::Api { listen: vec![address], ..config::Api::default() };
        Self::make(&["*"], &["*"], &options, Peer::tcp((address, address))).await
    }

    /// A machine that trusts whoever calls over loopback TCP.
    pub(super) async fn on_trusted_loopback() -> Self {
        let address = "127.0.0.1:1".parse().unwrap();
        let auth = config::Auth::Loopback;
        let options = config::Api { listen: vec![address], auth, ..config::Api::default() };
        Self::make(&["*"], &["*"], &options, Peer::tcp((address, address))).await
    }

    /// A machine that trusts this host, called by a container over a bridge.
    pub(super) async fn on_bridge() -> Self {
        let listen = ["127.0.0.1:1", "172.17.0.1:1"].map(|text| text.parse().unwrap());
        let options = config::Api {
            listen: listen.to_vec(),
            hosts: vec!["host.docker.internal".to_owned(), "vault".to_owned()],
            auth: config::Auth::Loopback,
            ..config::Api::default()
        };
        let ends = ("172.17.0.2:54321".parse().unwrap(), listen[1]);
        Self::make(&["*"], &["*"], &options, Peer::tcp(ends)).await
    }

    async fn make(read: &[&str], write: &[&str], options: &config::Api, peer: Peer) -> Self {
        let lone = Lone::new("here", read, write).await;
        let paths = lone.paths();
        let api = Arc::new(Api::open(lone.engine(), &paths, options, None).unwrap());
        api.gate.take_token().unwrap();
        Self { api, peer, paths, lone: Arc::new(lone) }
    }

    /// The same machine, called by a user who may not use the socket.
    pub(super) fn as_stranger(&self) -> Self {
        Self { peer: self.api.gate.peer(None, 54321, 54321), ..self.clone() }
    }

    /// The same machine, called over TCP from one address to another.
    pub(super) fn between(&self, ends: [&str; 2]) -> Self {
        let [theirs, ours] = ends.map(|end| end.parse().unwrap());
        Self { peer: Peer::tcp((theirs, ours)), ..self.clone() }
    }

    /// Makes a token that may read what is in a folder.
    pub(super) async fn limited_token(&self, folder: &str) -> String {
        let inside = Self { peer: Peer::inside(), ..self.clone() };
        inside.make_token(&format!(r#"{{"path":"{folder}"}}"#)).await
    }

    pub(super) fn figures(&self) -> Figures {
        Figures::new(self.api.clone())
    }

    pub(super) fn engine(&self) -> Engine {
        self.api.engine.clone()
    }

    /// Returns the token of the token file.
    pub(super) fn token(&self) -> String {
        let file = token_file(&self.paths, &config::Api::default());
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// Makes a token for a program.
    pub(super) async fn make_token(&self, body: &str) -> String {
        let (status, text) = self.text("POST /v1/auth/token/create", body).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// Has the alarm stand that the vault has other keys for this machine.
    pub(super) fn substitute(&self) {
        self.lone.substitute();
    }

    /// Takes the server away.
    pub(super) async fn lose_server(&self) {
        self.lone.lose_server().await;
    }

    /// Returns the last access that was recorded, as `op path version result`, and by whom.
    pub(super) async fn last_access(&self) -> (String, String) {
        let last = self.lone.accesses().await.pop().unwrap();
        let path = last.path.unwrap();
        let shown = format!("{} {path} {} {}", last.op, last.ver.unwrap_or(0), last.result);
        (shown, last.who.unwrap().to_string())
    }

    /// Returns all accesses that were recorded, oldest first.
    pub(super) async fn accesses(&self) -> Vec<Fact> {
        self.lone.accesses().await
    }

    /// Sends a request.
    pub(super) async fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        if method == "PATCH" && headers.is_empty() {
            request = request.header("content-type", "application/merge-patch+json");
        }
        answer(&self.api, &self.peer, request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Sends `METHOD PATH` with a header and returns status and body.
    pub(super) async fn with(
        &self,
        name: &str,
        value: &str,
        request: &str,
        body: &str,
    ) -> (u16, String) {
        let (method, path) = request.split_once(' ').unwrap();
        read(self.answer(method, path, &[(name, value)], body).await).await
    }

    /// Sends `METHOD PATH` and returns status and body.
    pub(super) async fn text(&self, request: &str, body: &str) -> (u16, String) {
        let (method, path) = request.split_once(' ').unwrap();
        read(self.answer(method, path, &[], body).await).await
    }

    /// Checks a case a line: `METHOD PATH BODY => STATUS EXPECTED`. Without `EXPECTED` there must
    /// be no body, `[]` stands for no errors, a text in quotes for that one error, `*` for
    /// anything; an object must be there with all its members. Within texts `*` stands for any
    /// text, and the text `?` for any value. A line that is indented further goes on with the case
    /// before, after a space.
    pub(super) async fn are(&self, cases: &str) {
        for case in whole(cases) {
            let (request, expected) = case.rsplit_once(" => ").unwrap();
            let mut words = request.splitn(3, ' ');
            let target = format!("{} {}", words.next().unwrap(), words.next().unwrap());
            let (status, expected) = expected.split_once(' ').unwrap_or((expected, ""));
            let body = words.next().unwrap_or_default();
            self.is(&target, body, status.parse().unwrap(), expected).await;
        }
    }

    /// Checks one case.
    pub(super) async fn is(&self, request: &str, body: &str, status: u16, expected: &str) {
        let (found, text) = self.text(request, body).await;
        assert_eq!(found, status, "{request} {body}: {text}");
        let expected = match expected.chars().next() {
            Some('*') => return,
            None => return assert_eq!(text, "", "{request} {body}"),
            Some('"') => format!(r#"{{"errors":[{expected}]}}"#),
            Some('[') => format!(r#"{{"errors":{expected}}}"#),
            Some(_) => expected.to_owned(),
        };
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        if let Err(at) = holds(&parse(&text), &parse(&expected), "") {
            panic!("{request} {body}: `{at}` differs in {text}");
        }
    }
}

/// Returns the cases, each on one line.
fn whole(cases: &str) -> Vec<String> {
    let (mut whole, mut first) = (Vec::<String>::new(), None);
    for line in cases.lines().filter(|line| !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        match whole.last_mut() {
            Some(case) if indent > *first.get_or_insert(indent) => {
                *case += " ";
                *case += line.trim();
            }
            Some(_) | None => {
                first.get_or_insert(indent);
                whole.push(line.trim().to_owned());
            }
        }
    }
    whole
}

pub(super) async fn read(answer: Response<Body>) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Tells whether `found` has all that `expected` has, or where it has not.
fn holds(found: &Value, expected: &Value, at: &str) -> Result<(), String> {
    let same = match (found, expected) {
        (_, Value::String(any)) if any == "?" => true,
        (Value::Object(found), Value::Object(expected)) => {
            for (name, expected) in expected {
                let at = format!("{at}.{name}");
                holds(found.get(name).ok_or(&at)?, expected, &at)?;
            }
            // An empty map or array is meant so, but for "any object" at the top.
            !expected.is_empty() || found.is_empty() || at.is_empty()
        }
        (Value::Array(found), Value::Array(expected)) => {
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                holds(found, expected, &format!("{at}[{index}]"))?;
            }
            found.len() == expected.len()
        }
        (Value::String(found), Value::String(expected)) => is_like(found, expected),
        (found, expected) => found == expected,
    };
    if same { Ok(()) } else { Err(at.to_owned()) }
}

fn is_like(found: &str, expected: &str) -> bool {
    let mut parts = expected.split('*');
    let first = parts.next().unwrap();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let Some(last) = expected.contains('*').then(|| expected.rsplit('*').next().unwrap()) else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    found.ends_with(last)
}
