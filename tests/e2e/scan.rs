//! `vault scan`: files, encodings, git's history, what is staged, and a hook that refuses a commit.
//! No value is ever shown.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tests::{Host, Ran, World, bins, run};

const TOKEN: &str = "tok_9fQ2xLw7RbZk31";
const PASSWORD: &str = "p@ss w\"rd/42!";

/// Runs a command in `folder`, with this machine's programs and git's settings.
fn shell(host: &Host, folder: &Path, script: &str) -> Ran {
    let mut command = host.command("sh");
    command.args(["-c", script]).current_dir(folder);
    command.env("GIT_AUTHOR_NAME", "a").env("GIT_AUTHOR_EMAIL", "a@b");
    command.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b");
    run(&mut command, "")
}

/// Scans in `folder`; neither stream may hold a value.
fn scan(host: &Host, folder: &Path, args: &[&str]) -> Ran {
    let mut command = host.command(host.bins.vault);
    command.arg("scan").args(args).current_dir(folder);
    let ran = run(&mut command, "");
    for value in [TOKEN, PASSWORD, "tok_old_5Hq8nV2c"] {
        assert!(!format!("{}{}", ran.out, ran.err).contains(value), "{}{}", ran.out, ran.err);
    }
    ran
}

fn vault() -> (World, Host, PathBuf) {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/app", "TOKEN=tok_old_5Hq8nV2c", "PORT=3306"]).ok();
    let token = format!("TOKEN={TOKEN}");
    let _ = host.vault(&["kv", "put", "secret/app", &token, "PORT=3306", "HOST=localhost"]).ok();
    let password = format!("PASSWORD={PASSWORD}");
    let _ = host.vault(&["kv", "put", "secret/db", &password]).ok();
    let folder = host.dir.join("home/work");
    std::fs::create_dir_all(&folder).unwrap();
    (world, host, folder)
}

fn put(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().write_all(content).unwrap();
}

#[test]
fn values_are_found_in_files_in_every_form() {
    let (_world, host, folder) = vault();
    put(&folder, "clean.txt", b"PORT=3306 localhost tok_9fQ2xLw7RbZk3\n");
    let ran = scan(&host, &folder, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(
        ran.err,
        "searched 1 file (38 B) for 2 values of 2 secrets: nothing found\n\
         not looked for: 2 values too short or easy to guess (-v names them, --min-length N looks for all from N bytes on)\n"
    );

    put(&folder, "a/plain.env", format!("# x\nTOKEN={TOKEN}\n").as_bytes());
    put(&folder, "a/binary", format!("\0\n\u{1}{TOKEN}").as_bytes());
    put(&folder, "json", br#"{"p": "p@ss w\"rd/42!"}"#);
    put(&folder, "k8s.yaml", b"data:\n  conn: dXNlcjp0b2tfOWZRMnhMdzdSYlprMzE6eA==\n");
    put(&folder, "url", b"postgres://app:p%40ss%20w%22rd%2F42!@db/x");
    put(&folder, "hex", b"7040737320772272642f343221\n");
    put(&folder, &format!("names/{TOKEN}.txt"), b"");
    assert!(shell(&host, &folder, "mkfifo pipe; ln -s a link").code == 0);
    let ran = scan(&host, &folder, &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert_eq!(
        ran.out,
        "./a/binary:2: secret/app TOKEN (v2, plain)\n\
         ./a/plain.env:2: secret/app TOKEN (v2, plain)\n\
         ./hex:1: secret/db PASSWORD (v1, hex)\n\
         ./json:1: secret/db PASSWORD (v1, json)\n\
         ./k8s.yaml:2: secret/app TOKEN (v2, base64)\n\
         ./names/***:0: secret/app TOKEN (v2, plain)\n\
         ./url:1: secret/db PASSWORD (v1, percent)\n"
    );
    assert!(ran.err.contains("passed by: named pipe (1), symbolic link (1)"), "{}", ran.err);

    // Older versions, short values and chosen keys only when asked for.
    put(&folder, "old", b"tok_old_5Hq8nV2c 3306");
    let old = folder.join("old");
    let old = old.to_str().unwrap();
    assert_eq!(scan(&host, &folder, &[old]).code, 0);
    let ran = scan(&host, &folder, &["--all-versions", "--format", "json", old]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, 1);
    assert_eq!(json["finds"][0]["secret"], "secret/app");
    assert_eq!(json["finds"][0]["version"], 1);
    assert_eq!(json["finds"].as_array().unwrap().len(), 1);
    let ran = scan(&host, &folder, &["-min-length=4", "-v", old]);
    assert_eq!((ran.code, ran.out), (1, format!("{old}:1: secret/app PORT (v2, plain)\n")));
    let plain = folder.join("a/plain.env");
    let ran = scan(&host, &folder, &["--not-key", "TOKEN", plain.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn what_cannot_be_searched_ends_with_2() {
    let (mut world, mut host, folder) = vault();
    put(&folder, "a", b"x");
    for args in [&["nowhere"][..], &["--git"], &["--staged"], &["--min-length", "2"], &["--nope"]] {
        let ran = scan(&host, &folder, args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?} {}", ran.err);
    }
    assert!(shell(&host, &folder, "mkfifo pipe; ln -s a link").code == 0);
    for (name, text) in [("pipe", "is a named pipe"), ("link", "is a symbolic link")] {
        let ran = scan(&host, &folder, &[name]);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(text), "{}", ran.err);
    }
    let gone = format!("mkdir gone; cd gone; rmdir ../gone; '{}' scan", host.bins.vault);
    let ran = shell(&host, &folder, &gone);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("`.`: the working folder cannot be found"), "{}", ran.err);
    let mut bare = host.command(host.bins.vault);
    bare.args(["scan", "--git"]).current_dir(&folder).env("PATH", "/nowhere");
    let ran = run(&mut bare, "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("there is no program `git` in PATH"), "{}", ran.err);

    // A machine that may read nothing does not call a tree clean, and puts no refusal on record.
    let other = world.machine(&host, "vps", &["secret/none/"]);
    let ran = scan(&other, &folder, &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("none of the vault's secrets may be read here"), "{}", ran.err);
    let _ = other.vault(&["write", "-f", "agent/sync"]).ok();
    let ran = host.vault(&["audit", "log", "--machine", "vps"]);
    assert!(ran.out.contains(" listed "), "{}", ran.out);
    assert!(!ran.out.contains("secret/app"), "{}", ran.out);

    // What a token is for is looked for, and nothing else.
    put(&folder, "both", format!("{TOKEN}\n{PASSWORD}\n").as_bytes());
    let args = ["token", "create", "--path", "secret/db", "-field=token"];
    let mut limited = host.command(host.bins.vault);
    limited.args(["scan", "both"]).current_dir(&folder);
    let ran = run(limited.env("VAULT_TOKEN", host.vault(&args).ok().trim()), "");
    assert_eq!((ran.code, ran.out.as_str()), (1, "both:2: secret/db PASSWORD (v1, plain)\n"));
    assert!(ran.err.contains("for 1 value of 1 secret: 1 found"), "{}", ran.err);

    // Without agent and server the cache is what is looked for.
    host.stop();
    drop(world.server.take());
    put(&folder, "leak", TOKEN.as_bytes());
    let ran = scan(&host, &folder, &["leak"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "leak:1: secret/app TOKEN (v2, plain)\n"));
}

#[test]
fn a_scan_is_on_record_as_one_read_of_each_secret() {
    let (_world, host, folder) = vault();
    let reads = || {
        let log =
            host.vault(&["audit", "log", "-n", "1000", "--op", "local_read", "--format", "json"]);
        log.out.matches("\"path\": \"secret/app\"").count()
    };
    assert_eq!(reads(), 0);
    assert_eq!(scan(&host, &folder, &[]).code, 0);
    let _ = host.vault(&["write", "-f", "agent/sync"]).ok();
    assert_eq!(reads(), 1);
}

#[test]
fn targets_of_the_agent_are_expected_where_git_ignores_them() {
    let (_world, host, _) = vault();
    host.target(&["secret/app"]);
    tests::watch::until(&host.env_file(), |text| text.contains(TOKEN));
    let home = host.dir.join("home");
    let ran = scan(&host, &home, &["-v", ".env"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("passed by: target of this machine's agent"), "{}", ran.err);
    assert!(ran.err.contains(".env: holds values as a target"), "{}", ran.err);
    // Once git would take it up, it is a find.
    assert_eq!(shell(&host, &home, "git init -q .").code, 0);
    assert_eq!(scan(&host, &home, &[".env"]).code, 1);
    put(&home, ".gitignore", b".env\n");
    assert_eq!(scan(&host, &home, &[".env"]).code, 0);
}

#[test]
fn history_names_the_commit_that_brought_a_value() {
    let (_world, host, folder) = vault();
    let ran = shell(&host, &folder, "git init -q . && git commit -q --allow-empty -m start");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = scan(&host, &folder, &["--git"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    put(&folder, "sub dir/conf", format!("a\nb={TOKEN}\n").as_bytes());
    let script = format!(
        "git add . && git commit -qm leak && git rev-parse HEAD && git rm -rq . && git commit -qm clean \
         && git checkout -qb other HEAD~2 && git commit -q --allow-empty -m 'uses {TOKEN}' && git tag -am 't' t1 && git rev-parse HEAD \
         && git checkout -q - && git pack-refs --all && git gc -q"
    );
    let ran = shell(&host, &folder, &script);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let commits: Vec<&str> = ran.out.lines().collect();
    let [leak, message] = commits[..] else { panic!("{commits:?}") };
    let ran = scan(&host, &folder.join(".git"), &["--git"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let mut lines: Vec<&str> = ran.out.lines().collect();
    lines.sort_unstable();
    let mut expected = [
        format!("{}:sub dir/conf:2: secret/app TOKEN (v2, plain)", &leak[..12]),
        format!("{} (message):6: secret/app TOKEN (v2, plain)", &message[..12]),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    // The files of today are clean; where git has noted down the message is not.
    let ran = scan(&host, &folder, &[]);
    assert!(ran.out.lines().all(|line| line.starts_with("./.git/")), "{}", ran.out);
    assert!(ran.out.contains("./.git/logs/refs/heads/other:2: secret/app TOKEN (v2, plain)"));
    let ran = scan(&host, &folder, &["--git", "-format=json", folder.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let finds = json["finds"].as_array().unwrap();
    assert!(finds.iter().any(|find| find["commit"] == *leak && find["file"] == "sub dir/conf"));
}

#[test]
fn a_hook_refuses_a_commit_with_a_value_in_it() {
    let (_world, host, folder) = vault();
    let sub = folder.join("deep/er");
    std::fs::create_dir_all(&sub).unwrap();
    assert_eq!(shell(&host, &folder, "git init -q .").code, 0);
    let hook = folder.join(".git/hooks/pre-commit");

    // A foreign hook stays, until it is told to make room; then it runs first.
    tests::script(&hook, "#!/bin/sh\necho mine ran\n");
    let ran = scan(&host, &sub, &["--install-hook"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is another hook"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), "#!/bin/sh\necho mine ran\n");
    let ran = scan(&host, &sub, &["--install-hook", "--force"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let text = std::fs::read_to_string(&hook).unwrap();
    let ran = scan(&host, &folder, &["--install-hook"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("is installed already"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), text);

    put(&folder, "a", format!("x={TOKEN}\n").as_bytes());
    let ran = shell(&host, &sub, "git add ../../a && git commit -qm leak");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("mine ran"), "{}", ran.err);
    assert!(ran.err.contains("a:1: secret/app TOKEN (v2, plain)"), "{}", ran.err);
    assert!(ran.err.contains("pre-commit: refused: values of the vault are staged"), "{}", ran.err);
    assert!(!ran.err.contains(TOKEN) && !ran.out.contains(TOKEN));
    assert_ne!(shell(&host, &folder, "git rev-parse -q --verify HEAD").code, 0);

    // What is staged counts, not what lies in the folder; and what HEAD has already is no news.
    put(&folder, "a", b"x=y\n");
    assert_eq!(scan(&host, &folder, &["--staged"]).code, 1);
    let ran = shell(&host, &folder, "git add a && git commit -qm clean");
    assert_eq!(ran.code, 0, "{}", ran.err);
    put(&folder, "b", format!("{TOKEN}\n").as_bytes());
    assert_eq!(scan(&host, &folder, &["--staged"]).code, 0);
    assert_eq!(shell(&host, &folder, "git add b && git commit -qnm anyway").code, 0);
    assert_eq!(scan(&host, &folder, &["--staged"]).code, 0);

    // `commit -a` brings an index of its own; work trees and core.hooksPath are found.
    put(&folder, "a", format!("{TOKEN}\n").as_bytes());
    assert_eq!(shell(&host, &folder, "git commit -qam leak").code, 1);
    assert_eq!(shell(&host, &folder, "git checkout -q a && git worktree add -q ../tree").code, 0);
    let tree = host.dir.join("home/tree");
    put(&tree, "c", TOKEN.as_bytes());
    assert_eq!(shell(&host, &tree, "git add c && git commit -qm leak").code, 1);
    let script = "git config core.hooksPath own-hooks";
    assert_eq!(shell(&host, &folder, script).code, 0);
    let ran = scan(&host, &sub, &["--install-hook", "--not-key", "TOKEN"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("every repository with that setting"), "{}", ran.err);
    assert!(folder.join("own-hooks/pre-commit").is_file(), "{}", ran.err);
    let ran =
        shell(&host, &folder, &format!("echo {TOKEN} > d; git add d && git commit -qm chosen"));
    assert_eq!(ran.code, 0, "{}", ran.err);
}
