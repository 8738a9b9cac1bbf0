//! `vault run`: environment, exit codes, signals, starting anew, redaction, and without a server.

use std::fs::File;
use std::process::{Command, Stdio};

use tests::{World, bins, watch};

#[test]
fn a_program_gets_the_secrets_and_its_code_comes_back() {
    let mut world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/a", "A=one", "B=two words"]).ok();
    let _ = host.vault(&["kv", "put", "secret/b", "B=later", "N=7"]).ok();
    let _ = host.vault(&["kv", "put", "secret/bad", "PATH=/tmp/evil"]).ok();
    let run = |host: &tests::Host, args: &[&str]| host.vault(&[&["run"], args].concat());

    let ran = run(&host, &["secret/a", "secret/b", "--", "sh", "-c", "echo $A-$B-$N; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "one-later-7\n"));
    assert_eq!(ran.err, "warning: `B` of `secret/b` replaces that of `secret/a`\n");
    let ran =
        run(&host, &["-path", "secret/a", "-key=A", "--", "sh", "-c", "echo $A-$B; kill -TERM $$"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (128 + 15, "one-\n", ""));
    let ran = run(
        &host,
        &["--redact", "secret/a", "--", "sh", "-c", "echo x$A-$B; printf '%s' \"$B\" >&2"],
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "xone-***\n", "***"));
    let ran = run(&host, &["secret/a", "--", "/no/such/program"]);
    assert_eq!(ran.code, 127);
    let ran = run(&host, &["secret/bad", "--", "true"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("`PATH` changes what other programs run"), "{}", ran.err);
    let ran =
        run(&host, &["--allow-name", "PATH", "secret/bad", "--", "/bin/sh", "-c", "echo $PATH"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "/tmp/evil\n"));

    // Neither server nor agent: the cache answers.
    host.stop();
    drop(world.server.take());
    let ran = run(&host, &["--offline", "secret/a", "--", "sh", "-c", "echo $A"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\n"), "{}", ran.err);
    let ran = run(&host, &["-w", "--offline", "secret/a", "--", "true"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("-w needs a running agent"), "{}", ran.err);
}

#[test]
fn a_watched_program_is_started_anew_and_ended_by_a_signal() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/a", "A=1"]).ok();
    let log = host.dir.join("home/run.log");
    let script = format!("echo \"$A\" >> {}; exec sleep 600", log.display());
    let mut command = host.command(host.bins.vault);
    command.args(["run", "-w", "secret/a", "--", "sh", "-c", &script]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(host.dir.join("run.err")).unwrap());
    let mut running = command.spawn().unwrap();
    watch::until(&log, |text| text == "1\n");
    let _ = host.vault(&["kv", "put", "secret/other", "A=9"]).ok();
    let _ = host.vault(&["kv", "put", "secret/a", "A=2"]).ok();
    watch::until(&log, |text| text == "1\n2\n");
    // What cannot be read leaves the program as it is.
    let _ = host.vault(&["kv", "delete", "secret/a"]).ok();
    watch::until(&host.dir.join("run.err"), |text| text.contains("keeps what it has"));
    let _ = host.vault(&["kv", "put", "secret/a", "A=3"]).ok();
    watch::until(&log, |text| text == "1\n2\n3\n");
    let pid = running.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(128 + 15));
}
