//! AI agents in the record: who works for one is marked, and says why where that is demanded.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::Command;

use host::files::{Access, replace_trusted};
use serde_json::Value;
use tests::{Host, Port, Ran, World, bins, run, watch};

const SECRET: &str = "secret/a";

/// Prepares a shell that goes by the name of another program, with a script.
fn shell(host: &Host, name: &str, script: &str) -> Command {
    let file = host.dir.join("home").join(name);
    if !file.exists() {
        symlink("/bin/bash", &file).unwrap();
    }
    let mut command = host.command(file.to_str().unwrap());
    // A single command would take the place of the shell.
    command
        .args(["-c", &format!("{script}\ntrue")])
        .env("V", host.bins.vault)
        .env("A", host.bins.agent);
    command
}

fn act(host: &Host, name: &str, script: &str) -> Ran {
    run(&mut shell(host, name, script), "")
}

/// Returns the records of reads and writes by processes, as filters have them.
fn records(host: &Host, filter: &[&str]) -> Vec<Value> {
    let all = [&["audit", "log", "--path", SECRET, "-n", "1000", "--format", "json"], filter];
    let all: Vec<Value> = serde_json::from_str(&host.vault(&all.concat()).ok()).unwrap();
    all.into_iter().filter(|it| it["op"].as_str().unwrap().starts_with("local_")).collect()
}

fn is(record: &Value, name: &str) -> bool {
    record["agent"].as_str() == (!name.is_empty()).then_some(name)
}

#[test]
fn who_works_for_an_ai_agent_is_marked() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "k=v"]).ok();
    let marked = |name: &'static str, reason: &str| {
        watch::poll(reason, || {
            let found = records(&host, &["--op", "local_read", "--reason", reason]);
            found.first().map(|record| assert!(is(record, name), "{reason}: {record}"))
        });
    };
    // By a parent.
    let _ = act(&host, "claude", "$V kv get -reason 'by name' secret/a").ok();
    marked("claude-code", "by name");
    let python = "python3 -c \"import os, subprocess\nsubprocess.run([os.environ['V'], 'kv', 'get', \
                  '-reason', 'by a child', 'secret/a'], check=True)\"";
    let _ = act(&host, "codex", python).ok();
    marked("codex", "by a child");
    // By the environment, of the process itself and of a parent whose own parents have ended.
    let mut own = host.command(host.bins.vault);
    own.args(["kv", "get", "-reason", "by environment", SECRET]).env("CLAUDECODE", "1");
    let _ = run(&mut own, "").ok();
    marked("claude-code", "by environment");
    let done = host.dir.join("home/done");
    let orphan = |clear: &str, reason: &str| {
        let _ = std::fs::remove_file(&done);
        let script = format!("export P=$$; (setsid {clear} bash -c \"$INNER\" >/dev/null 2>&1 &)");
        let inner = "while kill -0 $P; do sleep 0.05; done; $V kv get -reason \"$R\" secret/a; \
                     echo done > done";
        let mut command = shell(&host, "gemini", &script);
        command.env("INNER", inner).env("R", reason).env("GEMINI_CLI", "1");
        let _ = run(&mut command, "").ok();
        watch::until(&done, |text| text == "done\n");
    };
    orphan("", "left its parent");
    marked("gemini-cli", "left its parent");
    // What hides is not found: a record, and no wall.
    let kept = ["HOME", "PATH", "VAULT_STATE_DIR", "V", "R", "P"];
    let kept = kept.map(|name| format!("{name}=\"${name}\"")).join(" ");
    orphan(&format!("env -i {kept}"), "left it all");
    marked("", "left it all");

    let log = host.vault(&["audit", "log", "--path", SECRET, "--agent", "claude*"]).ok();
    assert!(log.contains(" by claude-code "), "{log}");
    assert!(log.contains("read secret/a v1; reason: by name\n"), "{log}");
    assert!(!log.contains("codex") && !log.contains("gemini"), "{log}");
    let summary = host.vault(&["audit", "summary", "--agents"]).ok();
    assert!(summary.contains(" by codex ") && summary.contains(" by gemini-cli "), "{summary}");
    let csv = host.vault(&["audit", "log", "--agents", "--format", "csv"]).ok();
    assert!(csv.lines().next().unwrap().ends_with(",what,agent,reason"), "{csv}");
    assert!(csv.lines().any(|line| line.ends_with(",codex,by a child")), "{csv}");
    assert!(host.vault(&["audit", "verify"]).ok().contains("are whole"));
}

fn verbs_want_a_reason(host: &Host) {
    for (program, name) in [("claude", "claude-code"), ("my-tool", "my-tool")] {
        for verb in [
            "kv get secret/a",
            "kv get -field=k secret/a",
            "kv put secret/a k=2",
            "kv patch secret/a k=2",
            "kv delete secret/a",
            "run secret/a -- true",
            "export secret/a",
            "read secret/data/a",
            "token create -ttl 1m",
            "blast secret/a",
        ] {
            let ran = act(host, program, &format!("$V {verb} || exit $?"));
            assert_ne!(ran.code, 0, "{verb}: {}", ran.out);
            assert!(!ran.out.contains("hunter2"), "{verb}: {}", ran.out);
            let text = format!("a reason is wanted of `{name}`, and none was given");
            assert!(ran.err.contains(&text), "{verb}: {}", ran.err);
            assert!(ran.err.contains("hint: say why with `--reason TEXT`"), "{verb}: {}", ran.err);
        }
        // Names tell no value.
        assert!(act(host, program, "$V kv list secret").ok().contains("a\n"));
        let got = act(host, program, "$V kv get -field=k --reason 'fix the login' secret/a").ok();
        assert_eq!(got, "hunter2");
        let got = act(host, program, "VAULT_REASON=again $V kv get -field=k secret/a").ok();
        assert_eq!(got, "hunter2");
    }
}

/// The same over TCP, by header.
fn over_tcp(host: &Host, addr: SocketAddr) {
    let (ip, number) = (addr.ip(), addr.port());
    let ask = |header: &str| {
        let script = format!(
            "exec 3<>/dev/tcp/{ip}/{number}; printf 'GET /v1/secret/data/a HTTP/1.1\\r\\n\
             Host: localhost\\r\\n{header}Connection: close\\r\\n\\r\\n' >&3; cat <&3"
        );
        act(host, "goose", &script).ok()
    };
    let refused = ask("");
    assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("hunter"), "{refused}");
    assert!(refused.contains("a reason is wanted of `goose`"), "{refused}");
    let long = format!("X-Vault-Reason: {}\\r\\n", "a".repeat(201));
    for header in [&*long, "X-Vault-Reason: a\\tb\\r\\n", "X-Vault-Reason:  \\r\\n"] {
        let refused = ask(header);
        assert!(refused.starts_with("HTTP/1.1 40") && !refused.contains("hunter"), "{refused}");
    }
    let given = ask("X-Vault-Reason: smoke test\\r\\n");
    assert!(given.starts_with("HTTP/1.1 200") && given.contains("hunter3"), "{given}");
}

fn all_is_on_record(host: &Host) {
    watch::poll("all of it is on record", || {
        let by = |more: &[&str]| records(host, &[&["--agents"], more].concat());
        let refused = by(&["--result", "no_reason"]);
        let is_told = |name: &str| refused.iter().any(|record| is(record, name));
        let patched = by(&["--reason", "NEW login", "--op", "write"]);
        let over_tcp = by(&["--reason", "smoke*"]);
        let added = by(&["--reason", "the new service"]);
        (["claude-code", "my-tool", "goose"].iter().all(|name| is_told(name))
            && patched.iter().any(|record| record["reason"] == "new login")
            && over_tcp.iter().any(|record| record["agent"] == "goose")
            && added.iter().any(|record| is(record, "claude-code")))
        .then_some(())
    });
}

#[test]
fn an_ai_agent_says_why_or_gets_nothing() {
    let world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "k=hunter2"]).ok();
    let port = Port::reserve();
    let (ip, number) = (port.address().ip(), port.address().port());
    let config = format!(
        "[api]\nrequire_reason = \"agents\"\nai_tools = [\"my-tool\"]\n\
         listen = \"{ip}:{number}\"\nauth = \"loopback\"\n"
    );
    host.stop();
    let file = host.state().join("agent.toml");
    replace_trusted(&file, config.as_bytes(), Access::PRIVATE).unwrap();
    host.start();

    // People go on as before.
    assert!(host.vault(&["kv", "get", SECRET]).ok().contains("hunter2"));
    verbs_want_a_reason(&host);
    let _ = act(&host, "claude", "$V kv patch --reason 'new login' secret/a k=hunter3").ok();
    // A reason is no place for a value.
    let _ = host.vault(&["kv", "put", "secret/b", "k=correct-horse"]).ok();
    for told in [
        "get --reason 'is it correct-horse?' secret/b",
        "put --reason 'a battery-staple' secret/b k=battery-staple",
    ] {
        let ran = act(&host, "claude", &format!("$V kv {told} || exit $?"));
        assert!(ran.code != 0 && ran.out.is_empty(), "{}", ran.out);
        assert!(ran.err.contains("the reason holds a value of the vault"), "{}", ran.err);
    }

    // What is in a file is as good as read.
    for verb in ["target add out.env secret/a", "source add out.env secret/a"] {
        let ran = act(&host, "claude", &format!("touch out.env; $A {verb} || exit $?"));
        assert!(
            ran.code != 0 && ran.err.contains("a reason is wanted of `claude-code`"),
            "{}",
            ran.err
        );
    }
    let _ = act(&host, "claude", "rm out.env").ok();
    let add = "$A target add --reason 'the new service' out.env secret/a || exit $?";
    let _ = act(&host, "claude", add).ok();
    watch::until(&host.dir.join("home/out.env"), |text| text.contains("hunter3"));

    over_tcp(&host, port.address());
    all_is_on_record(&host);
    let denied = host.vault(&["audit", "log", "--denied", "--agents"]).ok();
    assert!(denied.contains("refused (no_reason): read secret/a"), "{denied}");

    let all = host.vault(&["audit", "export"]).ok();
    assert!(!all.contains("correct-horse") && !all.contains("battery-staple"), "{all}");

    // Nor does it help to have no agent to ask.
    host.stop();
    let ran = act(&host, "claude", "$V kv get secret/a || exit $?");
    assert_ne!(ran.code, 0, "{}", ran.out);
    assert!(ran.err.contains("a reason is wanted of `claude-code`"), "{}", ran.err);
    let got = act(&host, "claude", "$V kv get -field=k -reason x secret/a").ok();
    assert_eq!(got, "hunter3");
    let bad = host.vault(&["kv", "get", "-reason", "a\nb", SECRET]);
    assert!(
        bad.code == 1 && bad.err.contains("--reason: a reason with a line's end"),
        "{}",
        bad.err
    );
}
