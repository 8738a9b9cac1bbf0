//! What a hostile member costs the others: changes and reads of the owner, alone and while a
//! machine without any right floods the server; the server's memory, and its disk.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shared::keys::SignKey;
use tests::{Host, World, files_below};

use crate::evil::attack::Attack;
use crate::evil::attacks;
use crate::evil::member::Member;
use crate::latency::{quantile, request};
use crate::process;
use crate::table::{Aim, Row};

const ROUNDS: usize = 100;

/// The floods, by their names in the book.
const FLOODS: [&str; 5] = [
    "a thousand streams that nobody reads",
    "five hundred connections",
    "bodies that stop half-way",
    "audit leaves without end",
    "the whole log again and again",
];

pub fn figures() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let owner = world.owner("rtx1080");
    let key = std::fs::read_to_string(world.data().join("server.key")).unwrap();
    let server = SignKey::from_text(&key).unwrap().verify_key();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let pid = world.server.as_ref().unwrap().pid();
    let _ = times(&owner);
    let (put, get) = times(&owner);
    let mut rows = vec![
        Row::shown("put, alone, p50", format!("{put:.1?}")),
        Row::shown("read past the cache, alone, p50", format!("{get:.1?}")),
    ];
    for (n, name) in FLOODS.into_iter().enumerate() {
        let Attack { run, .. } = attacks::all().find(|attack| attack.name == name).unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let name_of = format!("vps-{n}");
        let member = Member::new(&name_of, world.address(), server.clone(), Arc::clone(&enough));
        let own = format!("secret/{name_of}/");
        let _ = owner.vault(&["machine", "add", &member.line(), "--read", &own, "--yes"]).ok();
        let (before, disk) = (process::private(pid), disk(&world));
        let run = *run;
        let attack = runtime.spawn(async move { run(&member).await });
        let _ = process::cpu_after(pid, Duration::from_secs(3));
        let (flooded_put, flooded_get) = times(&owner);
        let memory = process::private(pid).saturating_sub(before);
        enough.store(true, Relaxed);
        runtime.block_on(attack).unwrap();
        let ratio =
            |flooded: Duration, alone: Duration| flooded.as_secs_f64() / alone.as_secs_f64();
        let most = Some(&Aim::AtMost(3.0));
        rows.push(Row::ratio(&format!("{name}: put"), ratio(flooded_put, put), most));
        rows.push(Row::ratio("  read", ratio(flooded_get, get), most));
        rows.push(Row::bytes("  server's private memory", memory, 16 << 20));
        let grown = self::disk(&world).saturating_sub(disk);
        rows.push(Row::bytes("  server's disk", grown, 64 << 20));
        let _ = owner.vault(&["machine", "remove", &name_of, "--yes"]).ok();
    }
    rows
}

/// Returns the medians of a put, and of a read that the server answers: an older version is not in
/// the agent's cache.
fn times(owner: &Host) -> (Duration, Duration) {
    let mut socket = UnixStream::connect(owner.state().join("agent.sock")).unwrap();
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    let body = r#"{"data":{"VALUE":"x"}}"#;
    request(&mut socket, "POST", "/v1/secret/data/siege", body);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let said = request(&mut socket, "POST", "/v1/secret/data/siege", body);
        puts.push(begun.elapsed());
        let version = said.rsplit_once("\"version\":").unwrap().1;
        let version: u64 =
            version.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        let path = format!("/v1/secret/data/siege?version={}", version - 1);
        let begun = Instant::now();
        request(&mut socket, "GET", &path, "");
        gets.push(begun.elapsed());
    }
    (quantile(&puts, 50), quantile(&gets, 50))
}

fn disk(world: &World) -> u64 {
    files_below(&world.data()).iter().filter_map(|file| file.metadata().ok()).map(|f| f.len()).sum()
}
