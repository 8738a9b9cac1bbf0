//! An attack of a hostile member, and how it is tried. While it goes on, the owner changes
//! the secret of two hosts, looks it up, adds the next attacker and removes this one. The attack
//! ends in its named error or in 429; the server holds no more memory than before and some, and
//! neither the audit log nor the server's own has more of the attacker than an attack may make.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use host::files::{self, Access};
use shared::keys::SignKey;
use tests::{Host, World, bins, watch};
use tokio::runtime::Runtime;

use super::acts;
use super::member::Member;

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
    pub const fn new(
        name: &'static str,
        end: &'static str,
        run: fn(&Member) -> Running<'_>,
    ) -> Self {
        Self { name, run, end: Some(end) }
    }

    /// An attack that the server bears without a word, or ends without one.
    pub const fn borne(name: &'static str, run: fn(&Member) -> Running<'_>) -> Self {
        Self { name, run, end: None }
    }
}

/// Private memory that all attacks together may cost the server.
const MEMORY: u64 = 16 << 20;
/// Audit rows that an attack may make.
const ROWS: u64 = 1_000;
/// Answers after which an attack that goes on has its own.
const ANSWERS: usize = 5_000;
/// Of so many attacks one is tried with MATRIX_SEED.
const THIRD: usize = 3;
/// Bytes that an attack may make the server write into its log.
const LOGGED: usize = 64 << 10;

/// Shares that a test uses up in seconds; what happens then is the same with the usual ones.
const SHARES: [(&str, u64); 2] = [("requests_per_second", 20), ("audit_bytes_per_day", 256 << 10)];

/// The vault under attack.
struct Siege {
    world: World,
    owner: Host,
    reader: Host,
    server: SignKey,
    runtime: Runtime,
    /// The server's private memory before any attack.
    memory: u64,
    /// Changes of the secret so far.
    changes: usize,
}

/// Has a server start anew, whose machines have small shares.
fn with_small_shares(world: &mut World) {
    assert!(world.server.take().unwrap().stop());
    let file = world.data().join("server.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (key, share) in SHARES {
        let key = format!("\n{key} = ");
        let (before, after) = text.split_once(&key).unwrap();
        text = format!("{before}{key}{share} # {after}");
    }
    files::replace_trusted(&file, text.as_bytes(), Access::PRIVATE).unwrap();
    world.start();
}

impl Siege {
    fn new() -> Self {
        let mut world = World::new(bins!());
        with_small_shares(&mut world);
        let owner = world.owner("rtx1080");
        let _ = owner.vault(&["kv", "put", acts::SECRET, "K=0"]).ok();
        let reader = world.machine(&owner, "thinkpad", &["secret/jjeco/"]);
        for host in [&owner, &reader] {
            host.target(&[acts::SECRET]);
        }
        let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
        let server = SignKey::from_text(&key).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let mut siege = Self { world, owner, reader, server, runtime, memory: 0, changes: 0 };
        siege.change("no attack");
        siege.memory = siege.memory();
        siege
    }

    /// Adds the attacker number `n`.
    fn attacker(&self, n: usize, enough: &Arc<AtomicBool>) -> Arc<Member> {
        let (name, server) = (format!("vps-{n}"), self.server.verify_key());
        let member = Member::new(&name, self.world.address(), server, Arc::clone(enough));
        let (line, own) = (member.line(), format!("secret/{name}/"));
        let add = ["machine", "add", &line, "--read", &own, "--write", &own, "--yes"];
        let _ = self.owner.vault(&add).ok();
        Arc::new(member)
    }

    /// Changes the secret, and waits until both hosts hold it; then looks it up.
    fn change(&mut self, name: &str) {
        self.changes += 1;
        let value = self.changes.to_string();
        let put = self.owner.vault(&["kv", "put", acts::SECRET, &format!("K={value}")]);
        assert_eq!(put.code, 0, "{name}: {}", put.err);
        for host in [&self.owner, &self.reader] {
            let line = format!("K={value}\n");
            let text = watch::until(&host.env_file(), |text| text.contains(&line));
            assert!(
                text.lines().all(|one| one.starts_with('#') || line.trim_end() == one),
                "{text}"
            );
            let got = host.vault(&["kv", "get", "-field=K", acts::SECRET]).ok();
            assert_eq!(got.trim_end(), value, "{name}");
        }
    }

    /// Returns how many audit rows are a machine's own.
    fn rows(&self, member: &Member) -> u64 {
        let count = "SELECT count(*) FROM audit JOIN audit_kind ON id = kind WHERE machine = ?1";
        let tables = self.world.tables();
        tables
            .query_row(count, [member.name.as_str()], |row| row.get::<_, i64>(0))
            .unwrap()
            .cast_unsigned()
    }

    fn memory(&self) -> u64 {
        let pid = self.world.server.as_ref().unwrap().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.world.log_file()).unwrap()
    }

    /// Has a member try an attack while the others go about their acts; returns the next member,
    /// and what went wrong.
    fn bear(&mut self, n: usize, attack: &Attack, member: &Arc<Member>) -> (Arc<Member>, String) {
        let Attack { name, run, end } = *attack;
        let (logged, attacker) = (self.log().len(), Arc::clone(member));
        let attack = self.runtime.spawn(async move { run(&attacker).await });
        watch::poll(&format!("{name}: the attack begins"), || {
            (attack.is_finished() || !member.said().is_empty()).then_some(())
        });
        // An attack that ends by itself has said what it had to; a flood goes on meanwhile.
        self.change(name);
        let first = self.memory();
        watch::poll(&format!("{name}: the server answers the attacker"), || {
            let said = member.said();
            let enough = said.values().sum::<usize>() > ANSWERS;
            let ends = end.is_none_or(|end| said.contains_key(end));
            (attack.is_finished() || enough || ends).then_some(())
        });
        let next = self.attacker(n + 1, &Arc::default());
        let held = self.memory().max(first);
        let remove = self.owner.vault(&["machine", "remove", member.name.as_str(), "--yes"]);
        assert_eq!(remove.code, 0, "{name}: {}", remove.err);
        member.stop();
        self.runtime.block_on(attack).unwrap();
        self.change(name);
        let (said, before, rows) = (member.said(), self.memory, self.rows(member));
        let log = self.log();
        let logged = log.len() - logged;
        let figures = format!("{name}: {said:?}, {rows} rows, {logged} logged, {before}..{held}");
        println!("{figures}");
        let mut wrong = String::new();
        let mut claim = |holds: bool, what: &str| {
            if !holds {
                wrong += &format!("{what}: {figures}\n");
            }
        };
        claim(end.is_none_or(|end| said.contains_key(end)), "answer");
        claim(held < before + MEMORY, "memory");
        claim(rows < ROWS, "rows");
        claim(logged < LOGGED, "log");
        claim(!log.contains("panicked"), "panic");
        for host in [&self.owner, &self.reader] {
            let status = host.agent_command(&["status"]).ok();
            claim(status.contains("(connected)") && !status.contains("alarm "), &status);
        }
        (next, wrong)
    }
}

/// Returns the attacks to be tried: the one that ATTACK names, or all; with MATRIX_SEED a third.
fn chosen(attacks: &[Attack]) -> Vec<&Attack> {
    if let Ok(name) = std::env::var("ATTACK") {
        return attacks.iter().filter(|attack| attack.name == name).collect();
    }
    let seed = std::env::var("MATRIX_SEED").ok().and_then(|seed| seed.parse::<usize>().ok());
    let Some(seed) = seed else { return attacks.iter().collect() };
    println!("MATRIX_SEED={seed}: every third attack");
    attacks.iter().skip(seed % THIRD).step_by(THIRD).collect()
}

/// Tries attacks one after another, each by a machine of its own.
pub fn check(attacks: &[Attack]) {
    let mut chosen = chosen(attacks).into_iter().enumerate().peekable();
    if chosen.peek().is_none() {
        return;
    }
    let mut siege = Siege::new();
    let mut wrong = String::new();
    let mut member = siege.attacker(0, &Arc::default());
    for (n, attack) in chosen {
        let (next, found) = siege.bear(n, attack, &member);
        wrong += &found;
        member = next;
    }
    assert!(wrong.is_empty(), "{wrong}");
}
