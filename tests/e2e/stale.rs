//! `max_stale`: what happens to a file when the server has been out of reach for too long.

use tests::watch;

use crate::hooks::{all_is_well, configure, home, read, target, world};

#[test]
fn files_are_kept_removed_or_alarmed_about_when_the_server_is_away_for_too_long() {
    let (mut world, mut host) = world();
    let stale = |more: &str| format!("max_stale = \"2s\"\n{more}");
    configure(
        &host,
        &[
            target(&host, "removed", &stale("on_stale = \"remove\"")),
            target(&host, "alarmed", &stale("")),
            target(&host, "kept", &stale("on_stale = \"keep\"")),
            target(&host, "plain", ""),
        ],
    );
    let names = ["removed", "alarmed", "kept", "plain"];
    for name in names {
        watch::until(&home(&host, name), |text| text.contains("KEY=first-value\n"));
    }
    all_is_well(&host);

    world.server.as_mut().unwrap().kill();
    watch::until(&home(&host, "removed"), str::is_empty);
    let status = watch::poll("the alarm stands", || {
        let status = host.vault(&["status"]);
        let both = status.err.contains("E_MAX_STALE") && status.err.contains("and 1 more");
        (both && status.code == 2).then_some(status)
    });
    let row = |name: &str| {
        let name = format!("~/{name}");
        status.out.lines().find(|row| row.contains(&name)).unwrap_or_default().to_owned()
    };
    assert_eq!(row("removed").matches("v1").count(), 1, "wanted, and not applied: {}", status.out);
    assert_eq!(row("alarmed").matches("v1").count(), 2, "{}", status.out);
    for name in &names[1..] {
        assert!(read(&host, name).contains("KEY=first-value\n"), "{name}");
    }

    // The age outlives the agent: what was removed is not written again before the server is back.
    for _ in 0..2 {
        host.agent.as_mut().unwrap().kill();
        host.start();
        assert!(!home(&host, "removed").exists());
        watch::poll("the alarm stands again", || {
            host.vault(&["status"]).err.contains("E_MAX_STALE").then_some(())
        });
        assert!(!home(&host, "removed").exists());
    }
    let log = std::fs::read_to_string(host.log_file()).unwrap();
    assert_eq!(log.matches("removed: the server has not been heard").count(), 1, "{log}");
    assert!(log.contains("kept, though the server has not been heard"), "{log}");

    world.start();
    watch::until(&home(&host, "removed"), |text| text.contains("KEY=first-value\n"));
    all_is_well(&host);
    assert!(!host.vault(&["status"]).err.contains("E_MAX_STALE"));
}
