//! Master files: a save is published once, a change made elsewhere is written back, and no edit is ever lost.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Host, World, bins, watch};

/// A host whose agent follows `home/.env.master` as the master of `secret/app`, published as version 1.
fn world() -> (World, Host, PathBuf) {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let file = host.dir.join("home").join(".env.master");
    save(&file, "# Keys of the lab\n\nOPENAI=sk-1   # Jonas'\nexport STRIPE='a b'\nOLD=x\n");
    let table = format!("[[source]]\npath = \"{}\"\nsecret = \"secret/app\"\n", file.display());
    save(&host.state().join("agent.toml"), &table);
    published(&host, 1);
    (world, host, file)
}

/// Saves a file in place.
fn save(file: &Path, content: &str) {
    std::fs::File::create(file).unwrap().write_all(content.as_bytes()).unwrap();
}

fn version(host: &Host) -> u64 {
    let got = host.vault(&["kv", "metadata", "get", "-format=json", "secret/app"]);
    let answer: serde_json::Value = serde_json::from_str(&got.out).unwrap_or_default();
    answer["data"]["current_version"].as_u64().unwrap_or(0)
}

/// Waits until the secret has this version.
fn published(host: &Host, ver: u64) {
    watch::poll("a save is published", || (version(host) >= ver).then_some(()));
    assert_eq!(version(host), ver);
}

fn field(host: &Host, key: &str) -> String {
    host.vault(&["kv", "get", &format!("-field={key}"), "secret/app"]).ok()
}

fn shell(script: &str, file: &Path) {
    let done = Command::new("sh").args(["-euc", script, "sh"]).arg(file).status().unwrap();
    assert!(done.success(), "{script}");
}

#[test]
fn every_way_of_saving_publishes_one_version() {
    let (_world, host, file) = world();
    assert_eq!(field(&host, "STRIPE"), "a b");
    let ways = [
        // In place, as nano does.
        "sed 's/sk-1/sk-2/' \"$1\" > \"$1.tmp\"; cat \"$1.tmp\" > \"$1\"; rm \"$1.tmp\"",
        "sed -i 's/sk-2/sk-3/' \"$1\"",
        // A copy over it.
        "sed 's/sk-3/sk-4/' \"$1\" > \"$1.new\"; cp \"$1.new\" \"$1\"; rm \"$1.new\"",
        // The old file moved aside, a new one in its place: vim with a backup.
        "mv \"$1\" \"$1~\"; sed 's/sk-4/sk-5/' \"$1~\" > \"$1\"; rm \"$1~\"",
        // Another file moved over it: VS Code and many others.
        "sed 's/sk-5/sk-6/' \"$1\" > \"$1.xyz\"; mv \"$1.xyz\" \"$1\"",
        // Emptied and written in two pieces.
        "sed 's/sk-6/sk-7/' \"$1\" > \"$1.a\"; head -n 3 \"$1.a\" > \"$1\"; tail -n +4 \"$1.a\" >> \"$1\"; rm \"$1.a\"",
    ];
    for (way, ver) in ways.iter().zip(2..) {
        shell(way, &file);
        published(&host, ver);
        assert_eq!(field(&host, "OPENAI"), format!("sk-{ver}"));
        assert_eq!(field(&host, "OLD"), "x");
    }
    // The same content again is no version.
    shell("cp \"$1\" \"$1.c\"; cat \"$1.c\" > \"$1\"; rm \"$1.c\"", &file);
    save(&file, &std::fs::read_to_string(&file).unwrap().replace("sk-7", "sk-8"));
    published(&host, 8);
}

#[test]
fn a_broken_or_empty_save_publishes_nothing_and_names_the_line() {
    let (_world, host, file) = world();
    save(&file, "OPENAI=sk-2\nSTRIPE='never ends\n");
    let alarm = |part: &str| {
        watch::poll(part, || host.vault(&["status"]).err.contains(part).then_some(()));
    };
    alarm("line 2");
    assert_eq!(version(&host), 1);
    save(&file, "");
    alarm("holds no variable; nothing was published");
    std::fs::remove_file(&file).unwrap();
    alarm("is missing; nothing was published");
    assert_eq!((version(&host), field(&host, "OPENAI").as_str()), (1, "sk-1"));
    save(&file, "OPENAI=sk-9\n");
    published(&host, 2);
}

#[test]
fn a_change_made_elsewhere_is_written_into_its_line_and_published_by_nobody() {
    let (_world, host, file) = world();
    let _ = host.vault(&["kv", "patch", "secret/app", "OPENAI=sk-9", "NEW=n"]).ok();
    let expected =
        "# Keys of the lab\n\nOPENAI=sk-9   # Jonas'\nexport STRIPE='a b'\nOLD=x\nNEW=n\n";
    let text = watch::until(&file, |text| text.contains("NEW=n"));
    assert_eq!(text, expected);
    // The next version is the next save: what was written back was not taken for an edit.
    save(&file, &text.replace("OLD=x\n", ""));
    published(&host, 3);
    assert_eq!(host.vault(&["kv", "get", "-field=OLD", "secret/app"]).code, 1);
}

#[test]
fn an_edit_that_meets_a_change_is_kept_beside_the_file() {
    let (_world, mut host, file) = world();
    host.stop();
    save(&file, "OPENAI=mine\n");
    // With no agent running, the command itself writes.
    let _ = host.vault(&["kv", "patch", "secret/app", "OPENAI=theirs"]).ok();
    host.start();
    let text = watch::until(&file, |text| text.contains("theirs"));
    assert!(text.contains("STRIPE"), "{text}");
    let copy = watch::poll("the edit is kept", || {
        let names = std::fs::read_dir(file.parent().unwrap()).unwrap().flatten();
        names
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains(".env.master.conflict-"))
    });
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "OPENAI=mine\n");
    assert_eq!(version(&host), 2);
    let shown = watch::poll("the alarm is shown", || {
        let status = host.vault(&["status"]).err;
        status.contains("E_CONFLICT").then_some(status)
    });
    assert!(shown.contains(".env.master.conflict-"), "{shown}");
    std::fs::remove_file(copy).unwrap();
    watch::poll("the alarm goes with the copy", || {
        (!host.vault(&["status"]).err.contains("E_CONFLICT")).then_some(())
    });
}

#[test]
fn what_was_saved_while_the_server_was_away_is_published_when_it_is_back() {
    let (mut world, host, file) = world();
    world.server.as_mut().unwrap().stop();
    save(&file, "OPENAI=sk-5\n");
    world.start();
    published(&host, 2);
    assert_eq!(field(&host, "OPENAI"), "sk-5");
}
