//! How fast `vault scan` reads, with the values of 1,000 secrets to look for: a whole process, less
//! the same process over an empty folder.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::{Host, World};

use crate::latency;
use crate::table::Row;

const SECRETS: u64 = 1_000;
const FILES: u64 = 8;
const FILE: usize = 64_000_000;
const LEAST: f64 = 200.0;
const MOST_MEMORY: u64 = 64 << 20;

/// Pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn value(&mut self) -> String {
        const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+=@";
        let len = 24 + self.next() % 40;
        let mut sign = || char::from(SIGNS[usize::try_from(self.next() % 66).unwrap()]);
        (0..len).map(|_| sign()).collect()
    }
}

/// What a run took.
struct Took {
    wall: Duration,
    /// Of the processor, where GNU time is there to tell.
    cpu: Option<Duration>,
    memory: Option<u64>,
}

/// Scans 512 MB of source text, then of random bytes.
pub fn figures() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let host = world.owner("rtx1080");
    let mut random = Random(0x5EED);
    fill(&host, &mut random);
    let folder = |name: &str| {
        let folder = host.dir.join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let (empty, text, noise) = (folder("empty"), folder("text"), folder("noise"));
    let sources: Vec<u8> =
        tests::files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../vault-agent/src"))
            .iter()
            .flat_map(|file| std::fs::read(file).unwrap())
            .collect();
    let bytes: Vec<u8> = (0..1 << 17).flat_map(|_| random.next().to_le_bytes()).collect();
    for (folder, content) in [(&text, &sources), (&noise, &bytes)] {
        for n in 0..FILES {
            let mut file = std::fs::File::create(folder.join(n.to_string())).unwrap();
            let mut left = FILE;
            while left > 0 {
                let piece = &content[..content.len().min(left)];
                file.write_all(piece).unwrap();
                left -= piece.len();
            }
        }
    }
    let nothing = median(&host, &empty);
    let mut rows = vec![Row::shown(
        "reading 3,000 values, and nothing to search",
        format!("{:.1?}", nothing.wall),
    )];
    for (what, folder) in [("source text", &text), ("random bytes", &noise)] {
        let took = median(&host, folder);
        let bytes = FILES * FILE as u64;
        let speed = |took: Duration, nothing: Duration| {
            #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
            let megabytes = bytes as f64 / 1e6;
            megabytes / took.saturating_sub(nothing).as_secs_f64()
        };
        rows.push(Row::shown(
            &format!("the same, and 512 MB of {what}"),
            format!("{:.1?}", took.wall),
        ));
        match took.cpu.zip(nothing.cpu) {
            Some((took, nothing)) => rows.push(Row::speed(
                &format!("{what}, of one core's time"),
                speed(took, nothing),
                LEAST,
            )),
            None => rows.push(Row::shown("  of one core's time", "no GNU time".to_owned())),
        }
        rows.extend(took.memory.map(|bytes| Row::bytes("  peak memory", bytes, MOST_MEMORY)));
    }
    rows
}

fn fill(host: &Host, random: &mut Random) {
    let mut socket = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    for n in 0..SECRETS {
        let [a, b, c] = [random.value(), random.value(), random.value()];
        let body = format!(r#"{{"data":{{"A":"{a}","B":"{b}","C":"{c}"}}}}"#);
        latency::request(&mut socket, "POST", &format!("/v1/secret/data/scan/s{n}"), &body);
    }
}

/// Returns the run with the middle wall time of five.
fn median(host: &Host, folder: &Path) -> Took {
    let mut runs: Vec<Took> = (0..5).map(|_| scan(host, folder)).collect();
    runs.sort_unstable_by_key(|took| took.wall);
    runs.swap_remove(2)
}

fn scan(host: &Host, folder: &Path) -> Took {
    const TIME: &str = "/usr/bin/time";
    let mut command = if Path::new(TIME).exists() {
        let mut timed = host.command(TIME);
        timed.args(["-f", "%U %S %M", host.bins.vault]);
        timed
    } else {
        host.command(host.bins.vault)
    };
    command.arg("scan").arg(folder).stdout(Stdio::null());
    let begun = Instant::now();
    let output = command.output().unwrap();
    let wall = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("for 3000 values of 1000 secrets: nothing found"), "{said}");
    let figures: Vec<f64> =
        said.lines().last().unwrap().split(' ').map_while(|word| word.parse().ok()).collect();
    match figures[..] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole kilobytes"
        )]
        [user, system, kilobytes] => Took {
            wall,
            cpu: Some(Duration::from_secs_f64(user + system)),
            memory: Some((kilobytes as u64) << 10),
        },
        _ => Took { wall, cpu: None, memory: None },
    }
}
