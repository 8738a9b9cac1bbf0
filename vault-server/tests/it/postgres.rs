//! A vault on PostgreSQL: one server, two of them, lost connections, what refuses to start, moving
//! there and back. Where `VAULT_TEST_POSTGRES` names no database there is nothing to try.

use std::process::{Command, Output};

use hyper::StatusCode;
use shared::head::SignedHead;
use shared::wire::v1::log::Frame;
use vault_server::config::{Config, Places, Store};
use vault_server::init::{Wanted, join};

use crate::audit::verified;
use crate::checkpoint::{compact, report, shown};
use crate::client::{Client, parse};
use crate::world::{Running, World, post};

/// A schema of its own in the database for tests.
struct Database {
    name: String,
    url: String,
}

fn psql(url: &str, sql: &str) -> String {
    let ran =
        Command::new("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", sql]).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn base() -> Option<String> {
    std::env::var("VAULT_TEST_POSTGRES").ok()
}

impl Database {
    fn new() -> Option<Self> {
        let base = base()?;
        let name = format!("it_{}", shared::hash::Hash::from_bytes(*shared::keys::random::<32>()));
        let name = name[..20].to_owned();
        psql(&base, &format!("CREATE SCHEMA {name}"));
        let with = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{with}options=-csearch_path%3D{name}&application_name={name}");
        Some(Self { name, url })
    }

    fn ask(&self, sql: &str) -> String {
        psql(&self.url, sql)
    }

    /// Ends every session of it but the one that asks.
    fn cut(&self) {
        self.ask(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = '{}' AND pid <> pg_backend_pid()",
            self.name
        ));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(base) = base() {
            psql(&base, &format!("DROP SCHEMA {} CASCADE", self.name));
        }
    }
}

/// Makes another server of the world's vault, in another folder.
async fn second(world: &World) -> (Running, Config) {
    let data = world.dir.path().join("second");
    let places = Places::find(None, Some(&data)).unwrap();
    host::files::create_dir_private(&data).unwrap();
    let url = world.config.store.url.as_deref().unwrap();
    let text = format!("listen = \"127.0.0.1:0\"\ndata = {data:?}\n[store]\nurl = {url:?}\n");
    host::files::write_private(&places.config, text.as_bytes()).unwrap();
    let key = world.config.data.join("server.key");
    let joined = tokio::task::spawn_blocking(move || {
        join(&places, &Wanted { listen: None, addresses: vec![] }, &key).unwrap()
    });
    let config = joined.await.unwrap();
    (Running::start(config.clone()).await, config)
}

fn run(world: &World, words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_vault-server"));
    program.arg("--data").arg(&world.config.data).args(words).output().unwrap()
}

fn said(world: &World, words: &[&str]) -> String {
    let ran = run(world, words);
    let [out, err] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(ran.status.success(), "{words:?}: {out}{err}");
    format!("{out}{err}")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_serve_one_vault() {
    let Some(database) = Database::new() else { return };
    let mut world = World::on(&database.url).await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let (other, _) = second(&world).await;
    let there = Client::connect(other.addr, &world.server_key, &vps.sign).await;
    let mut frames = there.follow(2).await;
    assert_eq!(frames.head().await, 2);

    let id = world.write(&client, "secret/a", "one").await;
    let (entry, _) = frames.entry().await;
    assert_eq!(entry.seq, 3, "written here, followed there");
    assert!(there.get(&format!("/v1/blob/{id}")).await.0.is_success());

    let mut here = client.follow(3).await;
    assert_eq!(here.head().await, 3);
    let first = Client::connect(other.addr, &world.server_key, &world.first.sign).await;
    let id = world.write(&first, "secret/b", "two").await;
    assert_eq!(here.entry().await.0.seq, 4, "and the other way round");
    assert!(client.get(&format!("/v1/blob/{id}")).await.0.is_success());

    // A machine that is added or removed at one is known to the other.
    let nas = world.add(&first, "nas", &["secret/"]).await;
    assert_eq!(here.entry().await.0.seq, 5);
    let remote = world.client(&nas).await;
    assert_eq!(remote.page(0).await.len(), 8);

    // A lost race is told by whichever server; the same bytes again are told what became of them.
    let (op, bytes) = world.put("secret/c", "three");
    let entry = world.by_first(vec![op]);
    let (one, two) =
        tokio::join!(post(&client, &entry, vec![bytes.clone()]), post(&first, &entry, vec![bytes]));
    assert_eq!((one.0, two.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(parse::<SignedHead>(&one.1), parse::<SignedHead>(&two.1));
    // One chain of records, whoever is asked.
    let (records, others) = (verified(&client).await.len(), verified(&first).await.len());
    assert!(records < others, "{records} {others}");
    assert!(said(&world, &["check"]).contains("is whole: 6 entries, 3 blobs"));
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_go_once_machines_of_either_server_are_past_a_checkpoint() {
    let Some(database) = Database::new() else { return };
    let mut world = World::on(&database.url).await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/"]).await;
    world.write(&client, "secret/a", "one").await;
    let named = compact(&mut world, &client).await;
    let (other, _) = second(&world).await;
    let there = Client::connect(other.addr, &world.server_key, &vps.sign).await;
    report(&world, &client, &world.first, 1).await;
    report(&world, &there, &vps, 1).await;
    while database.ask("SELECT count(*) FROM log") != "2" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(there.get("/v1/log?after=0").await.0, StatusCode::GONE);
    world.write(&client, "secret/a", "two").await;
    let (_, mut state) = shown(&there).await;
    for frame in there.page(named.seq).await {
        if let Frame::Entry { envelope, .. } = frame {
            shared::log::apply(&mut state, &envelope).unwrap();
        }
    }
    assert!(state == world.state);
    let whole = format!("is whole: 2 entries after the checkpoint at entry {}", named.seq);
    assert!(said(&world, &["check"]).contains(&whole));
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_and_double_nothing() {
    let Some(database) = Database::new() else { return };
    let mut world = World::on(&database.url).await;
    let client = world.client(&world.first).await;
    let (mut asked, mut failed) = (0, 0);
    for n in 0..40 {
        let (op, bytes) = world.put("secret/a", &n.to_string());
        let envelope = world.by_first(vec![op]);
        let blobs = vec![bytes];
        if n % 4 == 1 {
            database.cut();
        }
        loop {
            asked += 1;
            let (status, body) = post(&client, &envelope, blobs.clone()).await;
            if status == StatusCode::CREATED {
                shared::log::apply(&mut world.state, &envelope).unwrap();
                world.is_newest(&parse(&body));
                break;
            }
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body:?}");
            failed += 1;
            assert!(failed < 200, "it does not come back");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert!(asked >= 40);
    assert_eq!(database.ask("SELECT count(*), max(seq) FROM log"), "42|41");
    verified(&client).await;
    world.restart().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/b", "after").await;
    assert!(said(&world, &["check"]).contains("is whole: 42 entries"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_server_from_its_database_is_said_with_the_way_out() {
    let Some(database) = Database::new() else { return };
    let mut world = World::on(&database.url).await;
    world.server.end().await;
    let url = &database.url;
    let check = async |url: &str, parts: &[&str]| {
        let store = Store { url: Some(url.to_owned()), ..world.config.store.clone() };
        let server = Running::start(Config { store, ..world.config.clone() }).await;
        let fault = server.fault().await;
        for part in parts {
            assert!(fault.contains(part), "{url}: {fault}");
        }
    };
    let base = base().unwrap();
    let (place, query) = base.split_once('?').unwrap_or((&base, ""));
    let (server, _) = place.rsplit_once('/').unwrap();
    let none = format!("{server}/none?{query}");
    check(&none, &["cannot use database", "\"none\" does not exist"]).await;
    check("postgres://vault@/vault?host=/nowhere", &["cannot use database", "No such file"]).await;
    check("postgres://127.0.0.1:1/vault?sslmode=disable", &["cannot use database", "refused"])
        .await;
    psql(&base, &format!("CREATE ROLE {0} LOGIN; GRANT USAGE ON SCHEMA {0} TO {0}", database.name));
    let other = url.replace("postgres@", &format!("{}@", database.name));
    check(&other, &["permission denied"]).await;
    psql(&base, &format!("DROP OWNED BY {0}; DROP ROLE {0}", database.name));
    database.ask("UPDATE vault_schema SET version = 99");
    check(url, &["has version 99, newer than this program's 1"]).await;
    database.ask("UPDATE vault_schema SET version = 1");
    let path = format!("search_path%3D{}", database.name);
    let read_only = format!("{path}%20-cdefault_transaction_read_only%3Don");
    check(&url.replace(&path, &read_only), &["cannot use database", "does not allow writes"]).await;
    world.server = Running::start(world.config.clone()).await;
    world.client(&world.first).await.page(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_moves_there_and_back_and_is_backed_up() {
    let Some(database) = Database::new() else { return };
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let id = world.write(&client, "secret/a", "one").await;
    let before = verified(&client).await;
    let busy = run(&world, &["store", "move", "--to", &database.url]);
    assert!(String::from_utf8_lossy(&busy.stderr).contains("is in use by another vault-server"));
    world.server.end().await;

    let moved = said(&world, &["store", "move", "--to", &database.url]);
    assert!(moved.contains("is whole: 3 entries, 1 blobs"), "{moved}");
    assert!(!world.config.data.join("vault.db").exists());
    world.config.store.url = Some(database.url.clone());
    let text = format!("{}\n[store]\nurl = {:?}\n", configuration(&world), database.url);
    rewrite(&world, &text);
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let after = verified(&client).await;
    assert_eq!(after[..before.len()], before[..], "the same records");
    let remote = world.client(&vps).await;
    assert!(remote.get(&format!("/v1/blob/{id}")).await.0.is_success());
    world.write(&client, "secret/a", "two").await;
    let backup = world.dir.path().join("copy.backup");
    said(&world, &["backup", backup.to_str().unwrap()]);
    assert!(said(&world, &["check", backup.to_str().unwrap()]).contains("is whole: 4 entries"));
    world.server.end().await;
    let restored = run(&world, &["restore", backup.to_str().unwrap()]);
    let why = "names another database\nhint: take `url` out of [store]";
    let told = String::from_utf8_lossy(&restored.stderr);
    assert!(!restored.status.success() && told.contains(why), "{told}");
    assert!(!world.config.data.join("vault.db").exists());

    said(&world, &["store", "move", "--to", "sqlite"]);
    let again = run(&world, &["store", "move", "--to", "sqlite"]);
    assert!(!again.status.success(), "it was moved out");
    world.config.store.url = None;
    rewrite(&world, &configuration(&world));
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "three").await;
    assert!(said(&world, &["check"]).contains("is whole: 5 entries, 3 blobs"));
    assert!(verified(&client).await.len() > after.len());
}

/// Returns the configuration as it is without a database elsewhere.
fn configuration(world: &World) -> String {
    format!("listen = \"127.0.0.1:0\"\ndata = {:?}\n", world.config.data)
}

fn rewrite(world: &World, text: &str) {
    let file = world.config.data.join("server.toml");
    host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
}
