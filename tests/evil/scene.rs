//! What every lie is told into: a machine with one target that is right, and a log that has gone on
//! without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use shared::audit::leaf;
use shared::hash::Hash;
use shared::keys::{SignKey, Signature};
use shared::signed::Envelope;
use tests::{Host, Kept, World, bins, find_line, watch};

use crate::acts::{SECRET, VALUE};
use crate::server::{Evil, Told};

/// The machine, asleep with `K=one`; the truth has two newer versions.
pub struct Scene {
    /// The world; its server is stopped.
    pub world: World,
    /// The machine, which is the owner's; its agent is stopped.
    pub host: Host,
    /// What the server holds.
    pub truth: Told,
    /// What it held when the machine fell asleep.
    pub past: Told,
    /// Another history of the same two entries.
    pub other: Told,
    /// How often the target's hook has run.
    pub hooks: usize,
    /// What adds a machine.
    pub line: String,
    /// The machine's folders when it fell asleep.
    asleep: PathBuf,
}

/// A secret that is written once the server tells the truth again.
const LATER: &str = "secret/jjeco/later";
/// A machine that may be removed.
pub const SPARE: &str = "spare";

impl Scene {
    /// Makes it.
    pub fn new() -> Self {
        let mut world = World::new(bins!());
        let mut host = world.owner("rtx1080");
        let _ = host.vault(&["kv", "put", SECRET, &format!("K={VALUE}")]).ok();
        world.enrol(&host, &world.host(SPARE), &["secret/spare/"]);
        let fresh = world.host("fresh");
        let line = fresh.agent_command(&["init", "--name", &fresh.name]).ok();
        let line = find_line(&line, "VLTM1-");
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.contains(&format!("K={VALUE}\n")));
        // A hook that is stopped half-way would run again.
        watch::poll("all is well before the lie", || {
            let status = host.agent_command(&["status"]);
            (status.code == 0 && host.hook_runs() == 1 && !status.out.contains("pending"))
                .then_some(())
        });
        host.stop();
        let hooks = host.hook_runs();
        assert!(world.server.take().unwrap().stop());
        let asleep = world.dir().join("asleep");
        copy(&host.dir, &asleep);
        let kept = world.keep("past");
        let past = harvest(&world);
        // The same machine at another time: what it writes is true, and the machine has not seen
        // it.
        let truth = lived(&mut world, &host, "twin", &kept, ["K=two", "K=three"]);
        let other = lived(&mut world, &host, "other", &kept, ["K=other", "K=evil"]);
        assert_eq!(truth.last(), past.last() + 2, "two entries more than the machine has seen");
        Self { world, host, truth, past, other, hooks, line, asleep }
    }

    /// Puts the machine back to when it fell asleep.
    pub fn reset(&mut self) {
        self.host.stop();
        for folder in ["state", "home"] {
            let folder = self.host.dir.join(folder);
            std::fs::remove_dir_all(&folder).unwrap();
            copy(&self.asleep.join(folder.file_name().unwrap()), &folder);
        }
    }

    /// Returns the target's bytes.
    pub fn target(&self) -> Vec<u8> {
        std::fs::read(self.host.env_file()).unwrap()
    }

    /// Waits until `vault-agent status` and `vault status` show alarm `code`, and fail for it.
    pub fn await_alarm(&self, name: &str, code: &str) {
        let shown = format!("alarm    {code}: ");
        let log = self.host.log_file();
        watch::poll(&format!("{name}: alarm {code} (log: {})", log.display()), || {
            let status = self.host.agent_command(&["status"]);
            (status.out.contains(&shown) && status.code != 0).then_some(())
        });
        let status = self.host.vault(&["status"]);
        let text = [status.out, status.err].concat();
        assert!(text.contains(code) && status.code != 0, "{name}: `vault status` says\n{text}");
    }

    /// Returns the truth that a server would tell after what it was asked for so far.
    pub fn truth_after(&self, mut told: Told) -> Told {
        if ![&self.past, &self.truth].iter().any(|known| told.log.starts_with(&known.log)) {
            told.log.clone_from(&self.past.log);
        }
        told.blobs.extend(self.truth.blobs.clone());
        let Told { log, blobs, .. } = told;
        Told { log, blobs, ..self.truth.clone() }
    }

    /// Waits until all is well again, now that the server tells the truth: alarms are over, writes
    /// are done, and the target is what the log says. An alarm that is `lasting` ends only when
    /// somebody does what its hint says.
    pub fn await_truth(&self, name: &str, truth: Told, lasting: Option<&str>) {
        let newest = if truth.log.starts_with(&self.truth.log) { "K=three\n" } else { "K=one\n" };
        let head = self.past.head(self.past.last()).place().to_string();
        let _server = Evil::start(self.world.address(), truth);
        let put = || self.host.vault(&["kv", "put", LATER, "K=true"]).code == 0;
        if lasting == Some("E_FORK") {
            assert!(!put(), "{name}: a fork stays until somebody looks");
            let _ = self.host.agent_command(&["accept", &head]).ok();
        }
        watch::poll(&format!("{name}: the truth is taken"), || put().then_some(()));
        if let Some(code) = lasting.filter(|code| *code != "E_FORK") {
            self.await_alarm(name, code);
            let _ = self.host.vault(&["heal", "--clear", code]).ok();
        }
        watch::poll(&format!("{name}: the alarm is over"), || {
            self.alarms().is_empty().then_some(())
        });
        watch::until(&self.host.env_file(), |text| text.contains(newest));
    }

    /// Returns the alarms that stand.
    pub fn alarms(&self) -> Vec<String> {
        let status = self.host.agent_command(&["status"]);
        let alarms = status.out.lines().filter(|line| line.starts_with("alarm "));
        alarms.map(str::to_owned).collect()
    }
}

/// Lets a copy of the machine live through two puts at a server that begins with `kept`, and
/// returns what the server holds then.
fn lived(world: &mut World, host: &Host, name: &str, kept: &Kept, values: [&str; 2]) -> Told {
    world.put_back(kept);
    world.start();
    let twin = world.host(name);
    std::fs::remove_dir_all(&twin.dir).unwrap();
    copy(&host.dir, &twin.dir);
    for value in values {
        let _ = twin.vault(&["kv", "put", SECRET, value]).ok();
    }
    assert!(world.server.take().unwrap().stop());
    harvest(world)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Reads everything that a stopped server holds.
pub fn harvest(world: &World) -> Told {
    let conn = world.tables();
    let mut query = conn.prepare("SELECT by, body, sig FROM log ORDER BY seq").unwrap();
    let log = query.query_map([], |row| {
        let by: String = row.get(0)?;
        let sig = Signature::from_bytes(row.get(2)?);
        Ok(Envelope { by: by.parse().unwrap(), body: row.get(1)?, sig })
    });
    let log: Vec<Envelope> = log.unwrap().map(Result::unwrap).collect();
    let bytes = |sql: &str| -> Vec<Vec<u8>> {
        let mut query = conn.prepare(sql).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
    let mut told = Told::honest(SignKey::from_text(&key).unwrap(), log);
    let blobs = bytes("SELECT bytes FROM blob").into_iter();
    told.blobs = blobs.map(|bytes| (Hash::of(&[&bytes]), bytes)).collect();
    told.leaves = bytes("SELECT record FROM audit ORDER BY n").iter().map(|r| leaf(r)).collect();
    told
}
