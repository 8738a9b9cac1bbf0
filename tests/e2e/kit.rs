//! The last resort: the kit opens a blob with no program of ours.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use tests::{World, bins};

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
