//! A server with set answers on a socket of its own, and the streams of a pretended process. Tests
//! only.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::time::Time;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::context::{Env, Flags, Global};
use host::hint::Exit;
use host::term::Term;
use machine::identity::Pins;
use machine::paths::Paths;

/// 2026-11-23T20:00:00Z.
pub(crate) fn now() -> Time {
    Time::from_micros(1_795_464_000_000_000)
}

#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command saw and left behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub exit: u8,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Shows all three, for snapshots.
    pub(crate) fn shown(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.exit, self.out, self.err)
    }
}

/// A state directory with a socket, answers, and one process's streams.
pub(crate) struct World {
    dir: TempDir,
    env: BTreeMap<String, String>,
    stdin: String,
    out: Buffer,
    err: Buffer,
    /// Whether stdout and stderr are terminals.
    pub tty: bool,
    /// Whether a person sits at stdin.
    pub asked: bool,
    server: Option<Server>,
}

impl World {
    pub(crate) fn new(stdin: &str) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            env: BTreeMap::new(),
            stdin: stdin.to_owned(),
            out: Buffer::default(),
            err: Buffer::default(),
            tty: false,
            asked: false,
            server: None,
        }
    }

    /// Starts the state directory's own agent: `(method and target, status, body)`; all else is
    /// 404.
    pub(crate) fn agent(answers: &[(&str, u16, &str)]) -> Self {
        let mut world = Self::new("");
        let socket = world.dir.path().join("agent.sock");
        world.server = Some(Server::start(UnixListener::bind(socket).unwrap(), answers));
        world
    }

    /// The same, on a host of a vault that holds an admin key.
    pub(crate) fn admin(answers: &[(&str, u16, &str)]) -> Self {
        let world = Self::agent(answers);
        std::fs::set_permissions(world.path(), Permissions::from_mode(0o700)).unwrap();
        let paths = Paths::resolve(Some(world.path()), None).unwrap();
        let pins = Pins {
            vault: Hash::of(&[b"vault"]),
            server: vec![SignKey::from_seed(&[1; 32]).verify_key()],
            name: "rtx1080".parse().unwrap(),
            addresses: vec!["10.8.0.3:8443".to_owned()],
            checkpoint: None,
        };
        pins.store(&paths).unwrap();
        host::files::create_dir_private(&paths.admin()).unwrap();
        world.file("admin/jonas.age", "");
        world
    }

    pub(crate) fn stdin(mut self, stdin: &str) -> Self {
        self.stdin = stdin.to_owned();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Points VAULT_ADDR at the agent's socket, so that it counts as somebody else's server.
    pub(crate) fn foreign(self) -> Self {
        let socket = self.dir.path().join("agent.sock");
        self.env("VAULT_ADDR", &format!("unix://{}", socket.display()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Returns the requests that came in, with their bodies, and forgets them.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.server.as_ref().unwrap().fake.seen.lock().unwrap())
    }

    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    fn term(&self) -> Term {
        let input = io::Cursor::new(self.stdin.clone().into_bytes());
        let mut term = Term::piped(input, self.out.clone(), self.err.clone());
        (term.out_is_tty, term.err_is_tty) = (self.tty, self.tty);
        term.in_is_tty = self.asked;
        term
    }

    fn environment(&self) -> Env {
        let mut env = self.env.clone();
        if !env.contains_key("VAULT_ADDR") {
            env.insert("VAULT_STATE_DIR".to_owned(), self.dir.path().display().to_string());
        }
        Box::new(move |name| env.get(name).cloned())
    }

    pub(crate) fn global(&self) -> Global {
        Global::new(Flags::default(), self.term(), self.environment(), now)
    }

    /// Runs a command line, split at spaces.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.run_args(&line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn run_args(&self, args: &[&str]) -> Run {
        self.out.0.borrow_mut().clear();
        self.err.0.borrow_mut().clear();
        let args = args.iter().map(OsString::from);
        let exit: Exit = crate::dispatch::run(args, self.term(), self.environment(), now);
        let dir = self.dir.path().display().to_string();
        let text = |buffer: &Buffer| buffer.text().replace(&dir, "DIR");
        Run { exit: exit.0, out: text(&self.out), err: text(&self.err) }
    }
}

struct Fake {
    answers: BTreeMap<String, (u16, String)>,
    seen: Mutex<Vec<String>>,
}

struct Server {
    fake: Arc<Fake>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    fn start(listener: UnixListener, answers: &[(&str, u16, &str)]) -> Self {
        let answers = answers
            .iter()
            .map(|(call, status, body)| ((*call).to_owned(), (*status, (*body).to_owned())));
        let fake = Arc::new(Fake { answers: answers.collect(), seen: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        let (stop, stopped) = oneshot::channel::<()>();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let serving = axum::serve(listener, router);
                tokio::select! {
                    result = serving => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { fake, _stop: stop }
    }
}

async fn answer(
    State(fake): State<Arc<Fake>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let call = format!("{method} {uri}");
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let mut seen = call.clone();
    for name in ["x-vault-token", "x-vault-namespace", "x-test"] {
        if let Some(value) = headers.get(name) {
            seen.push_str(&format!(" {name}={}", value.to_str().unwrap()));
        }
    }
    if !body.is_empty() {
        seen.push_str(&format!(" {body}"));
    }
    fake.seen.lock().unwrap().push(seen);
    let (status, body) =
        fake.answers.get(&call).cloned().unwrap_or((404, r#"{"errors":[]}"#.to_owned()));
    let response = Response::builder().status(status);
    let response = match body.strip_prefix("cached:") {
        Some(_) => response.header(machine::local::CACHE_AGE, "7300"),
        None => response,
    };
    response.body(Body::from(body.trim_start_matches("cached:").to_owned())).unwrap()
}
