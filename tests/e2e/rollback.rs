//! `rollback_on_failure`: a version whose hook fails for good is taken back, once and for all,
//! whatever happens meanwhile.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use tests::{Host, World, files_below, watch};

use crate::hooks::{SECRET, all_is_well, configure, gate, home, open, patch, read, target, world};

/// A hook that fails for every value with `bad` at its start, and then counts as tried once. (A
/// head with the vault's number may have it too.)
const CHECK: &str = "rollback_on_failure = true\non_change = { command = \"echo x >>log; ! grep -q =bad a\", retries = 0 }";

/// The same, as soon as it is let through a gate.
const GATED: &str = "rollback_on_failure = true\non_change = { command = \"echo x >>log; cat gate; ! grep -q =bad a\", retries = 0 }";

fn runs(host: &Host) -> usize {
    read(host, "log").lines().count()
}

/// Waits until the status says that `wanted` was taken back, and returns it.
fn rolled_back(host: &Host, wanted: &str) -> String {
    watch::poll("the version is taken back", || {
        let status = host.vault(&["status"]);
        let row = status.out.lines().find(|row| row.contains(SECRET)).unwrap_or_default();
        let told = row.contains("rolled back") && row.contains(wanted) && row.contains("v1");
        (told && status.code == 2).then(|| format!("{}{}", status.out, status.err))
    })
}

#[test]
fn a_version_whose_hook_fails_is_taken_back_on_this_host() {
    let (_world, mut host) = world();
    let _ = host.vault(&["kv", "put", "secret/db", "DB=db-value"]).ok();
    let hook =
        CHECK.replace("retries = 0", "retries = 1").replace("! grep", "cp a seen; cat a; ! grep");
    let table =
        target(&host, "a", &hook).replace("\"secret/app\"", "\"secret/app\", \"secret/db\"");
    configure(&host, &[table]);
    all_is_well(&host);
    let good = read(&host, "a");
    assert!(good.contains("KEY=first-value\nDB=db-value\n"), "{good}");
    assert_eq!(runs(&host), 1, "{}", read(&host, "log"));

    patch(&host, "bad-value");
    let status = rolled_back(&host, "v2");
    assert!(
        status.contains("alarm E_HOOK: the hook of `")
            && status.contains("failed: rolled back: exit 1"),
        "{status}"
    );
    let other = status.lines().find(|row| row.contains("secret/db")).unwrap();
    assert!(other.matches("v1").count() == 2, "{other}");
    assert_eq!((read(&host, "a"), read(&host, "seen")), (good.clone(), good.clone()));
    assert_eq!(runs(&host), 1 + 2 + 1, "tried twice, and once more with the old content");
    let shown = host.agent_command(&["status"]).out;
    assert!(shown.contains("rolled back") && shown.contains("exit 1"), "{shown}");
    let log = std::fs::read_to_string(host.log_file()).unwrap();
    assert!(!log.contains("bad-value") && !log.contains("first-value"), "{log}");

    // A restart changes nothing, and neither does the other secret's next version settle it: that
    // is a new try.
    host.stop();
    host.start();
    let _ = rolled_back(&host, "v2");
    assert_eq!((runs(&host), read(&host, "a")), (4, good));
    let _ = host.vault(&["kv", "put", "secret/db", "DB=newer"]).ok();
    watch::until(&home(&host, "log"), |text| text.lines().count() == 4 + 2 + 1);
    let _ = rolled_back(&host, "v2");
    assert!(read(&host, "a").contains("KEY=first-value\nDB=db-value\n"));
    patch(&host, "fine");
    watch::until(&home(&host, "a"), |text| text.contains("KEY=fine\nDB=newer\n"));
    all_is_well(&host);
}

#[test]
fn an_old_version_comes_from_the_encrypted_cache_even_when_the_log_has_dropped_it() {
    let (mut world, host) = world();
    let _ = host.vault(&["kv", "metadata", "put", "-max-versions=2", SECRET]).ok();
    let pass = gate(&host, "gate");
    configure(&host, &[target(&host, "a", GATED)]);
    open(&pass);
    all_is_well(&host);
    for n in 2..=5 {
        patch(&host, &format!("bad-{n}"));
        watch::until(&home(&host, "a"), |text| text.contains(&format!("KEY=bad-{n}\n")));
    }
    assert_ne!(host.vault(&["kv", "get", "-version=1", SECRET]).code, 0, "the log has dropped it");
    world.server.as_mut().unwrap().kill();
    // The run for the first of them fails, and the one for the rest.
    open(&pass);
    watch::until(&home(&host, "log"), |text| text.lines().count() == 3);
    open(&pass);
    watch::until(&home(&host, "a"), |text| text.contains("KEY=first-value\n"));
    watch::until(&home(&host, "log"), |text| text.lines().count() == 4);
    open(&pass);
    let _ = rolled_back(&host, "v5");
    for file in files_below(&host.dir).into_iter().filter(|file| *file != home(&host, "a")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = [&b"first-value"[..], b"bad-5"]
            .iter()
            .any(|value| bytes.windows(value.len()).any(|window| window == *value));
        assert!(!found, "a value is in {}", file.display());
    }
    world.start();
    patch_when_back(&host, "fine");
    watch::until(&home(&host, "a"), |text| text.contains("KEY=fine\n"));
    open(&pass);
    all_is_well(&host);
}

fn patch_when_back(host: &Host, value: &str) {
    watch::poll("writes work again", || {
        let done = host.vault(&["kv", "patch", SECRET, &format!("KEY={value}")]);
        (done.code == 0).then_some(())
    });
}

/// Kills the agent and starts it again, once its socket is closed: a hook that was just being
/// started still had it.
fn kill_and_start(host: &mut Host) {
    host.agent.as_mut().unwrap().kill();
    watch::poll("the socket is closed", || {
        UnixStream::connect(host.state().join("agent.sock")).is_err().then_some(())
    });
    host.start();
}

#[test]
fn a_kill_at_any_moment_neither_keeps_nor_brings_back_a_bad_version() {
    let (_world, mut host) = world();
    configure(&host, &[target(&host, "a", CHECK)]);
    all_is_well(&host);
    let good = read(&host, "a");
    let file = home(&host, "a");
    let record = host.state().join("targets.json");
    type Moment = fn(&str, usize) -> bool;
    let moments: [(PathBuf, Moment); 4] = [
        // Written, and the hook about to run; run; decided; put back.
        (file.clone(), |text, n| text.contains(&format!("bad-{n}"))),
        (home(&host, "log"), |text, n| text.lines().count() > n),
        (record.clone(), |text, _| text.contains("\"bad\"")),
        (file.clone(), |text, _| text.contains("first-value")),
    ];
    let mut wanted = 1;
    for (place, reached) in &moments {
        for _ in 0..3 {
            wanted += 1;
            let ran = runs(&host);
            let before = if place.ends_with("log") { ran } else { wanted };
            patch(&host, &format!("bad-{wanted}"));
            // On a busy machine the hook may have run before anybody looks at the file.
            watch::until(place, |text| reached(text, before) || runs(&host) > ran);
            kill_and_start(&mut host);
            let _ = rolled_back(&host, &format!("v{wanted}"));
            assert_eq!(read(&host, "a"), good);
        }
    }
    let settled = |text: &str| text.contains("\"bad\"") && text.contains("\"hook\":\"ok\"");
    let before = runs(&host);
    for _ in 0..3 {
        watch::until(&record, settled);
        kill_and_start(&mut host);
        let _ = rolled_back(&host, &format!("v{wanted}"));
    }
    assert_eq!((runs(&host), read(&host, "a")), (before, good), "a decision is for good");
    patch(&host, "fine");
    watch::until(&file, |text| text.contains("KEY=fine\n"));
    all_is_well(&host);
}

#[test]
fn other_settings_give_a_version_another_chance() {
    let (_world, host): (World, Host) = world();
    configure(&host, &[target(&host, "a", CHECK)]);
    all_is_well(&host);
    patch(&host, "bad-value");
    let _ = rolled_back(&host, "v2");
    configure(&host, &[target(&host, "a", &CHECK.replace("=bad a", "=worse a"))]);
    watch::until(&home(&host, "a"), |text| text.contains("KEY=bad-value\n"));
    all_is_well(&host);
}
