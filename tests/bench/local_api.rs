//! Figures of the local API under load: beside a bare axum handler, and beside HashiCorp's Vault
//! where its program is found.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::{Host, World};

use crate::load::{self, Load};
use crate::process;
use crate::table::{Aim, Row};

const CONNECTIONS: usize = 64;
/// Short rounds in turn: what else the machine does meets both alike, and the best of many is what
/// it can do.
const ROUNDS: usize = 12;
const TIME: Duration = Duration::from_millis(750);
/// Writes are not compared with anything: two long rounds.
const WRITING: Duration = Duration::from_secs(3);

/// Reads of a cached secret and durable writes, 64 kept-alive connections.
pub fn figures() -> Vec<Row> {
    let world = World::new(tests::bins!());
    let mut rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/a", "KEY=value"]).ok();
    let address = listen(&mut rtx);
    let bare = crate::bare::spawn();
    let theirs = Theirs::start();
    let (mut ours, mut floor, mut vault) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(reads(&address, "/v1/secret/data/a", ""));
        floor.push(reads(&bare.address, "/", ""));
        if let Some(theirs) = &theirs {
            vault.push(reads(&theirs.address, "/v1/secret/data/a", TOKEN));
        }
    }
    let (write, p50) = best(&[writes(&address), writes(&address)]);
    let ((read, read_p50), (floor, _)) = (best(&ours), best(&floor));
    let mut rows = vec![
        Row::shown("cached read, 64 connections", format!("{read:.0} /s")),
        Row::shown("  p50", format!("{read_p50:.2?}")),
        Row::shown("bare axum handler, 64 connections", format!("{floor:.0} /s")),
        Row::ratio("  ratio", read / floor, Some(&Aim::AtLeast(0.3))),
    ];
    if let Some(theirs) = &theirs {
        let (vault, p50) = best(&vault);
        rows.push(Row::shown(
            "HashiCorp's Vault, in memory, 64 connections",
            format!("{vault:.0} /s"),
        ));
        rows.push(Row::shown("  p50", format!("{p50:.2?}")));
        rows.push(Row::ratio("  ratio", read / vault, Some(&Aim::AtLeast(4.0))));
        rows.push(theirs.look_up(&rtx));
    }
    rows.push(Row::shown("durable write, 64 connections", format!("{write:.0} /s")));
    rows.push(Row::shown("  p50", format!("{p50:.2?}")));
    rows.push(Row::ratio("  of 1,500 a second", write / 1_500.0, Some(&Aim::AtLeast(1.0))));
    rows
}

fn reads(address: &str, path: &str, token: &str) -> Load {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nX-Vault-Token: {token}\r\n\r\n");
    load::run(address, |_| request.clone(), CONNECTIONS, TIME)
}

fn writes(address: &str) -> Load {
    let body = r#"{"data":{"KEY":"value"}}"#;
    let request = |n: usize| {
        let length = body.len();
        format!(
            "POST /v1/secret/data/load/c{n} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    load::run(address, request, CONNECTIONS, WRITING)
}

/// The best rate, and the least median time.
fn best(loads: &[Load]) -> (f64, Duration) {
    let rate = loads.iter().map(|load| load.rate).fold(0.0, f64::max);
    (rate, loads.iter().map(|load| load.p50).min().unwrap())
}

/// Restarts a host's agent with a TCP listener that trusts this machine, and returns its address.
fn listen(host: &mut Host) -> String {
    host.stop();
    let address = free_address();
    let config = host.state().join("agent.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    let _ = write!(text, "\n[api]\nlisten = \"{address}\"\nauth = \"loopback\"\n");
    std::io::Write::write_all(&mut std::fs::File::create(&config).unwrap(), text.as_bytes())
        .unwrap();
    host.start();
    address
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

const TOKEN: &str = "bench";

/// HashiCorp's Vault in development mode: its storage is memory, which is the fastest it has.
struct Theirs {
    program: PathBuf,
    address: String,
    server: Child,
}

impl Theirs {
    /// Starts the program that `HASHICORP_VAULT` names, or the one that the interop suite has
    /// built; nothing without one.
    fn start() -> Option<Self> {
        let built =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/interop/hashicorp/vault");
        let program = std::env::var_os("HASHICORP_VAULT").map_or(built, PathBuf::from);
        if !program.is_file() {
            return None;
        }
        let address = free_address();
        let server = Command::new(&program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={TOKEN}"))
            .arg(format!("-dev-listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let theirs = Self { program, address, server };
        while !theirs
            .command()
            .args(["kv", "put", "secret/a", "KEY=value"])
            .output()
            .unwrap()
            .status
            .success()
        {
            std::thread::yield_now();
        }
        Some(theirs)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("VAULT_ADDR", format!("http://{}", self.address)).env("VAULT_TOKEN", TOKEN);
        command
    }

    /// The same look-up by both programs, in turn.
    fn look_up(&self, host: &Host) -> Row {
        let look_up = ["kv", "get", "-field=KEY", "secret/a"];
        let (mut ours, mut theirs) = (host.command(host.bins.vault), self.command());
        let (ours, theirs) = process::paired(ours.args(look_up), theirs.args(look_up), 50);
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        Row::ratio("vault kv get, of HashiCorp's time", ratio, None)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
