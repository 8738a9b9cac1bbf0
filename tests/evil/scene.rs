//! What every lie is told into: a machine with one target that is right, and a log that has gone on
//! without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use shared::hash::Hash;
use shared::keys::{SignKey, Signature};
use shared::signed::{Envelope, Purpose};
use tests::{Host, World, bins, watch};

use crate::server::Told;

/// The secret of the target.
pub const SECRET: &str = "secret/jjeco/a";

/// The machine, asleep with `K=one`; the truth has two newer versions.
pub struct Scene {
    /// The world; its server is stopped.
    pub world: World,
    /// The machine; its agent is stopped.
    pub host: Host,
    /// Where the server listens.
    pub address: String,
    /// The server's key.
    pub key: SignKey,
    /// What the server holds.
    pub truth: Told,
    /// The last entry the machine has seen.
    pub seen: usize,
    /// The server's data when the machine fell asleep.
    past: PathBuf,
}

impl Scene {
    /// Makes it.
    pub fn new() -> Self {
        let mut world = World::new(bins!());
        let mut host = world.owner("rtx1080");
        let _ = host.vault(&["kv", "put", SECRET, "K=one"]).ok();
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.contains("K=one\n"));
        let ready = world.server.as_ref().unwrap().ready.clone();
        let address = ready.lines().find_map(|line| line.strip_prefix("X_LISTEN="));
        let address = address.unwrap().to_owned();
        host.stop();
        assert!(world.server.take().unwrap().stop());
        let past = world.dir().join("past");
        copy(&world.data(), &past);
        world.start();
        let seen = entries(&host.state().join("agent.db")).len() - 1;
        // The same machine at another time: what it writes is true, and the machine has not seen
        // it.
        let twin = twin(&world, &host, "twin");
        let _ = twin.vault(&["kv", "put", SECRET, "K=two"]).ok();
        let _ = twin.vault(&["kv", "put", SECRET, "K=three"]).ok();
        assert!(world.server.take().unwrap().stop());
        let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
        let key = SignKey::from_text(&key).unwrap();
        let truth = harvest(&world.data());
        assert!(truth.log.len() >= seen + 3, "two entries more than the machine has seen");
        Self { world, host, address, key, truth, seen, past }
    }

    /// Lets the machine's twin live through another two entries, and returns what the server holds
    /// then.
    pub fn other_history(&mut self) -> Told {
        std::fs::remove_dir_all(self.world.data()).unwrap();
        copy(&self.past, &self.world.data());
        self.world.start();
        let twin = twin(&self.world, &self.host, "other");
        let _ = twin.vault(&["kv", "put", SECRET, "K=other"]).ok();
        let _ = twin.vault(&["kv", "put", SECRET, "K=evil"]).ok();
        assert!(self.world.server.take().unwrap().stop());
        harvest(&self.world.data())
    }

    /// Waits until `vault-agent status` and `vault status` show alarm `code`, and fail for it.
    pub fn await_alarm(&self, code: &str) {
        let shown = format!("alarm    {code}: ");
        watch::poll(&format!("alarm {code} (log: {})", self.host.log_file().display()), || {
            let status = self.host.agent_command(&["status"]);
            (status.out.contains(&shown) && status.code != 0).then_some(())
        });
        watch::poll("`vault status` shows it, too", || {
            let status = self.host.vault(&["status"]);
            let text = [status.out, status.err].concat();
            (text.contains(code) && status.code != 0).then_some(())
        });
    }
}

/// Copies a stopped machine.
fn twin(world: &World, host: &Host, name: &str) -> Host {
    let twin = world.host(name);
    copy(&host.state(), &twin.state());
    twin
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Reads everything that a stopped server holds.
fn harvest(data: &Path) -> Told {
    let file = data.join("vault.db");
    let log = entries(&file);
    let conn = Connection::open(file).unwrap();
    let mut query = conn.prepare("SELECT bytes FROM blob").unwrap();
    let blobs = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap);
    let blobs = blobs.map(|bytes| (Hash::of(&[&bytes]), bytes)).collect();
    Told { vault: log[0].hash(Purpose::Genesis), log, blobs }
}

fn entries(database: &Path) -> Vec<Envelope> {
    let conn = Connection::open(database).unwrap();
    let mut query = conn.prepare("SELECT by, body, sig FROM log ORDER BY seq").unwrap();
    let rows = query.query_map([], |row| {
        let by: String = row.get(0)?;
        let sig = Signature::from_bytes(row.get(2)?);
        Ok(Envelope { by: by.parse().unwrap(), body: row.get(1)?, sig })
    });
    rows.unwrap().map(Result::unwrap).collect()
}
