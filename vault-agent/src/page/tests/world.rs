//! A machine with its page, and a browser that is let in.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use shared::audit::{Fact, Who};
use shared::blob::Kind;
use shared::plaintext::Plaintext;

use crate::engine::tests::Lone;
use crate::engine::{Change, CustomChange, MetaMerge, PutContent, Settings};
use crate::page::route;
use crate::page::sessions::Opener;
use crate::page::site::Site;
use crate::page::widget_token::WidgetToken;
use machine::config;

/// The port that it is called by.
pub(super) const PORT: u16 = 4711;
/// Who has asked for the link.
pub(super) const WHO: &str = "vault ui[7] uid 1000 (jonas)";

/// A machine called `here`, its page, and a session.
pub(super) struct World {
    pub(super) lone: Lone,
    pub(super) site: Arc<Site>,
    /// The whole `Cookie` header of the browser that was let in.
    pub(super) cookie: String,
    /// The browser's connection and the page's end of it: they tell whose it is.
    connection: [TcpStream; 2],
}

/// An answer, taken in.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_grants(&["*"]).await
    }

    /// A machine that reads this.
    pub(super) async fn with_grants(read: &[&str]) -> Self {
        let lone = Lone::new("here", read, &["*"]).await;
        let token = WidgetToken::open(&lone.paths().state).unwrap();
        let options = config::Ui::default();
        let site = Arc::new(Site::new(lone.engine(), PORT, &options, Some(token)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let browser = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = [browser, listener.accept().unwrap().0];
        let mut world = Self { lone, site, cookie: String::new(), connection };
        let got = world.get(&format!("/open/{}", world.link())).await;
        assert_eq!(got.status, 303, "{got:?}");
        let cookie = got.headers["set-cookie"].to_str().unwrap();
        world.cookie = cookie.split(';').next().unwrap().to_owned();
        world
    }

    /// Makes a link, and returns what stands behind `/open/`.
    pub(super) fn link(&self) -> String {
        let user = rustix::process::getuid().as_raw();
        let opener = Opener { by: Who::lossy(WHO).into(), port: PORT, user };
        self.site.sessions.link(opener, tokio::time::Instant::now()).to_string()
    }

    /// Sends `METHOD PATH` with these headers alone.
    pub(super) async fn send(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let (method, path) = request.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let ends = self.connection.each_ref().map(|end| end.local_addr().unwrap());
        let answer = route::answer(&self.site, ends.into(), request).await;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Got { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Asks as the browser that was let in.
    pub(super) async fn get(&self, path: &str) -> Got {
        let headers = [("host", "127.0.0.1:4711"), ("cookie", &self.cookie)];
        self.send(&format!("GET {path}"), &headers, "").await
    }

    /// Asks for a screen in a language; it must be there.
    pub(super) async fn screen(&self, path: &str, lang: &str) -> String {
        let mark = if path.contains('?') { '&' } else { '?' };
        let got = self.get(&format!("{path}{mark}lang={lang}")).await;
        assert_eq!(got.status, 200, "{path}: {got:?}");
        assert_eq!(got.headers["content-type"], "text/html; charset=utf-8");
        got.body
    }

    /// Sends a form as the browser that was let in.
    pub(super) async fn post(&self, path: &str, form: &str) -> Got {
        let headers = [
            ("host", "127.0.0.1:4711"),
            ("origin", "http://127.0.0.1:4711"),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("cookie", &self.cookie),
        ];
        self.send(&format!("POST {path}"), &headers, form).await
    }

    /// Returns what a form has to show.
    pub(super) async fn csrf(&self) -> String {
        let page = self.screen("/", "en").await;
        let rest = page.split_once("name=\"csrf\" value=\"").unwrap().1;
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// Writes secrets, in one entry.
    pub(super) async fn put(&self, secrets: &[(&str, &str)]) {
        let put = |(path, content): &(&str, &str)| Change::Put {
            path: path.parse().unwrap(),
            kind: Kind::Kv,
            content: PutContent::Whole(Plaintext::from(content.as_bytes())),
            cas: None,
        };
        let changes = secrets.iter().map(put).collect();
        self.site.engine.write(Who::lossy("test[1] uid 0"), changes).await.unwrap();
    }

    /// Sets custom metadata of a secret.
    pub(super) async fn custom(&self, path: &str, texts: &[(&str, &str)]) {
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let texts: BTreeMap<String, String> = texts.iter().map(of).collect();
        let change = Change::MetaMerge(MetaMerge {
            path: path.parse().unwrap(),
            must_exist: true,
            settings: Settings::default(),
            custom: CustomChange::Replace(texts),
        });
        self.site.engine.write(Who::lossy("test[1] uid 0"), vec![change]).await.unwrap();
    }

    /// Returns the accesses that are on record, as `op path version result`, with who they are of.
    pub(super) async fn accesses(&self) -> Vec<(String, String)> {
        let shown = |fact: Fact| {
            let path = fact.path.map(|path| path.to_string()).unwrap_or_default();
            let text = format!("{} {path} {} {}", fact.op, fact.ver.unwrap_or(0), fact.result);
            (text, fact.who.map(|who| who.to_string()).unwrap_or_default())
        };
        self.lone.accesses().await.into_iter().map(shown).collect()
    }

    /// Waits until a screen says something.
    pub(super) async fn until(&self, path: &str, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let page = self.screen(path, "en").await;
            if page.contains(text) {
                return page;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{text:?} is not in {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
