//! A status that can be trusted: it says what is wrong, since when and what to type, and ends with
//! 0 only if everything is known to be right.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use tests::{Host, Ran, World, bins, watch};

use crate::three_hosts::homelab;

const SECRET: &str = "secret/jjeco/api-keys";

/// Waits until the status of a machine ends with `code` and says all of `parts`.
fn says(host: &Host, code: i32, parts: &[&str]) -> Ran {
    watch::poll(&format!("exit {code}, {parts:?}"), || {
        let ran = host.vault(&["status"]);
        let all = format!("{}{}", ran.out, ran.err);
        (ran.code == code && parts.iter().all(|part| all.contains(part))).then_some(ran)
    })
}

#[test]
fn a_server_that_is_gone_is_said_and_nobody_is_called_present() {
    let mut world = World::new(bins!());
    let [mut rtx, _vps, _thinkpad] = homelab(&world);
    says(&rtx, 0, &["thinkpad"]);
    world.server.as_mut().unwrap().kill();
    let gone = "not connected to the server";
    let told = [gone, world.address(), "systemctl status vault-server", "NOT WELL"];
    let check = |ran: Ran| {
        for row in ran.out.lines().filter(|row| row.starts_with("vps") || row.starts_with("think"))
        {
            assert!(row.ends_with(" ago"), "{row}");
        }
        let own = ran.out.lines().find(|row| row.starts_with("rtx1080")).unwrap();
        assert!(own.ends_with(" now"), "{own}");
    };
    check(says(&rtx, 2, &told));
    // As after a reboot.
    rtx.stop();
    rtx.start();
    check(says(&rtx, 2, &told));
    let own = rtx.agent_command(&["status"]);
    assert!(own.code == 2 && own.out.contains(gone), "{}", own.out);
    world.start();
    says(&rtx, 0, &["thinkpad"]);
}

#[test]
fn what_does_not_exist_is_loud_from_the_start() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let mut vps = world.machine(&rtx, "vps", &["secret/app/"]);
    let file = vps.env_file();
    let add = |more: &[&str]| {
        let args = [&["target", "add", file.to_str().unwrap()], more].concat();
        let ran = vps.agent_command(&args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    let told = add(&["secret/app/aap"]);
    assert!(told.contains("warning: there is no secret `secret/app/aap`"), "{told}");
    let missing = "missing: no secret `secret/app/aap`";
    says(&rtx, 2, &["vps ", missing, "hint: `vault kv put secret/app/aap KEY=-`"]);
    let own = vps.agent_command(&["status"]);
    assert!(own.code == 2 && own.out.contains("alarm    E_TARGET_MISSING"), "{}", own.out);
    let _ = rtx.vault(&["kv", "put", "secret/app/aap", "A=1"]).ok();
    watch::until(&file, |text| text.contains("A=1\n"));
    says(&rtx, 0, &["vps"]);

    let _ = vps.agent_command(&["target", "remove", file.to_str().unwrap(), "--purge"]).ok();
    let told = add(&["secret/app/aap", "--keys", "A,AA"]);
    assert!(told.contains("warning: no secret has `AA`"), "{told}");
    let ran = says(&rtx, 2, &["vps ", "missing: no secret has the key `AA`"]);
    assert!(!ran.err.contains("`A`,"), "{}", ran.err);
    vps.stop();
    assert_eq!(vps.agent_command(&["once"]).code, 2, "a key is missing");
    let _ = rtx.vault(&["kv", "patch", "secret/app/aap", "AA=2"]).ok();
    let right = vps.agent_command(&["once"]);
    assert_eq!(right.code, 0, "{} {}", right.out, right.err);
    assert!(std::fs::read_to_string(&file).unwrap().contains("AA=2\n"));
    vps.start();
    watch::until(&file, |text| text.contains("AA=2\n"));
    says(&rtx, 0, &["vps"]);
    let own = vps.agent_command(&["status"]);
    assert_eq!(own.code, 0, "{}", own.out);
}

#[test]
fn who_may_not_read_is_named_with_the_command_that_helps() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/app/"]);
    let _ = rtx.vault(&["kv", "put", "secret/other", "B=1"]).ok();
    vps.target(&["secret/other"]);
    let help = "vault access set vps --read secret/app/,secret/other";
    says(&rtx, 2, &["denied: `secret/other`", &format!("hint: `{help}`")]);
    let words: Vec<&str> = help.split(' ').skip(1).chain(["--yes"]).collect();
    let _ = rtx.vault(&words).ok();
    watch::until(&vps.env_file(), |text| text.contains("B=1\n"));
    says(&rtx, 0, &["vps"]);
}

#[test]
fn wait_returns_when_all_hold_it_and_names_who_does_not() {
    let world = World::new(bins!());
    let [rtx, mut vps, thinkpad] = homelab(&world);
    // Who has not reported its target yet is waited for by nobody.
    says(&rtx, 0, &["rtx1080", "thinkpad", "vps"]);
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=two"]).ok();
    let waited = rtx.vault(&["status", "--wait", SECRET]).ok();
    for host in [&rtx, &vps, &thinkpad] {
        assert!(waited.contains(&host.name), "{waited}");
        assert!(host.env().contains("OPENAI_API_KEY=two\n"), "{} holds it", host.name);
    }
    vps.stop();
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=three"]).ok();
    let late = rtx.vault(&["status", "--wait", SECRET, "--timeout", "1s"]);
    assert_eq!(late.code, 2, "{}{}", late.out, late.err);
    assert!(late.err.contains("vps ") && late.err.contains("holds v2"), "{}", late.err);
    let old = rtx.vault(&["status", "--wait", &format!("{SECRET}@2")]).ok();
    assert!(old.contains("vps"), "{old}");
    // One that sleeps is waited for by nobody.
    let _ = rtx.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).ok();
    let waited = rtx.vault(&["status", "--wait", SECRET]);
    assert_eq!(waited.code, 0, "{}", waited.err);
    assert!(waited.err.contains("not waited for, as it sleeps: vps "), "{}", waited.err);
    let none = rtx.vault(&["status", "--wait", "secret/none"]);
    assert!(none.code == 2 && none.err.contains("no machine has `secret/none`"), "{}", none.err);
}

#[test]
fn watch_writes_a_line_for_each_change() {
    let world = World::new(bins!());
    let [rtx, _vps, _thinkpad] = homelab(&world);
    says(&rtx, 0, &["thinkpad"]);
    let mut command = rtx.command(rtx.bins.vault);
    let mut child = command.args(["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |part: &str| lines.find(|line| line.as_ref().unwrap().contains(part)).unwrap();
    until("all is well").unwrap();
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=two"]).ok();
    let line = until("v2 of v2").unwrap();
    assert!(line.contains(SECRET), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_follows_ends_with_its_reader() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "A=1"]).ok();
    for words in [&["status", "--watch"][..], &["audit", "tail", "-f", "-n", "1"]] {
        let mut command = rtx.command(rtx.bins.vault);
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let _ = reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        drop(reader);
        // Nothing happens in the vault that there would be a line for.
        let ended = watch::poll("the end", || child.try_wait().unwrap());
        assert!(ended.success(), "{words:?}: {ended}");
    }
}

#[test]
fn a_hostile_name_forges_no_row() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/app/"]);
    let _ = rtx.vault(&["kv", "put", "secret/app/a", "A=1"]).ok();
    let forged = "\\u001b[2K\\r\\nthinkpad  ~/.env  secret/app/a  v1  v1  ok  now";
    let folder = vps.dir.join("home");
    let text = format!(
        "[[target]]\npath = \"{}/{forged}\"\nsecrets = [\"secret/app/a\"]\n\
         on_change = \"printf '\\\\033[2K\\\\rforged'; exit 1\"\n",
        folder.display()
    );
    let config = vps.state().join("agent.toml");
    std::fs::File::create(config).unwrap().write_all(text.as_bytes()).unwrap();
    let ran = says(&rtx, 2, &["vps ", "\\u001b[2K\\r\\nthinkpad  ~"]);
    let own = vps.agent_command(&["status"]);
    assert_eq!(own.code, 2, "{}", own.out);
    for text in [&ran.out, &ran.err, &own.out, &own.err] {
        assert!(!text.contains(['\x1b', '\r']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("thinkpad")), "{text}");
    }
}
