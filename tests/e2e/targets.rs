//! Many targets on one machine, and several secrets in one target.

use std::io::Write as _;
use std::path::PathBuf;

use tests::{World, bins, watch};

const SECRET: &str = "secret/app";

const MANY: usize = 1_000;

#[test]
fn one_change_is_in_a_thousand_targets() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=one"]).ok();
    let files: Vec<PathBuf> =
        (0..MANY).map(|n| host.dir.join(format!("home/app-{n:03}/.env"))).collect();
    let tables = files.iter().map(|file| {
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let path = file.display();
        format!("[[target]]\npath = \"{path}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n")
    });
    let config = tables.collect::<String>();
    let mut file = std::fs::File::create(host.state().join("agent.toml")).unwrap();
    file.write_all(config.as_bytes()).unwrap();
    drop(file);
    let all_hold = |text: &str| {
        let mut others: Vec<&PathBuf> = files.iter().collect();
        watch::poll(text, || {
            others.retain(|file| std::fs::read_to_string(file).ok().as_deref() != Some(text));
            others.is_empty().then_some(())
        });
    };
    all_hold("A=one\n");
    let _ = host.vault(&["kv", "put", SECRET, "A=two"]).ok();
    all_hold("A=two\n");
    // Each of them is still watched.
    for file in [&files[0], &files[MANY / 2], &files[MANY - 1]] {
        std::fs::remove_file(file).unwrap();
    }
    all_hold("A=two\n");
    watch::poll("status is green", || {
        let ran = host.vault(&["status"]);
        let rows = ran.out.lines().filter(|line| line.contains("/app-"));
        (ran.code == 0 && rows.count() == MANY).then_some(())
    });
}

#[test]
fn what_is_purged_stays_gone_while_the_agent_runs() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=one"]).ok();
    let home = host.dir.join("home");
    let table = |name: &str, more: &str| {
        let path = home.join(name);
        format!("[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\n{more}\n", path.display())
    };
    let mut block = std::fs::File::create(home.join("block")).unwrap();
    block.write_all(b"MINE=1\n").unwrap();
    let tables = [table("whole", ""), table("block", "layout = \"block\""), table("stays", "")];
    let mut file = std::fs::File::create(host.state().join("agent.toml")).unwrap();
    file.write_all(tables.concat().as_bytes()).unwrap();
    drop(file);
    for name in ["whole", "block", "stays"] {
        watch::until(&home.join(name), |text| text.contains("A=one\n"));
    }
    for name in ["whole", "block"] {
        let _ = host.agent_command(&["target", "remove", name, "--purge"]).ok();
    }
    // A file that goes is put back at once where it is still a target: by then both would be there
    // again.
    let _ = host.vault(&["kv", "put", SECRET, "A=two"]).ok();
    watch::until(&home.join("stays"), |text| text.contains("A=two\n"));
    assert!(!home.join("whole").exists());
    assert_eq!(std::fs::read_to_string(home.join("block")).unwrap(), "MINE=1\n");
}

#[test]
fn of_two_secrets_the_later_one_wins_and_everybody_is_told() {
    let world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/base", "A=base", "B=base"]).ok();
    let _ = host.vault(&["kv", "put", "secret/own", "B=own"]).ok();
    host.target(&["secret/base", "secret/own"]);
    watch::until(&host.env_file(), |text| text.ends_with("A=base\nB=own\n"));
    let note = "`B` of `secret/own` replaces that of `secret/base`";
    let told = |host: &tests::Host| {
        watch::poll(note, || {
            let status = host.vault(&["status"]);
            let lines = status.err.lines().filter(|line| line.contains(note)).count();
            let own = host.agent_command(&["status"]);
            (status.code == 0 && lines == 1 && own.code == 0 && own.out.contains(note))
                .then_some(())
        });
    };
    told(&host);
    assert!(host.agent.as_ref().unwrap().log().contains(note));
    // After a restart too, although nothing is written then.
    host.stop();
    host.start();
    told(&host);
    let _ = host.vault(&["kv", "put", "secret/own", "C=own"]).ok();
    watch::until(&host.env_file(), |text| text.ends_with("A=base\nB=base\nC=own\n"));
    watch::poll("the note is gone", || (!host.vault(&["status"]).err.contains(note)).then_some(()));
}
