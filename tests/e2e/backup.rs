//! The server is backed up while it runs, looked through, burnt, and restored; whatever is killed
//! meanwhile, the same command goes on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tests::{Host, Ran, World, bins, watch};

use crate::aftermath::{Aftermath, give_up_what_is_lost};
use crate::moment::{killed_at, moments};
use crate::quickstart::{Step, keeps, section, transcript};
use crate::restored::{code, holds, put, put_when_back, shows};
use crate::server::{arrives, rekey};

/// Backs the server up into a folder of its own; returns the new file.
pub(crate) fn back_up(world: &World) -> PathBuf {
    let folder = world.dir().join("backups");
    std::fs::create_dir_all(&folder).unwrap();
    let made = world.server_command(&["backup", folder.to_str().unwrap()]).ok();
    PathBuf::from(made.trim())
}

/// What is kept elsewhere than the backups.
pub(crate) fn key_copy(world: &World) -> PathBuf {
    let copy = world.dir().join("server.key.copy");
    std::fs::copy(world.data().join("server.key"), &copy).unwrap();
    copy
}

/// The server's host burns down.
pub(crate) fn burn(world: &mut World) {
    world.server.as_mut().unwrap().kill();
    world.burn();
}

fn restore(world: &World, backup: &Path, more: &[&str]) -> Ran {
    let args = ["restore", backup.to_str().unwrap(), "--listen", world.address()];
    world.server_command(&[&args[..], more].concat())
}

/// Restores the server with its key and starts it.
pub(crate) fn bring_back(world: &mut World, backup: &Path, key: &Path) {
    let _ = restore(world, backup, &["--key", key.to_str().unwrap()]).ok();
    world.start();
}

fn private_files(folder: &Path) {
    for file in tests::files_below(folder) {
        let found = file.metadata().unwrap();
        assert_eq!(found.mode() & 0o077, 0, "{}", file.display());
        assert_eq!(found.uid(), folder.metadata().unwrap().uid(), "{}", file.display());
    }
}

/// Waits until the status of a host is 0, and checks that the audit log is told as whole.
fn all_is_right(host: &Host) {
    host.is_well();
    let verified = host.vault(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    assert!(verified.out.contains("restored"), "{}{}", verified.out, verified.err);
}

/// Heals from a host, then resumes with the code of the server's host.
fn heal_and_resume(world: &World, host: &Host) {
    let healed = host.vault(&["heal"]);
    assert_eq!(healed.code, 2, "it waits for an owner: {}{}", healed.out, healed.err);
    let resumed = host.vault_with(&["resume", "--code", "-", "--yes"], &code(world));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
}

#[test]
fn a_burnt_server_comes_back_from_an_old_backup_and_a_removed_machine_gets_nothing() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let mut gone = world.machine(&rtx, "gone", &["secret/jjeco/"]);
    let _ = rtx.vault(&["access", "set", "gone", "--read", "*", "--write", "*", "--yes"]).ok();
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    vps.target(&["secret/jjeco/a"]);
    watch::until(&vps.env_file(), |text| text.contains("one"));
    holds(&gone, "secret/jjeco/a", "one");
    let backup = back_up(&world);
    private_files(backup.parent().unwrap());
    let key = key_copy(&world);
    // It sleeps through its removal.
    gone.stop();
    let _ = rtx.vault(&["machine", "remove", "gone", "--yes"]).ok();
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=two"), 0);
    watch::until(&vps.env_file(), |text| text.contains("two"));

    burn(&mut world);
    bring_back(&mut world, &backup, &key);
    private_files(&world.data());
    // It is the first to come, and as far as this server and it know it is a machine.
    gone.start();
    watch::poll("the server refuses what it writes", || {
        let written = gone.vault(&["kv", "put", "secret/jjeco/a", "K=past"]);
        assert_ne!(written.code, 0, "{}", written.err);
        written.err.contains("restored from a copy").then_some(())
    });
    shows(&rtx, "alarm E_SERVER_");
    heal_and_resume(&world, &rtx);
    put_when_back(&rtx, "secret/jjeco/a", "K=three");
    watch::until(&vps.env_file(), |text| text.contains("three"));
    give_up_what_is_lost(&rtx);
    let (hosts, gone) = (&[&rtx, &vps], Some(&gone));
    Aftermath { world: &world, hosts, value: "three", gone, resumed: true }.check();
}

#[test]
fn two_restores_in_a_row_end_well() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    vps.target(&["secret/jjeco/a"]);
    watch::until(&vps.env_file(), |text| text.contains("one"));
    let (backup, key) = (back_up(&world), key_copy(&world));
    for value in ["two", "three"] {
        put_when_back(&rtx, "secret/jjeco/a", &format!("K={value}"));
        watch::until(&vps.env_file(), |text| text.contains(value));
        burn(&mut world);
        bring_back(&mut world, &backup, &key);
        shows(&rtx, "alarm E_SERVER_");
        heal_and_resume(&world, &rtx);
        put_when_back(&rtx, "secret/jjeco/b", &format!("K={value}"));
        assert!(vps.env().contains(value), "{}", vps.env());
    }
    holds(&vps, "secret/jjeco/b", "three");
    give_up_what_is_lost(&rtx);
    let hosts = &[&rtx, &vps];
    Aftermath { world: &world, hosts, value: "three", gone: None, resumed: true }.check();
}

#[test]
fn a_backup_from_before_another_key_is_healed_with_that_key() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    vps.target(&["secret/jjeco/a"]);
    let backup = back_up(&world);
    rekey(&mut world, &rtx);
    let key = key_copy(&world);
    arrives(&rtx, &[&vps], "two");
    burn(&mut world);
    bring_back(&mut world, &backup, &key);
    shows(&rtx, "alarm E_SERVER_");
    heal_and_resume(&world, &rtx);
    arrives(&rtx, &[&vps], "three");
    give_up_what_is_lost(&rtx);
    let hosts = &[&rtx, &vps];
    Aftermath { world: &world, hosts, value: "three", gone: None, resumed: true }.check();
}

#[test]
fn a_folder_keeps_the_newest_and_nothing_else_is_touched() {
    let mut world = World::new(bins!());
    let folder = world.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let args = ["backup", folder.to_str().unwrap(), "--keep", "2"];
    let early = world.server_command(&args);
    assert!(early.code != 0 && early.err.contains("holds no vault yet"), "{}", early.err);
    let rtx = world.owner("rtx1080");
    let other = folder.join("vault-00000000-2026-01-01T00-00-00Z.backup");
    host::files::write_private(&other, b"another vault's").unwrap();
    let mut made = Vec::new();
    for n in 0..3 {
        assert_eq!(put(&rtx, "secret/a", &format!("K={n}")), 0);
        made.push(watch::poll("a backup of another second", || {
            let file = world.server_command(&args).ok().trim().to_owned();
            (!made.contains(&file)).then_some(file)
        }));
    }
    let mut found = tests::files_below(&folder);
    found.sort();
    let mut expected = vec![other, PathBuf::from(&made[1]), PathBuf::from(&made[2])];
    expected.sort();
    assert_eq!(found, expected);
    // By name, an older backup of this vault is replaced, and nothing else is.
    let named = folder.join("named");
    let args = ["backup", named.to_str().unwrap()];
    let _ = world.server_command(&args).ok();
    let _ = world.server_command(&args).ok();
    host::files::replace_trusted(&named, b"mine", host::files::Access::PRIVATE).unwrap();
    let refused = world.server_command(&args);
    assert!(
        refused.code != 0 && refused.err.contains("no backup of this vault"),
        "{}",
        refused.err
    );
    assert_eq!(std::fs::read(&named).unwrap(), b"mine");
    let inside = world.data().join("copy");
    let refused = world.server_command(&["backup", inside.to_str().unwrap()]);
    assert!(refused.code != 0 && refused.err.contains("own data directory"), "{}", refused.err);
    // A stopped server is backed up as well.
    world.server.as_mut().unwrap().stop();
    let _ = world.server_command(&["backup", folder.to_str().unwrap()]).ok();
}

#[test]
fn what_is_no_backup_or_damaged_is_not_restored_and_nothing_is_overwritten() {
    // It tries the names of the files.
    let mut world = World::on_sqlite(bins!(), |_| {});
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, "secret/a", "K=one"), 0);
    let backup = back_up(&world);
    let refused = restore(&world, &backup, &[]);
    assert!(refused.code != 0 && refused.err.contains("is in use by another"), "{}", refused.err);
    world.server.as_mut().unwrap().stop();
    let refused = restore(&world, &backup, &[]);
    assert!(refused.code != 0 && refused.err.contains("a database already"), "{}", refused.err);
    let raw = world.data().join("vault.db");
    let refused = restore(&world, &raw, &[]);
    assert!(refused.code != 0 && refused.err.contains("is no backup"), "{}", refused.err);
    let text = world.dir().join("text");
    host::files::write_private(&text, &[b'x'; 10_000]).unwrap();
    let refused = restore(&world, &text, &[]);
    let said = refused.err.contains("text` is no backup of a vault\nhint: name a file that");
    assert!(refused.code != 0 && said, "{}", refused.err);
    // What a killed server leaves beside its database would be played into the restored one.
    let names = ["vault.db-wal", "vault.db-shm", "vault.db-journal"];
    std::fs::remove_file(&raw).unwrap();
    for name in names {
        let _ = std::fs::remove_file(world.data().join(name));
    }
    for name in names {
        let left = world.data().join(name);
        host::files::write_private(&left, b"").unwrap();
        let refused = restore(&world, &backup, &[]);
        let named = format!("holds a database already: `{name}`\nhint: stop its server");
        assert!(refused.code != 0 && refused.err.contains(&named), "{}", refused.err);
        assert!(left.exists() && !raw.exists());
        std::fs::remove_file(left).unwrap();
    }
    let cases: [(&str, &str); 4] = [
        ("UPDATE blob SET bytes = zeroblob(length(bytes))", "another content"),
        ("DELETE FROM audit WHERE n = 2", "audit record 2 is missing"),
        ("UPDATE log SET sig = zeroblob(64) WHERE seq = 2", "entry 2 of the log"),
        ("DELETE FROM blob", "is missing"),
    ];
    std::fs::rename(world.data(), world.dir().join("old")).unwrap();
    for (n, (sql, named)) in cases.into_iter().enumerate() {
        let damaged = world.dir().join(format!("damaged-{n}"));
        std::fs::copy(&backup, &damaged).unwrap();
        let database = rusqlite::Connection::open(&damaged).unwrap();
        database.execute(sql, []).unwrap();
        drop(database);
        let checked = world.server_command(&["check", damaged.to_str().unwrap()]);
        assert!(checked.code != 0 && checked.err.contains(named), "{sql}: {}", checked.err);
        let way = "hint: keep an older one, and make a new one with `vault-server backup`";
        assert_eq!(checked.err.contains(way), n < 3, "{}", checked.err);
        if n < 3 {
            let refused = restore(&world, &damaged, &[]);
            assert!(refused.code != 0 && refused.err.contains("damaged"), "{}", refused.err);
            assert!(!world.data().join("vault.db").exists(), "{sql}");
        }
    }
    let checked = world.server_command(&["check", backup.to_str().unwrap()]);
    assert!(checked.code == 0 && checked.out.contains("is whole"), "{}", checked.err);
}

#[test]
fn sealed_audit_records_go_along() {
    // Beside its database they are files.
    let mut world = World::on_sqlite(bins!(), |_| {});
    let rtx = world.owner("rtx1080");
    world.server.as_mut().unwrap().stop();
    let file = world.data().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("database_bytes = 268435456", "database_bytes = 8388608");
    host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
    // Enough of them that the next start seals some.
    world.alter("UPDATE audit SET total = total + 9000000 WHERE n > 1");
    world.start();
    let archive = world.data().join("audit");
    let database = rusqlite::Connection::open(world.data().join("vault.db")).unwrap();
    // A file alone is not yet a segment: it is written before its row, and first by another name.
    let sealed = watch::poll("records are sealed", || {
        let rows = "SELECT count(*) FROM segment WHERE bytes > 0";
        let rows: u32 = database.query_row(rows, [], |row| row.get(0)).unwrap();
        let files = if rows > 0 { tests::files_below(&archive) } else { Vec::new() };
        let whole = files.iter().all(|file| file.extension().is_some_and(|end| end == "jsonl"));
        (rows > 0 && files.len() == rows as usize && whole).then_some(files)
    });
    drop(database);
    let (backup, key) = (back_up(&world), key_copy(&world));
    burn(&mut world);
    bring_back(&mut world, &backup, &key);
    assert!(sealed.iter().all(|file| file.exists()));
    shows(&rtx, "alarm E_SERVER_");
    heal_and_resume(&world, &rtx);
    all_is_right(&rtx);
    let checked = world.server_command(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
}

/// Moments at which a backup or a restore is killed; after more of them it has ended by itself.
const MOMENTS: usize = 8;

#[test]
fn a_backup_killed_at_any_moment_counts_as_none_and_the_next_one_is_whole() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, "secret/a", "K=one"), 0);
    let folder = world.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let args = ["backup", folder.to_str().unwrap(), "--keep", "1"];
    for moment in moments(MOMENTS) {
        let killed = killed_at(world.program(&args), &folder, moment);
        println!("moment {moment}: {}", if killed { "killed" } else { "it had ended" });
        let backups = || {
            let all = tests::files_below(&folder).into_iter();
            all.filter(|file| file.extension().is_some_and(|end| end == "backup"))
        };
        for file in backups() {
            let checked = world.server_command(&["check", file.to_str().unwrap()]);
            assert_eq!(checked.code, 0, "{}", checked.err);
        }
        // What a kill while the database is copied leaves, whichever moment this one was.
        let made = world.server_command(&args).ok();
        let name = Path::new(made.trim()).file_name().unwrap().to_str().unwrap().to_owned();
        for end in ["", "-journal"] {
            let left = folder.join(format!(".{name}.vault-new{end}"));
            host::files::write_private(&left, b"half").unwrap();
        }
        let made = world.server_command(&args).ok();
        assert_eq!(tests::files_below(&folder), [PathBuf::from(made.trim())], "nothing else stays");
    }
}

#[test]
fn a_restore_killed_at_any_moment_goes_on_with_the_same_command() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, "secret/a", "K=one"), 0);
    let (backup, key) = (back_up(&world), key_copy(&world));
    let args = [
        "restore",
        backup.to_str().unwrap(),
        "--listen",
        world.address(),
        "--key",
        key.to_str().unwrap(),
    ];
    let args = args.map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for moment in moments(MOMENTS) {
        burn(&mut world);
        host::files::create_dir_private(&world.data()).unwrap();
        let killed = killed_at(world.program(&args), &world.data(), moment);
        println!("moment {moment}: {}", if killed { "killed" } else { "it had ended" });
        let again = world.server_command(&args);
        assert_eq!(again.code, 0, "{}", again.err);
        let once_more = world.server_command(&args);
        assert_eq!(once_more.code, 0, "nothing has changed since: {}", once_more.err);
        private_files(&world.data());
        world.start();
        shows(&rtx, "alarm E_SERVER_");
        heal_and_resume(&world, &rtx);
        put_when_back(&rtx, "secret/a", &format!("K={moment}"));
        all_is_right(&rtx);
        // A server that has run since is another one.
        world.server.as_mut().unwrap().stop();
        let refused = world.server_command(&args);
        assert!(refused.code != 0 && refused.err.contains("a database already"), "{}", refused.err);
        world.start();
    }
}

#[test]
fn the_server_backs_itself_up_and_says_when_it_cannot() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let folder = world.dir().join("backups");
    world.server.as_mut().unwrap().stop();
    let file = world.data().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = format!("dir = {:?}\n", folder.to_str().unwrap());
    let text = text.replace("# dir = \"/backup/vault\"", &format!("{line}#"));
    host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
    world.start();
    let told = shows(&rtx, "the server's own backups fail");
    assert!(told.contains("journalctl") && told.contains("again every 10 minutes"), "{told}");
    assert_eq!(rtx.vault(&["status"]).code, 2);
    world.server.as_mut().unwrap().stop();
    std::fs::create_dir(&folder).unwrap();
    world.start();
    let made = watch::poll("a backup is made", || {
        let mut found = tests::files_below(&folder).into_iter();
        found.find(|file| file.extension().is_some_and(|end| end == "backup"))
    });
    let checked = world.server_command(&["check", made.to_str().unwrap()]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    rtx.is_well();
    // The next one is due in a day.
    world.server.as_mut().unwrap().stop();
    world.start();
    rtx.is_well();
    assert_eq!(tests::files_below(&folder), [made]);
}

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/backup.md");

#[test]
fn the_guide_is_true_to_the_letter() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    let folder = world.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let shown = folder.to_str().unwrap().to_owned();
    let mut backup = String::new();
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let sections = ["## Backups", "## Restoring the server"];
    let steps: Vec<_> = sections.iter().flat_map(|it| transcript(section(&guide, it))).collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    for Step { command, promised, .. } in steps {
        let mut args = command
            .strip_prefix("vault-server ")
            .unwrap()
            .replace("/backup/vault/vault-…", &backup);
        if args.starts_with("restore") {
            let key = key_copy(&world);
            args = args.replace("server.key.copy", key.to_str().unwrap());
            args = format!("{args} --listen {}", world.address());
            burn(&mut world);
        }
        let args = args.replace("/backup/vault", &shown);
        let ran = world.server_command(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "{command}: {}", ran.err);
        if args.starts_with("backup") {
            backup = ran.out.trim().to_owned();
        }
        let said = format!("{}{}", ran.err, ran.out).replace(&shown, "/backup/vault");
        let lines: Vec<&str> = said.lines().collect();
        assert!(keeps(&promised, &lines), "`{command}` promises\n{promised:?}\nbut says\n{said}");
    }
    world.start();
    shows(&rtx, "alarm E_SERVER_");
    heal_and_resume(&world, &rtx);
    all_is_right(&rtx);
}
