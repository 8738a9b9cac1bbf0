//! A file that is there already when it becomes a target: nothing in it is lost, whatever its owner
//! chooses, and until they choose.

use std::io::Write as _;
use std::path::Path;

use tests::{Host, World, bins, watch};

const SECRET: &str = "secret/app";

const MINE: &str = "# mine\nA=9\nLOCAL_ONLY=x\n";

fn put(file: &Path, text: &str) {
    std::fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

fn copies(host: &Host) -> Vec<String> {
    let names = std::fs::read_dir(host.dir.join("home")).unwrap().flatten();
    let copies =
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".env.before-vault-"));
    copies.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn target_add_names_what_would_be_lost_and_loses_nothing() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=1", "B=2"]).ok();
    let file = host.env_file();
    let add = |more: &[&str]| {
        let words = [&["target", "add", file.to_str().unwrap(), SECRET][..], more].concat();
        host.agent_command(&words)
    };
    put(&file, MINE);
    let refused = add(&[]);
    let loss = "holds what the secrets do not: `LOCAL_ONLY` would go, `A` would change";
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("E_TARGET_FOREIGN") && refused.err.contains(loss), "{refused:?}");
    assert!(!refused.err.contains("=9") && host.env() == MINE);

    let reader = world.machine(&host, "vps", &[SECRET]);
    put(&reader.env_file(), MINE);
    let theirs = reader.env_file();
    let denied =
        reader.agent_command(&["target", "add", theirs.to_str().unwrap(), SECRET, "--import"]);
    let way_out = format!("this machine may not write `{SECRET}`");
    assert!(denied.code != 0 && denied.err.contains(&way_out), "{denied:?}");
    assert!(denied.err.contains("`--block` and `--replace`") && reader.env() == MINE, "{denied:?}");

    let block = add(&["--block"]);
    let twice = format!(
        "warning: `A` stands above the block too: readers of `{}` take the last one, the vault's\n",
        file.display()
    );
    assert!(block.code == 0 && block.err.contains(&twice), "{block:?}");
    let whole = watch::until(&file, |text| text.contains("# END vault-agent"));
    assert!(whole.starts_with(MINE) && whole.contains("\nA=1\nB=2\n"), "{whole}");
    let _ = host.agent_command(&["target", "remove", file.to_str().unwrap(), "--purge"]).ok();
    assert_eq!(host.env(), MINE);

    let _ = add(&["--import"]).ok();
    watch::until(&file, |text| text.ends_with("A=9\nB=2\nLOCAL_ONLY=x\n"));
    let field = |name: &str| host.vault(&["kv", "get", &format!("-field={name}"), SECRET]).ok();
    assert_eq!((field("A"), field("B"), field("LOCAL_ONLY")), ("9".into(), "2".into(), "x".into()));
    assert_eq!(copies(&host), [MINE], "the comment is in no secret");
    let _ = host.agent_command(&["target", "remove", file.to_str().unwrap()]).ok();

    put(&file, "OTHER=x\n");
    let _ = add(&["--replace"]).ok();
    watch::until(&file, |text| text.ends_with("A=9\nB=2\nLOCAL_ONLY=x\n"));
    assert!(copies(&host).contains(&"OTHER=x\n".to_owned()));
    // An edit of ours is put back, and purged is only what is ours.
    let edited = format!("{}MINE=x\n", host.env());
    put(&file, &edited);
    watch::until(&file, |text| text.ends_with("LOCAL_ONLY=x\n"));
    assert!(copies(&host).contains(&edited));
    let _ = host.agent_command(&["target", "remove", file.to_str().unwrap(), "--purge"]).ok();
    assert!(!file.exists());
}

#[test]
fn the_agent_leaves_a_foreign_file_alone_until_it_is_covered() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=1"]).ok();
    let file = host.env_file();
    put(&file, "A=9\n");
    let path = file.display();
    let table = format!("[[target]]\npath = \"{path}\"\nsecrets = [\"{SECRET}\"]\n");
    put(&host.state().join("agent.toml"), &table);
    watch::poll("the alarm", || {
        let ran = host.vault(&["status"]);
        let named =
            |line: &str| line.contains("E_TARGET_FOREIGN") && line.contains("`A` would change");
        (ran.code == 2 && ran.err.lines().any(named)).then_some(())
    });
    assert_eq!(host.env(), "A=9\n");
    let _ = host.vault(&["kv", "patch", SECRET, "A=9", "B=2"]).ok();
    watch::until(&file, |text| text.ends_with("A=9\nB=2\n"));
    host.is_well();
    assert!(copies(&host).is_empty());
}

#[test]
fn a_deployment_link_is_followed_where_it_leads() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=1"]).ok();
    let home = host.dir.join("home");
    for release in ["r1", "r2"] {
        std::fs::create_dir(home.join(release)).unwrap();
    }
    std::os::unix::fs::symlink("r1", home.join("current")).unwrap();
    let file = home.join("current/.env");
    let words = ["target", "add", file.to_str().unwrap(), SECRET, "--follow"];
    let _ = host.agent_command(&words).ok();
    watch::until(&home.join("r1/.env"), |text| text.ends_with("A=1\n"));
    std::os::unix::fs::symlink("r2", home.join("next")).unwrap();
    std::fs::rename(home.join("next"), home.join("current")).unwrap();
    watch::until(&home.join("r2/.env"), |text| text.ends_with("A=1\n"));
    let _ = host.vault(&["kv", "put", SECRET, "A=2"]).ok();
    watch::until(&home.join("r2/.env"), |text| text.ends_with("A=2\n"));
    assert!(std::fs::read_to_string(home.join("r1/.env")).unwrap().ends_with("A=1\n"));
}
