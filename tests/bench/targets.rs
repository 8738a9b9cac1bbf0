//! A thousand targets on one machine: how long one change takes to all of them, and what the agent
//! does when nothing happens.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::{World, watch};

use crate::table::{Aim, Row};
use crate::{latency, process};

const TARGETS: usize = 1_000;

const ROUNDS: usize = 5;

/// How long the idle agent is watched.
const IDLE: Duration = Duration::from_secs(60);

pub fn figures() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/many", "VALUE=start"]).ok();
    let files: Vec<PathBuf> =
        (0..TARGETS).map(|n| host.dir.join(format!("home/app-{n:03}/.env"))).collect();
    let mut config = std::fs::File::create(host.state().join("agent.toml")).unwrap();
    for file in &files {
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let path = file.display();
        write!(config, "[[target]]\npath = \"{path}\"\nsecrets = [\"secret/many\"]\n").unwrap();
    }
    drop(config);
    all_hold(&files, "VALUE=start\n");
    let mut socket = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let body = format!("{{\"data\":{{\"VALUE\":\"round-{round}\"}}}}");
            let begun = SystemTime::now();
            latency::request(&mut socket, "POST", "/v1/secret/data/many", &body);
            all_hold(&files, &format!("VALUE=round-{round}\n"));
            last_renamed(&files).duration_since(begun).unwrap_or_default()
        })
        .collect();
    times.sort_unstable();
    let pid = host.agent.as_ref().unwrap().pid();
    // What the last change has left to do, reports and records, is no idling.
    let mut before = process::cpu(pid);
    watch::poll("the agent is calm", || {
        let now = process::cpu_after(pid, Duration::from_secs(2));
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    let used = process::cpu_after(pid, IDLE) - before;
    let share = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    vec![
        Row::at_most("put → 1,000 files, median", times[ROUNDS / 2], Duration::from_secs(2)),
        Row::at_most("put → 1,000 files, worst", times[ROUNDS - 1], Duration::from_secs(2)),
        Row::percent("idle agent with 1,000 targets, of one core", share, &Aim::AtMost(0.1)),
    ]
}

/// Waits until every file ends with `text`.
pub fn all_hold(files: &[PathBuf], text: &str) {
    let mut others: Vec<&PathBuf> = files.iter().collect();
    watch::poll(text, || {
        others.retain(|file| !std::fs::read_to_string(file).is_ok_and(|held| held.ends_with(text)));
        others.is_empty().then_some(())
    });
}

/// Returns when the last of the files got its name: a rename changes the inode.
pub fn last_renamed(files: &[PathBuf]) -> SystemTime {
    let changed = files.iter().map(|file| {
        let found = file.metadata().unwrap();
        let seconds = Duration::from_secs(found.ctime().unsigned_abs());
        seconds + Duration::from_nanos(found.ctime_nsec().unsigned_abs())
    });
    UNIX_EPOCH + changed.max().unwrap_or_default()
}
