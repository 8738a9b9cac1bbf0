//! The kit as it is kept: text, a printed page with its code, rows that somebody types. And the
//! last resort: it opens a blob with no program of ours.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::aftermath::file_opens;
use crate::recovery::{SECRET, kit, put, test, types};
use crate::setup::Terminal;
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
    let database = world.tables();
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

/// Reads the code of a printed page, as a telephone would.
fn scanned(html: &str) -> String {
    const SCALE: usize = 4;
    let between = |start: &str, end: &str| {
        let (_, rest) = html.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    };
    let side: usize = between("viewBox=\"0 0 ", " ").parse().unwrap();
    let mut dark = vec![false; side * side];
    for run in between("<path d=\"M", "z\"").split("zM") {
        let (left, rest) = run.split_once(' ').unwrap();
        let (top, rest) = rest.split_once('h').unwrap();
        let (long, _) = rest.split_once("v1h-").unwrap();
        let [left, top, long] = [left, top, long].map(|n| n.parse::<usize>().unwrap());
        dark[top * side + left..][..long].fill(true);
    }
    let pixel = |x: usize, y: usize| dark[y / SCALE * side + x / SCALE];
    let mut image = rqrr::PreparedImage::prepare_from_bitmap(side * SCALE, side * SCALE, pixel);
    let [code] = &image.detect_grids()[..] else { panic!("not one code on the page") };
    code.decode().unwrap().1
}

#[test]
fn a_printed_kit_is_scanned_and_recovers_the_vault() {
    let world = World::new(bins!());
    let mut rtx = world.host("rtx1080");
    let page = rtx.dir.join("kit.html");
    let page = page.to_str().unwrap();
    let init = ["init", "--name", "rtx1080", "--admin", "jonas", "--kit-confirmed", "--html"];
    let alone = rtx.vault_with(&init, world.setup());
    assert!(alone.code == 1 && alone.err.contains("--kit"), "{}", alone.err);
    let _ = rtx.vault_with(&[&init[..], &["--kit", page]].concat(), world.setup()).ok();
    rtx.start();
    put(&rtx, SECRET, "1");
    assert_eq!(std::fs::metadata(page).unwrap().permissions().mode() & 0o777, 0o600);

    let tested = test(&rtx, page);
    assert_eq!(tested.code, 0, "{}", tested.err);
    let code = scanned(&std::fs::read_to_string(page).unwrap());
    for text in [code.clone(), code.to_uppercase(), code.to_lowercase(), code.replace('\n', "\r\n")]
    {
        let tested = rtx.vault_with(&["recovery", "test", "--kit", "-"], &text);
        assert_eq!(tested.code, 0, "{}", tested.err);
    }
    let nas = world.host("nas");
    types(&nas, "another horse battery staple");
    let args = ["recover", world.address(), "--kit", "-", "--name", "nas", "--yes"];
    let said = nas.vault_with(&args, &code);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("`nas` is a machine of the vault `home`"), "{}", said.err);

    // Its text is what age wants.
    let file = world.dir().join("scanned.txt");
    host::files::write_private(&file, code.as_bytes()).unwrap();
    let database = world.tables();
    let blob: Vec<u8> = database
        .query_row("SELECT bytes FROM blob WHERE path = ?1", [SECRET], |row| row.get(0))
        .unwrap();
    assert!(file_opens(&file, &blob));
}

#[test]
fn a_kit_is_typed_row_by_row_and_each_slip_is_told_at_once() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    put(&rtx, SECRET, "1");
    let terminal = |args: &[&str]| {
        let mut command = rtx.command(rtx.bins.vault);
        command.args(args);
        Terminal::open(&command)
    };
    let [root, recovery] = ["VAULT-ROOT-SECRET-1", "AGE-SECRET-KEY-1"];
    let mut renews = terminal(&["recovery", "renew", "--kit", &kit(&rtx), "--yes"]);
    let page = renews.until("Type the last 6 characters of the line VAULT-ROOT-SECRET-1");
    renews.answer("…", &Terminal::end_of(&page, root));
    renews.answer("of the line AGE-SECRET-KEY-1…", &Terminal::end_of(&page, recovery));
    renews.until("the old kit is without power");
    assert!(renews.script.wait().unwrap().success());

    let lines = page.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let is_row =
        |line: &&str| line.ends_with(')') && line.starts_with(|c: char| c.is_ascii_digit());
    let typed: Vec<&str> =
        lines.filter(|line| is_row(line) || [root, recovery].contains(line)).collect();
    assert_eq!(typed.len(), 10, "{page}");
    let mut tests = terminal(&["recovery", "test", "--kit", "-"]);
    tests.until("the last row ends it, Ctrl-C gives up:");
    for line in typed {
        let Some((number, row)) = line.split_once("  ") else {
            tests.answer("", &line.to_lowercase());
            continue;
        };
        // Without its number, in one piece, and at first with two letters exchanged.
        let wrong = format!("{}{}{}", &row[1..2], &row[..1], &row[2..]);
        if wrong != row {
            tests.answer("", &wrong);
            tests.until(&format!("row {number} of `"));
            tests.until("was mistyped: type it again");
        }
        tests.answer("", &row.replacen(' ', "", 3).to_lowercase());
    }
    tests.until("the kit works");
    assert!(tests.script.wait().unwrap().success());
}
