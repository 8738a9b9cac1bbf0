//! A server in a temporary directory, an owner with all keys, and machines that speak to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::StatusCode;
use shared::blob::{Kind, Place, seal};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::{Identity, SignKey, VerifyKey, random};
use shared::log::{
    Entry, Genesis, NewMachine, Number, Op, Put, State, apply, readers_hash, recipients, start,
};
use shared::name::{Actor, Name};
use shared::report::Seen;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::token::{Line as _, MachineLine, SetupLine};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{AppendRequest, GenesisRequest};
use shared::wire::v1::report::ReportRequest;
use shared::wire::v1::{GENESIS, LOG};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vault_server::config::{Config, Places};
use vault_server::init::{Made, Wanted, init};

use crate::client::{Client, parse};

/// A running server.
pub struct Running {
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(async move {
            let ended = vault_server::run(config, listener, shutdown).await;
            // Who only finds the port closed is told why.
            if let Err(why) = &ended {
                println!("the server has ended: {why:#}");
            }
            ended
        });
        Self { addr, stop: Some(stop), ended }
    }

    /// Stops as SIGTERM does.
    pub async fn stop(mut self) {
        self.end().await;
    }

    /// As [`Running::stop`], of a server that stays in its place.
    pub async fn end(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.ended).await.unwrap().unwrap();
    }

    /// Waits for a start that must fail.
    pub async fn fault(self) -> String {
        format!("{:#}", self.ended.await.unwrap().unwrap_err())
    }
}

/// A machine's keys.
pub struct Machine {
    pub name: Name,
    pub sign: SignKey,
    pub identity: Identity,
}

impl Machine {
    pub fn new(name: &str) -> Self {
        let (sign, identity) = (SignKey::generate(), Identity::generate());
        Self { name: name.parse().unwrap(), sign, identity }
    }

    /// Returns what adds the machine under `number`.
    pub fn add(&self, number: Number, read: &[&str], write: &[&str]) -> Op {
        let MachineLine { name, recipient, sign, proof } = self.line();
        Op::MachineAdd(NewMachine {
            name,
            number,
            recipient,
            sign,
            proof,
            read: Grants::parse(read).unwrap(),
            write: Grants::parse(write).unwrap(),
        })
    }

    pub fn line(&self) -> MachineLine {
        MachineLine::new(self.name.clone(), self.identity.recipient(), &self.sign).unwrap()
    }

    pub fn actor(&self) -> Actor {
        Actor::Machine(self.name.clone())
    }
}

/// The server, the owner, and what the log folds to.
pub struct World {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub server: Running,
    pub server_key: VerifyKey,
    pub root: SignKey,
    pub admin: SignKey,
    /// The first machine; reads and writes all.
    pub first: Machine,
    pub state: State,
    pub genesis: GenesisRequest,
    /// The head that each accepted entry made, as the server signed it.
    pub heads: Vec<SignedHead>,
}

/// Reads the newest head in the file beside a new server's database.
fn head_file(data: &Path) -> SignedHead {
    let text = std::fs::read(data.join("head")).unwrap();
    let line = text.split(|byte| *byte == b'\n').next().unwrap();
    parse(line.splitn(3, |byte| *byte == b' ').nth(2).unwrap())
}

/// Makes a server's files.
pub fn make(root: &Path) -> (Config, SetupLine) {
    let data: PathBuf = root.join("data");
    let places = Places::find(None, Some(&data)).unwrap();
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let Made { config, line, .. } = init(&places, &Wanted { listen, addresses: vec![] }).unwrap();
    (config, SetupLine::from_line(&line).unwrap())
}

impl World {
    /// A server with a founded vault and one machine.
    pub async fn new() -> Self {
        Self::unfounded().await.founded().await
    }

    /// As [`World::new`], with the database of PostgreSQL that a URL names.
    pub async fn on(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        host::files::create_dir_private(&data).unwrap();
        let text = format!("listen = \"127.0.0.1:0\"\ndata = {data:?}\n[store]\nurl = {url:?}\n");
        host::files::write_private(&data.join("server.toml"), text.as_bytes()).unwrap();
        let root = dir.path().to_owned();
        // What asks a database may wait.
        let made = tokio::task::spawn_blocking(move || make(&root)).await.unwrap();
        Self::made(dir, made).await.founded().await
    }

    async fn founded(self) -> Self {
        let world = self;
        let client = world.client(&world.first).await;
        let (status, body) = client.post(GENESIS, &world.genesis).await;
        assert_eq!(status, StatusCode::CREATED, "{body:?}");
        let head = head_file(&world.config.data);
        world.is_newest(&head);
        Self { heads: vec![head], ..world }
    }

    /// A server whose genesis is made, but not posted.
    pub async fn unfounded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path());
        Self::made(dir, made).await
    }

    async fn made(dir: tempfile::TempDir, (config, setup): (Config, SetupLine)) -> Self {
        let server = Running::start(config.clone()).await;
        let (root, admin, first) = (SignKey::generate(), SignKey::generate(), Machine::new("a"));
        let genesis = Genesis {
            v: 1,
            name: "home".parse().unwrap(),
            nonce: Hash::from_bytes(*random::<32>()),
            time: Time::from_micros(1),
            root: root.verify_key(),
            recovery: Identity::generate().recipient(),
            admins: [("me".parse().unwrap(), admin.verify_key())].into(),
            server: vec![setup.server.clone()],
            mounts: vec!["secret".parse().unwrap()],
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let mut state = start(&genesis).unwrap();
        let add = first.add(1, &["*"], &["*"]);
        let entry = signed(&state, &admin, &Actor::Admin("me".parse().unwrap()), vec![add]);
        apply(&mut state, &entry).unwrap();
        let genesis = GenesisRequest { claim: setup.claim, genesis, entry };
        let server_key = setup.server;
        let heads = Vec::new();
        Self { dir, config, server, server_key, root, admin, first, state, genesis, heads }
    }

    /// Ends the server and starts it again, with the configuration as it is now.
    pub async fn restart(&mut self) {
        self.server.end().await;
        self.server = Running::start(self.config.clone()).await;
    }

    pub async fn client(&self, machine: &Machine) -> Client {
        Client::connect(self.server.addr, &self.server_key, &machine.sign).await
    }

    /// Signs an entry on the head as the first machine.
    pub fn by_first(&self, ops: Vec<Op>) -> Envelope {
        signed(&self.state, &self.first.sign, &self.first.actor(), ops)
    }

    /// Signs an entry on the head as admin.
    pub fn by_admin(&self, ops: Vec<Op>) -> Envelope {
        signed(&self.state, &self.admin, &Actor::Admin("me".parse().unwrap()), ops)
    }

    /// Seals the next version of a secret.
    pub fn put(&self, path: &str, content: &str) -> (Op, Vec<u8>) {
        let path = path.parse().unwrap();
        let ver = self.state.due_version(&path);
        let vault = self.state.vault();
        let place = Place { vault: &vault, path: &path, ver };
        let content = format!("{{\"value\":\"{content}\"}}");
        let to = recipients(&self.state, &path);
        let sealed = seal(place, Kind::Kv, content.as_bytes(), &to).unwrap();
        let put = Put {
            ver,
            blob: sealed.id,
            size: sealed.bytes.len() as u64,
            commit: sealed.commit,
            readers: readers_hash(&self.state, &path),
            path,
        };
        (Op::Put(put), sealed.bytes)
    }

    /// Appends an entry that must be accepted.
    pub async fn append(&mut self, client: &Client, envelope: Envelope, blobs: Vec<Vec<u8>>) {
        let (status, body) = post(client, &envelope, blobs).await;
        assert_eq!(status, StatusCode::CREATED, "{body:?}");
        apply(&mut self.state, &envelope).unwrap();
        let head: SignedHead = parse(&body);
        self.is_newest(&head);
        self.heads.push(head);
    }

    /// Checks that a head is the newest, signed by the server.
    pub fn is_newest(&self, head: &SignedHead) {
        assert_eq!(head.place(), self.state.place());
        head.verify(std::slice::from_ref(&self.server_key), self.state.vault()).unwrap();
    }

    /// Returns the newest head that the server has signed.
    pub fn newest(&self) -> SignedHead {
        *self.heads.last().unwrap()
    }

    /// Returns a record of what `machine` has seen: the newest head, nothing of the audit.
    pub fn seen(&self, machine: &Machine, n: u64) -> Seen {
        let SignedHead { epoch, seq, head, sig: server_sig } = self.newest();
        let (audit_n, audit_head, targets, wish) = (0, Hash::ZERO, Hash::ZERO, None);
        let (machine, time) = (self.number(machine), Time::from_micros(n));
        Seen { machine, n, time, epoch, seq, head, server_sig, audit_n, audit_head, targets, wish }
    }

    /// Signs a record as `machine`.
    pub fn report(&self, machine: &Machine, seen: &Seen) -> ReportRequest {
        let seen = seen.sign(machine.name.clone(), &machine.sign, self.state.vault()).unwrap();
        ReportRequest { seen, targets: None, exchange: None, accesses: None }
    }

    /// Writes a version as the first machine and returns its blob.
    pub async fn write(&mut self, client: &Client, path: &str, content: &str) -> Hash {
        let (op, bytes) = self.put(path, content);
        let id = op.blob().unwrap();
        self.append(client, self.by_first(vec![op]), vec![bytes]).await;
        id
    }

    /// Returns the number of an active machine.
    pub fn number(&self, machine: &Machine) -> Number {
        self.state.machine(&machine.name).unwrap().0
    }

    /// Adds a machine.
    pub async fn add(&mut self, client: &Client, name: &str, read: &[&str]) -> Machine {
        let machine = Machine::new(name);
        let add = machine.add(self.state.due_machine(), read, &[]);
        self.append(client, self.by_admin(vec![add]), vec![]).await;
        machine
    }
}

/// Signs an entry on the state's head.
pub fn signed(state: &State, key: &SignKey, by: &Actor, ops: Vec<Op>) -> Envelope {
    signed_at(state, key, by, ops, host::clock::now())
}

/// Signs an entry on the state's head by a clock that may be wrong.
pub fn signed_at(state: &State, key: &SignKey, by: &Actor, ops: Vec<Op>, time: Time) -> Envelope {
    let (seq, prev) = (state.seq() + 1, state.head());
    let entry = Entry { seq, prev, time, by: by.clone(), ops };
    Envelope::sign(key, by.clone(), Purpose::Entry(state.vault()), &entry).unwrap()
}

/// Posts an entry.
pub async fn post(
    client: &Client,
    envelope: &Envelope,
    blobs: Vec<Vec<u8>>,
) -> (StatusCode, Bytes) {
    let blobs = blobs.into_iter().map(Inline).collect();
    client.post(LOG, &AppendRequest { envelope: envelope.clone(), blobs, code: None }).await
}
