//! Bad input: one clear error that names the thing and the way out, pinned word for word.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use shared::keys::SignKey;
use shared::token::{Line as _, SetupLine};
use tests::{Host, Ran, World, bins};

/// Shows what a command said, without what differs from run to run.
fn said(world: &World, ran: &Ran) -> String {
    let dir = world.dir().to_str().unwrap();
    let text = format!("exit {}\n{}{}", ran.code, ran.out, ran.err).replace(dir, "[DIR]");
    let mut shown = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(hide).collect();
        shown.push_str(words.join(" ").trim_end());
        shown.push('\n');
    }
    shown
}

/// Hides ports.
fn hide(word: &str) -> String {
    let digits = word.trim_end_matches(['`', '\'']);
    if digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() < word.len()
    {
        return word.replace(digits, "[PORT]");
    }
    match word.split_once("127.0.0.1:") {
        Some((before, rest)) => {
            format!(
                "{before}127.0.0.1:[PORT]{}",
                rest.trim_start_matches(|c: char| c.is_ascii_digit())
            )
        }
        None => word.to_owned(),
    }
}

fn write(file: &Path, text: &str) -> PathBuf {
    use std::io::Write as _;
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
    file.to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_import_with_a_broken_line_imports_nothing() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let file = write(&rtx.dir.join("home/broken.env"), "GOOD=1\nthis is no assignment\nALSO=2\n");
    let ran = rtx.vault(&["import", "secret/jjeco/broken", text(&file)]);
    insta::assert_snapshot!("import_broken_line", said(&world, &ran));
    assert_eq!(rtx.vault(&["kv", "get", "secret/jjeco/broken"]).code, 2);
    let ran = rtx.vault(&["import", "secret/jjeco/broken", "/nowhere/.env"]);
    insta::assert_snapshot!("import_no_such_file", said(&world, &ran));
}

#[test]
fn unknown_config_keys_are_named() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let file = write(
        &rtx.dir.join("bad.toml"),
        "server = [\"127.0.0.1:1\"]\n\n[[target]]\npaht = \"/x\"\n",
    );
    let ran = rtx.agent_command(&["run", "--config", text(&file)]);
    insta::assert_snapshot!("agent_config_unknown_key", said(&world, &ran));
    let file = write(&world.dir().join("bad-server.toml"), "listne = \"127.0.0.1:0\"\n");
    let ran = world.server_command(&["config", "check", "--config", text(&file)]);
    insta::assert_snapshot!("server_config_unknown_key", said(&world, &ran));
}

#[test]
fn setup_lines_are_judged_before_anything_is_made() {
    let world = World::new(bins!());
    let host = world.host("rtx1080");
    let init = |line: &str| {
        let kit = host.dir.join("kit.txt");
        let args = ["init", "--name", "rtx1080", "--kit", text(&kit), "--kit-confirmed"];
        host.vault_with(&args, line)
    };
    let cut = &world.setup()[..world.setup().len() - 3];
    insta::assert_snapshot!("setup_line_truncated", said(&world, &init(cut)));
    insta::assert_snapshot!("setup_line_wrong", said(&world, &init("hello")));
    let mut line = SetupLine::from_line(world.setup()).unwrap();
    line.server = SignKey::from_seed(&[9; 32]).verify_key();
    insta::assert_snapshot!("setup_line_wrong_pin", said(&world, &init(&line.to_line().unwrap())));
    let _ = init(world.setup()).ok();
    assert!(host.dir.join("kit.txt").exists());
}

#[test]
fn a_name_is_taken_once() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let twin = world.host("twin");
    let line = twin.agent_command(&["init", "--name", "vps"]).ok();
    let line = tests::find_line(&line, "VLTM1-");
    let ran = rtx.vault(&["machine", "add", &line, "--read", "*", "--yes"]);
    insta::assert_snapshot!("name_taken", said(&world, &ran));
    let ran = twin.agent_command(&["init", "--name", "Not A Name"]);
    insta::assert_snapshot!("name_grammar", said(&world, &ran));
}

#[test]
fn key_value_errors() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/home/router", "password=x"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let big = write(&rtx.dir.join("home/big"), &"x".repeat(2 << 20));
    let big = format!("value=@{}", text(&big));
    let cases: [(&str, &Host, &[&str]); 8] = [
        ("path_grammar", &rtx, &["kv", "put", "secret/a//b", "k=v"]),
        ("path_dots", &rtx, &["kv", "put", "secret/../b", "k=v"]),
        ("value_too_large", &rtx, &["kv", "put", "secret/a", &big]),
        ("field_missing", &rtx, &["kv", "get", "-field=nope", "secret/home/router"]),
        ("no_such_path", &rtx, &["kv", "get", "secret/home/nope"]),
        ("no_data", &rtx, &["kv", "put", "secret/home/router"]),
        ("read_denied", &vps, &["kv", "get", "secret/home/router"]),
        ("write_denied", &vps, &["kv", "put", "secret/jjeco/x", "k=v"]),
    ];
    for (name, host, args) in cases {
        insta::assert_snapshot!(name, said(&world, &host.vault(args)));
    }
    assert_eq!(rtx.vault(&["kv", "get", "-field=password", "secret/home/router"]).ok(), "x");
}

#[test]
fn a_port_in_use_is_named() {
    let mut world = World::new(bins!());
    world.server.as_mut().unwrap().stop();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = world.server_command(&["run", "--listen", &address]);
    insta::assert_snapshot!("port_in_use", said(&world, &ran));
}

#[test]
fn state_that_others_can_read_is_refused() {
    let mut world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    world.server.as_mut().unwrap().stop();
    for folder in [rtx.state(), world.data()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    insta::assert_snapshot!("agent_state_open", said(&world, &rtx.agent_command(&["run"])));
    insta::assert_snapshot!("server_data_open", said(&world, &world.server_command(&["run"])));
}

#[test]
fn a_database_of_a_newer_release_is_refused() {
    // What is pinned names the file.
    let mut world = World::on_sqlite(bins!(), |_| {});
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    world.server.as_mut().unwrap().stop();
    for folder in [rtx.state(), world.data()] {
        for file in tests::files_below(&folder) {
            if file.extension().is_some_and(|end| end == "db") {
                let database = rusqlite::Connection::open(file).unwrap();
                database.pragma_update(None, "user_version", 9999).unwrap();
            }
        }
    }
    insta::assert_snapshot!("agent_database_newer", said(&world, &rtx.agent_command(&["run"])));
    insta::assert_snapshot!("server_database_newer", said(&world, &world.server_command(&["run"])));
}
