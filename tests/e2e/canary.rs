//! Plaintext canary: no secret value where it must not be, after everything has happened.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use tests::{Host, MASTER, World, bins, files_below, watch};

use crate::three_hosts::{homelab, shell_reads};

/// Values long enough not to occur by chance.
fn values() -> Vec<String> {
    let master = shell_reads(Path::new(MASTER));
    master.into_values().filter(|value| value.len() >= 12).collect()
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Sets the level of a program's log in the one configuration below `folder`.
fn log_all(folder: &Path, level: &str) {
    let is_config = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "toml");
    let file = files_below(folder).into_iter().find(is_config).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let kept = text.split("[log]").next().unwrap();
    let mut out = std::fs::File::create(&file).unwrap();
    write!(out, "{kept}\n[log]\nlevel = \"{level}\"\n").unwrap();
}

/// Sends a request as it is to the agent's socket and returns the whole answer.
fn raw(host: &Host, request: &str) -> Vec<u8> {
    let socket = files_or_sockets(&host.dir).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn files_or_sockets(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).unwrap().flatten().find_map(|entry| {
        let kind = entry.file_type().unwrap();
        let is_api = kind.is_socket() && entry.file_name() != "agent.notify";
        if kind.is_dir() { files_or_sockets(&entry.path()) } else { is_api.then(|| entry.path()) }
    })
}

/// Requests that are refused, each with the value where it should not be.
fn refused(canary: &str) -> Vec<String> {
    let request = |line: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    [
        format!("{{\"data\":{{\"K\":\"{canary}\""),
        format!("{{\"data\":\"{canary}\"}}"),
        format!("{{\"data\":{{}},\"options\":{{\"cas\":\"{canary}\"}}}}"),
        format!("[\"{canary}\"]"),
        format!("{{\"data\":{{\"K\":\"{canary}\"}},\"options\":{{\"cas\":99}}}}"),
    ]
    .iter()
    .map(|body| request("POST /v1/secret/data/jjeco/api-keys", body))
    .collect()
}

#[test]
fn no_value_is_where_it_must_not_be() {
    let mut world = World::new(bins!());
    let mut hosts = homelab(&world);
    // Everything is logged, and a hook prints the file: its output goes to the log with values
    // masked.
    hosts[0].stop();
    world.server.as_mut().unwrap().stop();
    log_all(&world.data(), "debug");
    world.start();
    let printing = hosts[0].dir.join("home/printed.env");
    let printing = printing.to_str().unwrap();
    let show = format!("cat {printing}; cat {printing} >&2; false");
    let args = ["target", "add", printing, "secret/jjeco/api-keys", "--on-change", &show];
    let _ = hosts[0].agent_command(&args).ok();
    log_all(&hosts[0].dir, "trace");
    hosts[0].start();
    let [rtx, vps, _] = &hosts;
    let canary = "canary-4b1d-canary-77aa";
    watch::poll("writes are taken", || {
        let args = ["kv", "patch", "secret/jjeco/api-keys", "CANARY=-"];
        (rtx.vault_with(&args, canary).code == 0).then_some(())
    });
    watch::until(&vps.env_file(), |text| text.contains(canary));
    let read = rtx.vault(&["kv", "get", "-field=CANARY", "secret/jjeco/api-keys"]).ok();
    assert_eq!(read, canary);
    let mut needles = values();
    needles.push(canary.to_owned());
    assert!(needles.len() > 10);

    let daemons = hosts.iter().filter_map(|host| host.agent.as_ref()).chain(&world.server);
    for daemon in daemons {
        for file in ["cmdline", "environ"] {
            // Where this is not root, the kernel shows nobody a daemon's environment.
            match std::fs::read(format!("/proc/{}/{file}", daemon.pid())) {
                Ok(bytes) => check(&format!("{file} of a daemon"), &bytes, &needles),
                Err(why) => assert_eq!(why.kind(), std::io::ErrorKind::PermissionDenied),
            }
        }
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let core: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(core, ["0", "0"], "a daemon may leave a core dump");
    }
    for request in refused(canary) {
        let answer = raw(rtx, &request);
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
        check("an answer that refuses", &answer, &needles);
    }
    for args in [&["audit", "log", "--format", "json"][..], &["status", "--format", "json"]] {
        let ran = rtx.vault(args);
        assert!(ran.out.len() > 100, "{}", ran.err);
        check(&format!("{args:?}"), format!("{}{}", ran.out, ran.err).as_bytes(), &needles);
    }
    watch::until(&rtx.log_file(), |text| text.contains("printed.env"));
    let mut seen = 0;
    let mut look = |folder: &Path| {
        // The targets and the owner's kit are where secrets belong.
        let wanted = |file: &PathBuf| file.extension().is_none_or(|kind| kind != "env");
        let kept = |file: &PathBuf| file.file_name().is_some_and(|name| name != ".env");
        for file in files_below(folder).into_iter().filter(wanted).filter(kept) {
            check(&file.display().to_string(), &std::fs::read(&file).unwrap(), &needles);
            seen += 1;
        }
    };
    world.server.as_mut().unwrap().kill();
    look(&world.data());
    // All that its database holds, wherever that is.
    let copy = world.dir().join("copy");
    let _ = world.server_command(&["backup", copy.to_str().unwrap()]).ok();
    check("a backup", &std::fs::read(copy).unwrap(), &needles);
    for host in &hosts {
        look(&host.dir);
    }
    assert!(seen > 10, "{seen} files searched");
    for log in hosts.iter().map(Host::log_file).chain([world.log_file()]) {
        check(&log.display().to_string(), &std::fs::read(&log).unwrap(), &needles);
    }
}

fn check(place: &str, bytes: &[u8], needles: &[String]) {
    for needle in needles {
        assert!(!holds(bytes, needle), "{place} holds the plaintext `{needle}`");
    }
}
