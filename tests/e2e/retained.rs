//! What a machine keeps of secrets that are gone or no longer its own: no ciphertext, not even in
//! the unused parts of its database.

use std::path::PathBuf;

use rusqlite::Connection;
use tests::{Host, World, bins, watch};

use crate::hooks::{all_is_well, configure, home};

const DESTROYED: &str = "secret/a/destroyed";

const FORGOTTEN: &str = "secret/a/forgotten";

const WITHDRAWN: &str = "secret/b/withdrawn";

const STAYS: &str = "secret/a/stays";

const ALL: [&str; 4] = [DESTROYED, FORGOTTEN, WITHDRAWN, STAYS];

/// A target whose hook fails for every value with `bad` at its start: the version before is kept,
/// to go back to.
fn table(host: &Host, secret: &str) -> String {
    let path = file(host, secret);
    format!(
        "[[target]]\npath = \"{0}\"\nsecrets = [\"{secret}\"]\nrollback_on_failure = true\n\
         on_change = {{ command = \"! grep -q =bad {0}\", retries = 0 }}\n",
        path.display()
    )
}

fn file(host: &Host, secret: &str) -> PathBuf {
    home(host, secret.rsplit('/').next().unwrap())
}

/// Returns all ciphertext in the database of a stopped agent, by path.
fn kept(host: &Host) -> Vec<(String, Vec<u8>)> {
    let database = Connection::open(host.state().join("agent.db")).unwrap();
    let all = "SELECT path, bytes FROM blob UNION ALL SELECT path, bytes FROM retained";
    let mut query = database.prepare(all).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Tells whether any file of the agent's state holds a piece of `ciphertext`.
fn is_on_disk(host: &Host, ciphertext: &[u8]) -> bool {
    // Long enough to be of no other, and short enough to lie in one page.
    let piece = &ciphertext[ciphertext.len() - 64..];
    tests::files_below(&host.state()).iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(piece.len()).any(|window| window == piece)
    })
}

/// Returns how far a machine's log is.
fn entry(host: &Host) -> String {
    let status = host.agent_command(&["status"]).out;
    let line = status.lines().find(|line| line.starts_with("entry")).map(str::to_owned);
    line.unwrap_or_default()
}

#[test]
fn what_is_destroyed_forgotten_or_withdrawn_leaves_no_ciphertext() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    for secret in ALL {
        let _ = rtx.vault(&["kv", "put", secret, "KEY=good"]).ok();
    }
    let mut vps = world.machine(&rtx, "vps", &["secret/a/", "secret/b/"]);
    configure(&vps, &ALL.map(|secret| table(&vps, secret)));
    for secret in ALL {
        watch::until(&file(&vps, secret), |text| text.contains("KEY=good\n"));
    }
    all_is_well(&vps);
    for secret in ALL {
        let _ = rtx.vault(&["kv", "put", secret, "KEY=bad"]).ok();
    }
    watch::poll("all are taken back", || {
        let rows = vps.vault(&["status"]).out;
        (rows.matches("rolled back").count() == ALL.len()).then_some(())
    });
    vps.stop();
    let before = kept(&vps);
    for secret in ALL {
        let count = before.iter().filter(|(path, _)| path == secret).count();
        assert_eq!(count, 2, "the newest version of `{secret}`, and the one gone back to");
    }
    assert!(before.iter().all(|(_, ciphertext)| is_on_disk(&vps, ciphertext)));
    vps.start();

    let _ = rtx.vault(&["kv", "destroy", "-versions=1,2", DESTROYED]).ok();
    let _ = rtx.vault(&["kv", "metadata", "delete", FORGOTTEN]).ok();
    let _ = rtx.vault(&["access", "set", "vps", "--read", "secret/a/", "--yes"]).ok();
    watch::poll("vps has heard of it", || (entry(&vps) == entry(&rtx)).then_some(()));
    // The second time the targets ask for what is gone once more.
    for _ in 0..2 {
        vps.stop();
        let after = kept(&vps);
        assert!(after.iter().all(|(path, _)| path == STAYS) && after.len() == 2, "{after:?}");
        for (path, ciphertext) in &before {
            assert_eq!(is_on_disk(&vps, ciphertext), path == STAYS, "{path}");
        }
        vps.start();
        watch::poll("vps has caught up", || (entry(&vps) == entry(&rtx)).then_some(()));
    }
}
