//! From a put on one host to the hook on another. The hook copies the file it is about; when the
//! copy is seen the hook has not only started but ended, so the figures are upper bounds.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tests::{World, api, watch};

use crate::latency::{Seen, quantile};
use crate::table::Row;

const ROUNDS: usize = 100;

/// Hooks that follow each other faster are held back by design: see design/delivery.
const APART: Duration = Duration::from_millis(1_050);

/// Measures single changes, a second apart, while the owner's host follows too.
pub fn change_to_hook() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/bench", "VALUE=start"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/"]);
    let started = vps.dir.join("home/started");
    let table = format!(
        "[[target]]\npath = \"{}\"\nsecrets = [\"secret/bench\"]\non_change = [\"cp\", \".env\", \"started\"]\n",
        vps.env_file().display()
    );
    let mut config = std::fs::File::create(vps.state().join("agent.toml")).unwrap();
    config.write_all(table.as_bytes()).unwrap();
    // A file that is still open is not read yet.
    drop(config);
    watch::until(&started, |text| text.contains("VALUE=start"));
    let mut socket = UnixStream::connect(rtx.state().join("agent.sock")).unwrap();
    let seen = Seen::new(&started);
    let (_sender, never) = mpsc::channel::<()>();
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let _ = never.recv_timeout(APART);
            let value = format!("round-{round}-end");
            let body = format!("{{\"data\":{{\"VALUE\":\"{value}\"}}}}");
            let begun = Instant::now();
            api::request(&mut socket, "POST", "/v1/secret/data/bench", &body);
            seen.wait(&value) - begun
        })
        .collect();
    let aim = Duration::from_millis(100);
    vec![
        Row::at_most("put → hook on another host, p50", quantile(&times, 50), aim),
        Row::at_most("put → hook on another host, p99", quantile(&times, 99), aim),
    ]
}
