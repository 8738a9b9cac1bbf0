//! A vault for tests: root, admin, a server, and machines with their own state directories.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::audit::Who;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{Genesis, NewMachine, Number, Op};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;
use shared::wire::v1::log::AppendRequest;
use tempfile::TempDir;
use tokio::sync::watch;

use super::server::{Server, entry_at, sealed};
use crate::engine::{Change, Engine, PutContent, WriteError, Written};
use machine::identity::{MachineKeys, Pins};
use machine::local::Status;
use machine::paths::Paths;

pub(super) struct World {
    pub(super) server: Server,
    pub(super) server_key: SignKey,
    pub(super) root: SignKey,
    pub(super) admin: SignKey,
    pub(super) recovery: Identity,
    dirs: TempDir,
}

/// A machine with its running engine.
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) paths: Paths,
    addresses: watch::Sender<Vec<String>>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

pub(super) fn path(text: &str) -> SecretPath {
    text.parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Returns the process that writes where a test names none.
pub(super) fn who() -> Who {
    Who::lossy("test[1] uid 0")
}

impl World {
    pub(super) async fn new() -> Self {
        let (root, admin, server_key) =
            (SignKey::generate(), SignKey::generate(), SignKey::generate());
        let recovery = Identity::generate();
        let genesis = Genesis {
            v: 1,
            name: name("home"),
            nonce: Hash::of(&[b"nonce"]),
            time: host::clock::now(),
            root: root.verify_key(),
            recovery: recovery.recipient(),
            admins: BTreeMap::from([(name("jonas"), admin.verify_key())]),
            server: vec![server_key.verify_key()],
            mounts: vec!["secret".parse().unwrap()],
        };
        let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
        let server = Server::start(&server_key, genesis).await;
        let dirs = tempfile::tempdir().unwrap();
        Self { server, server_key, root, admin, recovery, dirs }
    }

    /// Appends operations by the admin.
    pub(super) fn act(&self, ops: Vec<Op>) {
        self.act_at(host::clock::now(), ops);
    }

    /// As [`World::act`], by a clock that may be wrong.
    pub(super) fn act_at(&self, time: Time, ops: Vec<Op>) {
        let mut data = self.server.data();
        let by = Actor::Admin(name("jonas"));
        let envelope = entry_at(time, &data.state, by, &self.admin, ops);
        data.append(AppendRequest { envelope, blobs: Vec::new(), code: None }, None).unwrap();
    }

    /// Returns the number of an active machine.
    pub(super) fn number(&self, machine: &str) -> Number {
        self.server.data().state.machine(&name(machine)).unwrap().0
    }

    /// Removes a machine.
    pub(super) fn remove(&self, machine: &str) {
        let number = self.number(machine);
        self.act(vec![Op::MachineRemove { number, reason: Text::default() }]);
    }

    /// Writes a version by the admin.
    pub(super) fn put(&self, at: &str, content: &str) {
        self.put_at(host::clock::now(), at, content);
    }

    /// As [`World::put`], by a clock that may be wrong.
    pub(super) fn put_at(&self, time: Time, at: &str, content: &str) {
        let mut data = self.server.data();
        let (op, blob) = sealed(&data.state, &path(at), content.as_bytes());
        let by = Actor::Admin(name("jonas"));
        let envelope = entry_at(time, &data.state, by, &self.admin, vec![op]);
        data.append(AppendRequest { envelope, blobs: vec![blob], code: None }, None).unwrap();
    }

    /// Makes a machine's state directory and adds it to the vault.
    pub(super) fn join(&self, machine: &str, read: &[&str], write: &[&str]) -> Paths {
        let paths = self.paths(machine);
        let keys = MachineKeys::create(&paths).unwrap();
        let MachineLine { name, recipient, sign, proof } = keys.line(name(machine)).unwrap();
        let number = self.server.data().state.due_machine();
        self.act(vec![Op::MachineAdd(NewMachine {
            name: name.clone(),
            number,
            recipient,
            sign,
            proof,
            read: Grants::parse(read).unwrap(),
            write: Grants::parse(write).unwrap(),
        })]);
        let pins = Pins {
            vault: self.server.data().state.vault(),
            server: vec![self.server_key.verify_key()],
            name,
            addresses: vec![self.server.address.clone()],
            checkpoint: None,
        };
        pins.store(&paths).unwrap();
        paths
    }

    pub(super) fn paths(&self, machine: &str) -> Paths {
        Paths::resolve(Some(self.dirs.path().join(machine)), None).unwrap()
    }

    /// Joins and starts a machine and waits until it has caught up.
    pub(super) async fn machine(&self, machine: &str, read: &[&str], write: &[&str]) -> Machine {
        self.join(machine, read, write);
        let machine = self.start(machine);
        machine.until(|status| status.online).await;
        machine
    }

    /// Starts a machine that has joined.
    pub(super) fn start(&self, machine: &str) -> Machine {
        let paths = self.paths(machine);
        let engine = Engine::open(&paths).unwrap();
        let (addresses, listed) = watch::channel(vec![self.server.address.clone()]);
        let (stop, stopped) = watch::channel(false);
        let own = engine.clone();
        let running = tokio::spawn(async move { own.run(listed, stopped).await });
        Machine { engine, paths, addresses, stop, running }
    }
}

impl Machine {
    /// Waits until the engine's status is as wanted.
    pub(super) async fn until(&self, is: impl Fn(&Status) -> bool) {
        let mut changes = self.engine.changes();
        let wait = async {
            while !is(&self.engine.status()) {
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "still {:#?}", self.engine.status());
    }

    /// Waits until the engine has seen all that is in the server's log now.
    pub(super) async fn until_caught_up(&self, world: &World) {
        let seq = world.server.data().state.seq();
        self.until(|status| status.seq >= seq).await;
    }

    /// Waits until an alarm of that code stands.
    pub(super) async fn until_alarm(&self, code: &str) {
        self.until(|status| status.alarms.iter().any(|alarm| alarm.code == code)).await;
    }

    /// Waits until the content of a path is as wanted.
    pub(super) async fn until_content(&self, at: &str, content: &str) {
        let mut changes = self.engine.changes();
        let wait = async {
            while self.read(at).await.as_deref() != Some(content) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    pub(super) async fn read(&self, at: &str) -> Option<String> {
        let content = self.engine.content(&path(at), None).await.ok()?;
        Some(String::from_utf8(content.expose().to_vec()).unwrap())
    }

    pub(super) async fn put(
        &self,
        at: &str,
        content: &str,
        cas: Option<u64>,
    ) -> Result<Written, WriteError> {
        self.engine.write(who(), vec![put(at, content, cas)]).await
    }

    pub(super) fn move_server(&self, address: &str) {
        self.list(&[address]);
    }

    /// Lists the server's addresses, as the configuration does.
    pub(super) fn list(&self, addresses: &[&str]) {
        self.addresses.send_replace(addresses.iter().map(ToString::to_string).collect());
    }

    /// Stops the engine as SIGTERM would, so that the state can be opened again.
    pub(super) async fn stop(self) -> Paths {
        let Self { engine, paths, stop, running, .. } = self;
        stop.send_replace(true);
        running.await.unwrap();
        drop(engine);
        // A task that was just at work may hold the state for a moment longer.
        let database = rusqlite::Connection::open(paths.database()).unwrap();
        database.busy_timeout(Duration::ZERO).unwrap();
        let is_held = || database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err();
        for _ in 0..1_000 {
            if !is_held() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        paths
    }
}

pub(super) fn put(at: &str, content: &str, cas: Option<u64>) -> Change {
    let content = PutContent::Whole(Plaintext::from(content.as_bytes()));
    Change::Put { path: path(at), kind: shared::blob::Kind::Kv, content, cas }
}
