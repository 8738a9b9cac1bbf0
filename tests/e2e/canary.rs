//! Plaintext canary: no secret value where it must not be, after everything has happened.

use tests::{Host, MASTER, World, bins, files_below, watch};

use crate::three_hosts::{homelab, shell_reads};

/// Values long enough not to occur by chance.
fn values() -> Vec<String> {
    let master = shell_reads(std::path::Path::new(MASTER));
    master.into_values().filter(|value| value.len() >= 12).collect()
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn no_value_is_where_it_must_not_be() {
    let mut world = World::new(bins!());
    let hosts = homelab(&world);
    let [rtx, vps, _] = &hosts;
    let canary = "canary-4b1d-canary-77aa";
    let _ = rtx.vault_with(&["kv", "patch", "secret/jjeco/api-keys", "CANARY=-"], canary).ok();
    watch::until(&vps.env_file(), |text| text.contains(canary));
    let read = rtx.vault(&["kv", "get", "-field=CANARY", "secret/jjeco/api-keys"]).ok();
    assert_eq!(read, canary);
    let mut needles = values();
    needles.push(canary.to_owned());
    assert!(needles.len() > 10);

    let daemons = hosts.iter().filter_map(|host| host.agent.as_ref()).chain(&world.server);
    for daemon in daemons {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{}/{file}", daemon.pid())).unwrap_or_default();
            check(&format!("{file} of a daemon"), &bytes, &needles);
        }
    }
    let mut seen = 0;
    let mut look = |folder: &std::path::Path| {
        for file in files_below(folder) {
            check(&file.display().to_string(), &std::fs::read(&file).unwrap(), &needles);
            seen += 1;
        }
    };
    world.server.as_mut().unwrap().kill();
    look(&world.data());
    for host in &hosts {
        look(&host.state());
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
