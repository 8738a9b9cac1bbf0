//! A server restored from an old backup: machines notice, keep their files, and give it back what
//! it has lost. And the last resort: the kit opens a blob with no program of ours.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use tests::{World, bins, watch};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_server_that_lost_entries_gets_them_back() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let put = |text: &str| rtx.vault(&["kv", "put", "secret/jjeco/a", text]);
    let _ = put("K=one").ok();
    rtx.target(&["secret/jjeco/a"]);
    watch::until(&rtx.env_file(), |text| text.contains("one"));
    world.server.as_mut().unwrap().stop();
    let backup = world.dir().join("backup");
    copy(&world.data(), &backup);
    world.start();
    watch::poll("the agent is back", || (put("K=two").code == 0).then_some(()));
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    watch::until(&rtx.env_file(), |text| text.contains("two"));

    world.server.as_mut().unwrap().stop();
    std::fs::remove_dir_all(world.data()).unwrap();
    copy(&backup, &world.data());
    set_private(&world.data());
    world.start();
    let behind = watch::poll("the loss is noticed", || {
        let status = rtx.vault(&["status"]);
        status.err.contains("E_SERVER_BEHIND").then_some(status.err)
    });
    assert!(behind.contains("vault heal"), "{behind}");
    assert_ne!(put("K=three").code, 0, "changes fail closed");
    assert!(rtx.env().contains("two"), "the file stays");

    let healed = rtx.vault(&["heal"]);
    assert_eq!(healed.code, 0, "{}", healed.err);
    assert!(healed.err.contains("given back: "), "{}", healed.err);
    watch::poll("writes go on", || (put("K=four").code == 0).then_some(()));
    watch::until(&rtx.env_file(), |text| text.contains("four"));
    assert_eq!(
        watch::poll("the VPS is back", || {
            let read = vps.vault(&["kv", "get", "-field=K", "secret/jjeco/a"]);
            (read.out.trim() == "four").then_some(read.code)
        }),
        0
    );
    // The audit log did lose records, and this says so until a person has looked.
    let _ = rtx.vault(&["heal", "--clear", "E_AUDIT_REWRITTEN"]).ok();
    let nothing = rtx.vault(&["heal"]);
    assert!(nothing.err.contains("lacks nothing"), "{}", nothing.err);
}

fn set_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_kit_opens_a_blob_without_any_of_our_programs() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let value = "break-glass-value-51c7";
    let _ = rtx.vault(&["kv", "put", "secret/last/resort", &format!("K={value}")]).ok();
    let page = rtx.dir.join("kit.txt");
    let page = page.to_str().unwrap();
    let tested = rtx.vault(&["recovery", "test", "--kit", page]);
    assert_eq!(tested.code, 0, "{}", tested.err);
    assert!(tested.err.contains("it opens version 1 of `secret/last/resort`"), "{}", tested.err);
    assert!(!tested.err.contains(value) && tested.out.is_empty());
    let text = std::fs::read_to_string(page).unwrap();
    let piped = rtx.vault_with(&["recovery", "test", "--kit", "-"], &text);
    assert_eq!(piped.code, 0, "{}", piped.err);
    let stranger = World::new(bins!());
    let other = stranger.owner("other").dir.join("kit.txt");
    let wrong = rtx.vault(&["recovery", "test", "--kit", other.to_str().unwrap()]);
    assert_eq!(
        (wrong.code, wrong.err.contains("not that of the vault")),
        (2, true),
        "{}",
        wrong.err
    );
    world.server.as_mut().unwrap().stop();
    let database = rusqlite::Connection::open(world.data().join("vault.db")).unwrap();
    let blob: Vec<u8> = database.query_row("SELECT bytes FROM blob", [], |row| row.get(0)).unwrap();
    let (file, kit) = (world.dir().join("blob.age"), rtx.dir.join("kit.txt"));
    std::fs::File::create(&file).unwrap().write_all(&blob).unwrap();
    let opened = match run_age(&kit, &file) {
        Some(opened) => opened,
        None => with_library(&kit, &blob),
    };
    let text = String::from_utf8_lossy(&opened);
    assert!(text.contains(&format!(r#"{{"K":"{value}"}}"#)), "{text}");
    assert!(text.contains(r#""path":"secret/last/resort""#), "{text}");
}

/// Runs `age -d -i kit blob`, or rage's, where one is installed.
fn run_age(kit: &Path, file: &Path) -> Option<Vec<u8>> {
    ["age", "rage"].iter().find_map(|program| {
        let there = Command::new(program).arg("--version").output().is_ok();
        there.then(|| {
            let out =
                Command::new(program).arg("-d").arg("-i").arg(kit).arg(file).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        })
    })
}

/// Does the same with the age library, which reads the page as an identity file.
fn with_library(kit: &Path, blob: &[u8]) -> Vec<u8> {
    let page = std::fs::read(kit).unwrap();
    let file = age::IdentityFile::from_buffer(&page[..]).unwrap();
    let identities = file.into_identities().unwrap();
    let open = age::Decryptor::new(blob).unwrap();
    let identities = identities.iter().map(|identity| -> &dyn age::Identity { identity.as_ref() });
    let mut reader = open.decrypt(identities).unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
    content
}
