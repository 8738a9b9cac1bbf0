//! `vault-server check` over a data directory in which one thing is damaged, missing or of another
//! server: it names that first, and the way out. The same is said of a backup.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::StatusCode;
use rusqlite::{Connection, params};
use shared::keys::SignKey;
use shared::log::Op;
use shared::report::Seen;
use shared::wire::v1::audit::LeavesPage;
use shared::wire::v1::{AUDIT_LEAVES, REPORT};

use crate::bounds::archived;
use crate::world::{Running, World};

/// What `vault-server VERB ARGS…` says, and whether it succeeds.
fn run(verb: &str, args: &[&Path]) -> (bool, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_vault-server"));
    let out = program.arg(verb).args(args).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8(text).unwrap())
}

fn check(data: &Path) -> (bool, String) {
    run("check", &[Path::new("--data"), data])
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, PermissionsExt::from_mode(0o700)).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

fn database(data: &Path) -> PathBuf {
    data.join("vault.db")
}

fn sql(data: &Path, change: &str) {
    let conn = Connection::open(database(data)).unwrap();
    conn.execute_batch(&format!("PRAGMA foreign_keys = OFF; {change}")).unwrap();
}

/// Flips a bit of the database file where these bytes stand.
fn rot(data: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new().read(true).write(true).open(database(data)).unwrap();
    let all = fs::read(database(data)).unwrap();
    let at = all.windows(bytes.len()).position(|found| found == bytes).unwrap();
    file.write_at(&[bytes[0] ^ 1], at as u64).unwrap();
}

fn one<T: rusqlite::types::FromSql>(data: &Path, query: &str) -> T {
    Connection::open(database(data)).unwrap().query_row(query, [], |row| row.get(0)).unwrap()
}

fn overwrite(file: &Path, content: &[u8]) {
    host::files::replace_trusted(file, content, host::files::Access::PRIVATE).unwrap();
}

/// Does something to every file of sealed audit records.
fn sealed(data: &Path, damage: fn(&Path)) {
    let files: Vec<_> = fs::read_dir(data.join("audit")).unwrap().flatten().collect();
    assert!(!files.is_empty());
    for file in files {
        damage(&file.path());
    }
}

/// A server that has stopped: some versions, sealed audit records, and what the first machine has
/// seen of the others. Its last entry brings no blob.
async fn stopped() -> World {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    for (path, content) in [("secret/a", "one"), ("secret/a", "two"), ("secret/b", "one")] {
        world.write(&client, path, content).await;
    }
    for n in 1..=6 {
        world.write(&client, &format!("secret/{n}"), "one").await;
    }
    world.add(&client, "vps", &["secret/b"]).await;
    drop(client);
    world.server.stop().await;
    world.config.audit.database_bytes = 2_000;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    archived(&client, |_| true).await;
    let end = client.fetch::<LeavesPage>(AUDIT_LEAVES).await.head;
    let seen = world.seen(&world.first, 1);
    let seen = Seen { audit_n: end.n, audit_head: end.hash, ..seen };
    let answer = client.post(REPORT, &world.report(&world.first, &seen)).await;
    assert_eq!(answer.0, StatusCode::OK, "{:?}", answer.1);
    drop(client);
    world.server.end().await;
    world
}

/// A damage, what is said of it, and the way out.
type Case = (fn(&Path), &'static str, &'static str);

const RESTORE: &str = "hint: stop the server, put a backup back with `vault-server restore`";
const HEAL: &str = "hint: `vault heal` on the machines that read it gives it back";
const START: &str = "hint: start the server";

const CASES: &[Case] = &[
    (
        |data| rot(data, &one::<Vec<u8>>(data, "SELECT bytes FROM blob LIMIT 1")[100..140]),
        "of `secret/a` version 1 has another content than it had",
        RESTORE,
    ),
    (
        |data| rot(data, &one::<Vec<u8>>(data, "SELECT body FROM log WHERE seq = 2")[20..60]),
        "is damaged: entry 2 of the log is damaged",
        RESTORE,
    ),
    (
        |data| rot(data, &one::<Vec<u8>>(data, "SELECT max(record) FROM audit")[40..80]),
        "is damaged: audit record ",
        RESTORE,
    ),
    (
        |data| {
            let file = fs::OpenOptions::new().write(true).open(database(data)).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        },
        "vault.db`",
        "hint: ",
    ),
    (
        |data| sql(data, "DELETE FROM blob WHERE ver = 2"),
        "of `secret/a` version 2 is missing",
        HEAL,
    ),
    (
        |data| sql(data, "UPDATE blob SET path = 'secret/none' WHERE ver = 2"),
        "of `secret/none` version 2 is an orphan: no version has it",
        "hint: it does no harm",
    ),
    (|data| sql(data, "DELETE FROM log WHERE seq = 0"), "entry 0 of the log is missing", RESTORE),
    (|data| sql(data, "DELETE FROM log WHERE seq = 2"), "entry 2 of the log is missing", RESTORE),
    (
        |data| sql(data, "UPDATE log SET sig = zeroblob(64) WHERE seq = 3"),
        "entry 3 of the log is damaged: E_BADSIG",
        RESTORE,
    ),
    (
        |data| sql(data, "DELETE FROM log WHERE seq = 11"),
        "it lacks entry 11, which this server has given out",
        START,
    ),
    (
        |data| sql(data, "DELETE FROM log WHERE seq > 8"),
        "it lacks entry 11, which this server has given out",
        START,
    ),
    (
        |data| sql(data, "DELETE FROM audit WHERE n = (SELECT max(last) + 1 FROM segment)"),
        "is damaged: audit record ",
        RESTORE,
    ),
    (
        |data| sql(data, "DELETE FROM audit WHERE n > (SELECT max(last) FROM segment)"),
        " is missing: `machine:a` has seen record ",
        RESTORE,
    ),
    (|data| sql(data, "UPDATE segment SET after = zeroblob(32)"), "cannot read `", RESTORE),
    (
        |data| sealed(data, |file| overwrite(file, b"another")),
        "are not those that were written",
        RESTORE,
    ),
    (|data| sealed(data, |file| fs::remove_file(file).unwrap()), "cannot read `", RESTORE),
    (|data| fs::remove_file(data.join("head")).unwrap(), "/head` is missing", START),
    (|data| overwrite(&data.join("head"), &[b'x'; 5000]), "/head` holds no whole head", START),
    (
        |data| {
            let key = SignKey::generate();
            overwrite(&data.join("server.key"), key.to_text().as_bytes());
        },
        "no machine accepts the key ",
        "hint: put the key back",
    ),
    (
        |data| sql(data, "PRAGMA user_version = 999"),
        "has version 999, newer than this program's",
        "hint: install the vault-server that wrote it",
    ),
    (|data| sql(data, "DELETE FROM log"), "its log is empty", RESTORE),
    (|data| fs::remove_file(database(data)).unwrap(), "vault.db` does not exist", "hint: name"),
];

#[tokio::test]
async fn the_first_fault_is_named_with_the_way_out() {
    let world = stopped().await;
    let (data, dir) = (&world.config.data, world.dir.path());
    let (is_whole, said) = check(data);
    assert!(is_whole && said.contains("is whole: 11 entries, 9 blobs, "), "{said}");
    let mut wrong = String::new();
    for (n, (damage, named, way)) in CASES.iter().enumerate() {
        let damaged = dir.join(format!("damaged-{n}"));
        copy(data, &damaged);
        damage(&damaged);
        let (is_whole, said) = check(&damaged);
        if is_whole || !said.contains(named) || !said.contains(way) {
            wrong += &format!("{n}: {named}, {way}:\n{said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let other = stopped().await;
    fs::copy(other.config.data.join("head"), data.join("head")).unwrap();
    let (is_whole, said) = check(data);
    assert!(!is_whole && said.contains("/head` is of another vault, or another server"), "{said}");
    assert!(said.contains("hint: put back the one that belongs to this database"), "{said}");
}

#[tokio::test]
async fn what_a_newer_program_wrote_is_not_called_damaged() {
    let world = stopped().await;
    let data = &world.config.data;
    let conn = Connection::open(database(data)).unwrap();
    let newer = world.by_admin(vec![Op::FormatSet { format: 2 }]);
    let row = params![12, [0u8; 32], newer.by.to_string(), newer.body, newer.sig.as_bytes()];
    conn.execute("INSERT INTO log (seq, hash, by, body, sig) VALUES (?1, ?2, ?3, ?4, ?5)", row)
        .unwrap();
    drop(conn);
    let backup = world.dir.path().join("newer");
    let mut checked = vec![check(data)];
    checked.push(run("backup", &[&backup, Path::new("--data"), data]));
    for (is_whole, said) in checked {
        let told = "entry 12 of the log was written for a newer program (E_UPGRADE";
        let named = said.contains(told);
        assert!(!is_whole && named && !said.contains("is damaged"), "{said}");
        assert!(said.contains("hint: install the vault-server that ran here"), "{said}");
    }
    assert!(!backup.exists());
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let world = stopped().await;
    let (data, dir) = (&world.config.data, world.dir.path());
    let pipe = dir.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let to = dir.join("new");
    for (verb, args) in [
        ("check", vec![&*pipe]),
        ("restore", vec![&pipe, Path::new("--data"), &to]),
        ("backup", vec![&pipe, Path::new("--data"), data]),
    ] {
        let (done, said) = run(verb, &args);
        let named = said.contains("pipe` is no regular file") || said.contains("is no backup of");
        assert!(!done && named && said.contains("hint: "), "{verb}: {said}");
    }
    assert!(!to.join("vault.db").exists());
}

#[tokio::test]
async fn a_server_without_a_vault_has_nothing_to_look_through() {
    let world = World::unfounded().await;
    drop(world.client(&world.first).await);
    let (is_whole, said) = check(&world.config.data);
    let way = "hint: `vault init` with the setup line makes the vault";
    assert!(!is_whole && said.contains("it holds no vault yet") && said.contains(way), "{said}");
}
