//! Who may read what: the server refuses the blob, and the blob does not open even when handed
//! over.

use machine::identity::{MachineKeys, Pins};
use machine::paths::Paths;
use machine::remote::{RemoteError, connect};
use shared::blob::{Blob, Expected, Place, open};
use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Entry, Op, Put};
use shared::signed::parse_strict;
use tests::{Host, PASSPHRASE, World, bins, run, watch};

const SECRET: &str = "secret/home/router";

/// Reads the put of `path` and its blob out of what the server keeps, as a thief would.
fn stolen(world: &World, path: &str) -> (Put, Vec<u8>) {
    let database = world.tables();
    let mut entries = database.prepare("SELECT body FROM log WHERE seq > 0 ORDER BY seq").unwrap();
    let bodies = entries.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let ops = bodies.flat_map(|body| parse_strict::<Entry>(&body.unwrap()).unwrap().ops);
    let put = ops.filter_map(|op| if let Op::Put(put) = op { Some(put) } else { None });
    let put = put.into_iter().find(|put| put.path.as_str() == path).unwrap();
    let select = "SELECT bytes FROM blob WHERE hash = ?1";
    let blob = database.query_row(select, [put.blob.as_bytes()], |row| row.get(0)).unwrap();
    (put, blob)
}

/// Asks the server for `blob` with the keys of `host`.
fn ask(host: &Host, blob: Hash) -> Result<Vec<u8>, RemoteError> {
    let paths = Paths::resolve(Some(host.state()), None).unwrap();
    let (keys, pins) = (MachineKeys::load(&paths).unwrap(), Pins::load(&paths).unwrap().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect(&pins.addresses[0], &pins.server, &keys.sign).await.unwrap();
        client.blob(blob).await
    })
}

/// Opens `blob` with the key of `host`, expecting what `put` says.
fn try_open(host: &Host, put: &Put, readers: usize, blob: &[u8]) -> Result<String, Code> {
    let paths = Paths::resolve(Some(host.state()), None).unwrap();
    let (keys, pins) = (MachineKeys::load(&paths).unwrap(), Pins::load(&paths).unwrap().unwrap());
    let place = Place { vault: &pins.vault, path: &put.path, ver: put.ver };
    let (blob_id, size, commit) = (put.blob, put.size, put.commit);
    let expected = Expected { place, blob: blob_id, size, commit, readers, position: 0 };
    let opened =
        open(&keys.age, &expected, &Blob::new(blob.to_vec())).map_err(|fault| fault.code)?;
    Ok(String::from_utf8(opened.content.expose().to_vec()).unwrap())
}

#[test]
fn a_machine_without_the_grant_gets_no_blob_and_opens_none() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["kv", "put", SECRET, "password=hunter2"]).ok();
    let _ = rtx.vault(&["kv", "put", "secret/jjeco/a", "k=v"]).ok();
    watch::poll("vps follows", || {
        (vps.vault(&["kv", "get", "secret/jjeco/a"]).code == 0).then_some(())
    });
    assert_eq!(vps.vault(&["kv", "get", SECRET]).code, 2);

    let (put, blob) = stolen(&world, SECRET);
    match ask(&vps, put.blob) {
        Err(RemoteError::Status { status: 403, .. }) => {}
        Err(RemoteError::Refused(fault)) if fault.code == Code::Denied => {}
        other => panic!("the server answered {other:?}"),
    }
    assert_eq!(ask(&rtx, put.blob).unwrap(), blob);
    // rtx1080 and recovery read it; handed over, it opens for the one and not for the other.
    assert_eq!(try_open(&rtx, &put, 2, &blob).unwrap(), r#"{"password":"hunter2"}"#);
    assert_eq!(try_open(&vps, &put, 2, &blob).unwrap_err(), Code::BlobOpen);

    let denied = rtx.vault(&["audit", "log", "--machine", "vps", "--denied"]).ok();
    assert!(denied.contains(SECRET), "the attempt is on record:\n{denied}");
}

#[test]
fn a_grant_opens_what_was_written_before() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["kv", "put", SECRET, "password=hunter2"]).ok();
    let grant =
        ["access", "set", "vps", "--read", "secret/jjeco/", "--read", "secret/home/", "--yes"];
    let _ = rtx.vault(&grant).ok();
    let read = watch::poll("vps may read", || {
        let ran = vps.vault(&["kv", "get", "-field=password", SECRET]);
        (ran.code == 0).then_some(ran.out)
    });
    assert_eq!(read, "hunter2");
    let shown = rtx.vault(&["access", "show", "vps"]).ok();
    assert!(shown.contains("secret/home/"), "{shown}");
}

#[test]
fn versions_from_before_a_grant_are_no_alarm() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    for n in 1..=3 {
        let _ = rtx.vault(&["kv", "put", SECRET, &format!("password={n}")]).ok();
    }
    let nas = world.machine(&rtx, "nas", &["*"]);
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["access", "set", "vps", "--read", "*", "--yes"]).ok();
    for host in [&nas, &vps] {
        watch::poll("the newest version", || {
            (host.vault(&["kv", "get", "-field=password", SECRET]).out == "3").then_some(())
        });
        for version in ["1", "2"] {
            let ran = host.vault(&["kv", "get", "-version", version, SECRET]);
            assert!(ran.code == 2 && ran.err.contains("E_NOT_A_READER"), "{}", ran.err);
            assert!(ran.err.contains("No value found"), "{}", ran.err);
        }
        let _ = host.vault(&["status"]).ok();
    }
    // Where it could be read it is made the newest, and all have it.
    let _ = rtx.vault(&["kv", "rollback", "-version=1", SECRET]).ok();
    watch::poll("the version before", || {
        (nas.vault(&["kv", "get", "-field=password", SECRET]).out == "1").then_some(())
    });
}

#[test]
fn a_slip_at_the_passphrase_is_made_good_on_a_terminal() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let set = |prefix: &str, typed: &str| {
        let mut command = rtx.command("script");
        let line = format!("{} access set vps --read {prefix}", rtx.bins.vault);
        command.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        command.env_remove("VAULT_PASSPHRASE_FILE");
        run(&mut command, typed)
    };
    let good = set("secret/one/", &format!("y\nwrong\n{PASSPHRASE}\n"));
    assert_eq!(good.code, 0, "{}", good.out);
    assert!(good.out.contains("That is not it. Passphrase of admin"), "{}", good.out);
    let bad = set("secret/two/", "y\nwrong\nwrong\nwrong\n");
    assert_eq!(bad.code, 1, "{}", bad.out);
    assert!(bad.out.contains("does not open with this passphrase"), "{}", bad.out);
    let shown = rtx.vault(&["access", "show", "vps"]).ok();
    assert!(shown.contains("secret/one/"), "{shown}");
}
