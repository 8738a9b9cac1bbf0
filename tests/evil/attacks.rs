//! The attacks of a hostile member, by what they are about. While each goes on, the owner changes
//! the secret of two hosts, looks it up, adds the next attacker and removes this one. The attack
//! ends in its named error or in 429; the server holds no more memory than before and some, and the
//! audit log has no more rows of the attacker than the attack may make.

mod blobs;
mod entries;
mod floods;
mod reports;
mod stalled;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::{Connection, OpenFlags};
use shared::keys::SignKey;
use tests::{Host, World, bins, watch};
use tokio::runtime::Runtime;

use super::{acts, member, server};
use member::Member;

/// What goes on until it has done all it wants, or the others are done.
pub type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// An attack, and what comes of it.
pub struct Attack {
    /// Its name in the book.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&Member) -> Running<'_>,
    /// What the server says at least once: a code, or a status; nothing if it is merely borne.
    end: Option<&'static str>,
}

impl Attack {
    const fn new(name: &'static str, end: &'static str, run: fn(&Member) -> Running<'_>) -> Self {
        Self { name, run, end: Some(end) }
    }

    /// An attack that the server bears without a word, or ends without one.
    const fn borne(name: &'static str, run: fn(&Member) -> Running<'_>) -> Self {
        Self { name, run, end: None }
    }
}

/// Every attack.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    let all = [reports::ATTACKS, entries::ATTACKS, blobs::ATTACKS, floods::ATTACKS];
    all.into_iter().flatten()
}

/// Private memory that an attack may cost the server.
const MEMORY: u64 = 16 << 20;
/// Audit rows that an attack may make.
const ROWS: u64 = 1_000;

/// The vault under attack.
struct Siege {
    world: World,
    owner: Host,
    reader: Host,
    server: SignKey,
    runtime: Runtime,
    /// Changes of the secret so far.
    changes: usize,
}

impl Siege {
    fn new() -> Self {
        let world = World::new(bins!());
        let owner = world.owner("rtx1080");
        let _ = owner.vault(&["kv", "put", acts::SECRET, "K=0"]).ok();
        let reader = world.machine(&owner, "thinkpad", &["secret/jjeco/"]);
        for host in [&owner, &reader] {
            host.target(&[acts::SECRET]);
            watch::until(&host.env_file(), |text| text.contains("K=0\n"));
        }
        let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
        let server = SignKey::from_text(&key).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { world, owner, reader, server, runtime: runtime.unwrap(), changes: 0 }
    }

    /// Makes the attacker number `n`; nobody has added it yet.
    fn attacker(&self, n: usize, enough: &Arc<AtomicBool>) -> Member {
        let (name, server) = (format!("vps-{n}"), self.server.verify_key());
        Member::new(&name, self.world.address(), server, Arc::clone(enough))
    }

    /// Adds an attacker.
    fn add(&self, member: &Member) {
        let line = member.line();
        let own = format!("secret/{}/", member.name);
        let add = ["machine", "add", &line, "--read", &own, "--write", &own, "--yes"];
        let _ = self.owner.vault(&add).ok();
    }

    /// Changes the secret, and waits until both hosts hold it; then looks it up.
    fn change(&mut self, name: &str) {
        self.changes += 1;
        let value = format!("K={}", self.changes);
        let put = self.owner.vault(&["kv", "put", acts::SECRET, &value]);
        assert_eq!(put.code, 0, "{name}: {}", put.err);
        for host in [&self.owner, &self.reader] {
            watch::until(&host.env_file(), |text| text.contains(&format!("{value}\n")));
            let got = host.vault(&["kv", "get", "-field=K", acts::SECRET]).ok();
            assert_eq!(got.trim_end(), self.changes.to_string(), "{name}");
        }
    }

    /// Returns how many audit rows are a machine's own.
    fn rows(&self, member: &Member) -> u64 {
        let file = self.world.data().join("vault.db");
        let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let count = "SELECT count(*) FROM audit WHERE machine = ?1";
        conn.query_row(count, [member.name.as_str()], |row| row.get::<_, i64>(0))
            .unwrap()
            .cast_unsigned()
    }

    fn memory(&self) -> u64 {
        let pid = self.world.server.as_ref().unwrap().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

/// Tries attacks one after another, each by a machine of its own.
fn check(attacks: &[Attack]) {
    let mut siege = Siege::new();
    let only = std::env::var("ATTACK").ok();
    let chosen = attacks.iter().filter(|one| only.as_deref().is_none_or(|only| one.name == only));
    for (n, Attack { name, run, end }) in chosen.enumerate() {
        let enough = Arc::new(AtomicBool::new(false));
        let member = Arc::new(siege.attacker(n, &enough));
        siege.add(&member);
        siege.change(name);
        let before = siege.memory();
        let attacker = Arc::clone(&member);
        let run = *run;
        let attack = siege.runtime.spawn(async move { run(&attacker).await });
        // An attack that ends by itself has said what it had to; a flood goes on meanwhile.
        siege.change(name);
        let held = siege.memory();
        let bystander = siege.attacker(1000 + n, &enough);
        siege.add(&bystander);
        watch::poll(&format!("{name}: the server answers the attacker"), || {
            let said = member.said();
            (attack.is_finished() || end.is_none_or(|end| said.contains_key(end))).then_some(())
        });
        for gone in [&*member, &bystander] {
            let remove = siege.owner.vault(&["machine", "remove", gone.name.as_str(), "--yes"]);
            assert_eq!(remove.code, 0, "{name}: {}", remove.err);
        }
        enough.store(true, Relaxed);
        siege.runtime.block_on(attack).unwrap();
        siege.change(name);
        let said = member.said();
        if let Some(end) = end {
            assert!(said.contains_key(*end), "{name}: {end} expected, not {said:?}");
        }
        assert!(held < before + MEMORY, "{name}: {before} bytes before, then {held}");
        let rows = siege.rows(&member);
        assert!(rows < ROWS, "{name}: {rows} rows for {said:?}");
        let status = siege.reader.agent_command(&["status"]);
        assert!(!status.out.contains("alarm "), "{name}:\n{}", status.out);
    }
}

#[test]
fn names_are_distinct() {
    let mut names = std::collections::HashSet::new();
    assert!(all().all(|attack| names.insert(attack.name)));
}
