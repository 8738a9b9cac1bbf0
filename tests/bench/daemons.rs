//! Figures of the programs: looking a key up, the local API under load, memory, sizes.

use std::os::unix::net::UnixStream;
use std::process::Command;

use tests::{Host, World};

use crate::table::{Aim, Row};
use crate::{latency, process};

const MIB: u64 = 1 << 20;

/// Looks one key up through the socket, beside `/bin/cat` of a file that holds it.
pub fn kv_get() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/a", "KEY=value"]).ok();
    let file = rtx.dir.join("value");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), b"value").unwrap();
    let mut ours = rtx.command(rtx.bins.vault);
    ours.args(["kv", "get", "-field=KEY", "secret/a"]);
    let mut cat = Command::new("/bin/cat");
    cat.arg(&file);
    let (ours_took, cat_took) = process::paired(&mut ours, &mut cat, 300);
    let mut rows = vec![
        Row::shown("vault kv get -field, p50", format!("{ours_took:.2?}")),
        Row::shown("/bin/cat of a file, p50", format!("{cat_took:.2?}")),
        Row::ratio(
            "  ratio",
            ours_took.as_secs_f64() / cat_took.as_secs_f64(),
            Some(&Aim::AtMost(5.0)),
        ),
    ];
    rows.push(match process::peak(&ours) {
        Some(bytes) => Row::bytes("  peak memory", bytes, 16 * MIB),
        None => Row::shown("  peak memory", "no GNU time".to_owned()),
    });
    rows
}

/// Sizes of the stripped programs.
pub fn sizes() -> Vec<Row> {
    let bins = tests::bins!();
    let size = |path: &str| std::fs::metadata(path).unwrap().len();
    vec![
        Row::bytes("vault, stripped", size(bins.vault), 20_000_000),
        Row::bytes("vault-agent, stripped", size(bins.agent), 20_000_000),
        Row::bytes("vault-server, stripped", size(bins.server), 20_000_000),
    ]
}

/// Writes `count` secrets over one connection, some hundred in flight at a time.
fn fill(host: &Host, count: usize) {
    std::thread::scope(|scope| {
        for part in 0..64 {
            scope.spawn(move || {
                let mut socket = UnixStream::connect(host.state().join("agent.sock")).unwrap();
                for n in (part..count).step_by(64) {
                    let body = format!("{{\"data\":{{\"KEY\":\"value-{n}\"}}}}");
                    latency::request(
                        &mut socket,
                        "POST",
                        &format!("/v1/secret/data/fill/s{n}"),
                        &body,
                    );
                }
            });
        }
    });
}

/// Idle private memory of an agent with 1,000 secrets and a server with 10,000.
pub fn memory() -> Vec<Row> {
    let (agent, _) = idle(1_000);
    let (_, server) = idle(10_000);
    vec![
        Row::bytes("agent, 1,000 secrets, after a restart", agent, 4 * MIB),
        Row::bytes("server, 10,000 secrets, after a restart", server, 12 * MIB),
    ]
}

fn idle(secrets: usize) -> (u64, u64) {
    let mut world = World::new(tests::bins!());
    let mut rtx = world.owner("rtx1080");
    fill(&rtx, secrets);
    rtx.stop();
    world.server.as_mut().unwrap().stop();
    world.start();
    rtx.start();
    let _ = rtx.vault(&["kv", "get", "secret/fill/s1"]).ok();
    (
        process::private(rtx.agent.as_ref().unwrap().pid()),
        process::private(world.server.as_ref().unwrap().pid()),
    )
}
