//! Server and admin key have burnt on one disk, as `vault setup` lays them out: the kit on paper
//! signs what lets the vault go on, from a machine that is left, or from a fresh host.

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Host, Ran, World, bins, watch};

use crate::aftermath::{Aftermath, SECRET, give_up_what_is_lost};
use crate::backup::{back_up, bring_back, burn, key_copy};
use crate::moment::{killed_at, killed_at_touch, one};
use crate::recovery::{kit, types};
use crate::restored::{code, put, put_when_back, shows};
use crate::server::{adopting, new_server};

/// A vault whose host of `vault setup` has burnt; the backup is older than what was written last.
struct Burnt {
    world: World,
    paper: String,
    backup: PathBuf,
    key: PathBuf,
    nas: Host,
    vps: Host,
}

impl Burnt {
    fn new() -> Self {
        let mut world = World::new(bins!());
        let mut rtx = world.owner("rtx1080");
        let nas = world.machine(&rtx, "nas", &["*"]);
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        let _ = rtx.vault(&["access", "set", "nas", "--read", "*", "--write", "*", "--yes"]).ok();
        put_when_back(&nas, SECRET, "K=one");
        for host in [&nas, &vps] {
            host.target(&[SECRET]);
            watch::until(&host.env_file(), |text| text.contains("one"));
        }
        let (backup, key) = (back_up(&world), key_copy(&world));
        assert_eq!(put(&nas, SECRET, "K=two"), 0);
        watch::until(&vps.env_file(), |text| text.contains("two"));
        let paper = world.dir().join("paper.txt");
        fs::rename(kit(&rtx), &paper).unwrap();
        burn(&mut world);
        rtx.stop();
        fs::remove_dir_all(&rtx.dir).unwrap();
        let paper = paper.to_str().unwrap().to_owned();
        Self { world, paper, backup, key, nas, vps }
    }

    fn code_file(&self) -> PathBuf {
        self.world.data().join("resume-code")
    }

    /// The kit appoints no admin while the server waits, and says so before anything is typed.
    fn appoints_nobody(&self) {
        let refused = self.nas.vault(&["recovery", "admin", "anna", "--kit", "-", "--yes"]);
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains("`vault resume --kit -` here"), "{}", refused.err);
        assert!(!self.nas.state().join("appointing.json").exists());
    }

    /// Has the paper make an admin, takes what has burnt out, and looks at all of it.
    fn ends_well(self) {
        types(&self.nas, "another horse battery staple");
        let args = ["recovery", "admin", "anna", "--instead-of", "jonas", "--kit", &self.paper];
        let _ = self.nas.vault(&[&args[..], &["--yes"]].concat()).ok();
        let _ = self.nas.vault(&["machine", "remove", "rtx1080", "--yes"]).ok();
        put_when_back(&self.nas, SECRET, "K=three");
        watch::until(&self.vps.env_file(), |text| text.contains("three"));
        give_up_what_is_lost(&self.nas);
        let hosts = &[&self.nas, &self.vps];
        let world = &self.world;
        Aftermath { world, hosts, value: "three", gone: None, resumed: true }.check();
    }
}

#[test]
fn the_host_of_setup_has_burnt_and_a_machine_a_backup_and_the_kit_are_left() {
    let mut burnt = Burnt::new();
    let (backup, key) = (burnt.backup.clone(), burnt.key.clone());
    bring_back(&mut burnt.world, &backup, &key);
    let Burnt { nas, world, paper, .. } = &burnt;
    shows(nas, "alarm E_SERVER_");
    burnt.appoints_nobody();
    let healed = nas.vault(&["heal"]);
    assert!(healed.code == 2 && healed.err.contains("resume --kit -"), "{}", healed.err);
    burnt.appoints_nobody();
    let refused = nas.vault_with(&["resume", "--code", "-", "--yes"], &code(world));
    assert!(refused.err.contains("no admin key in"), "{}", refused.err);
    assert!(refused.err.contains("the same command with `--kit -`"), "{}", refused.err);
    let stranger = World::new(bins!());
    let other = kit(&stranger.owner("other"));
    let file = burnt.code_file();
    let code_file = file.to_str().unwrap();
    let resumes =
        |kit: &str| nas.vault(&["resume", "--kit", kit, "--code-file", code_file, "--yes"]);
    let refused = resumes(&other);
    assert!(refused.err.contains("the kit's root key is not that"), "{}", refused.err);
    assert!(file.exists(), "the code is not used up");

    let mut command = nas.command(nas.bins.vault);
    command.args(["resume", "--kit", paper, "--code-file", code_file, "--yes"]);
    println!("killed: {}", killed_at_touch(command, &nas.dir, one(8)));
    // The agent may be about to send what the killed one has signed.
    watch::poll("the vault goes on", || {
        let said = resumes(paper);
        let is_done = said.err.contains("there is nothing to resume");
        (said.code == 0 || is_done).then_some(())
    });
    assert!(!file.exists());
    burnt.ends_well();
}

#[test]
fn the_key_of_the_server_has_burnt_too_and_the_kit_adopts_a_new_one() {
    let mut burnt = Burnt::new();
    let setup = new_server(&burnt.world, Some(&burnt.backup));
    burnt.world.start();
    shows(&burnt.nas, "E_SERVER_PIN");
    let args = adopting(&burnt.world, &setup);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = burnt.nas.vault(&args);
    assert!(refused.err.contains("the same command with `--kit -`"), "{}", refused.err);
    let adopted = burnt.nas.vault(&[&args[..], &["--kit", &burnt.paper]].concat());
    assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
    let line = adopted.out.lines().find(|line| line.starts_with("vps: ")).unwrap();
    let joined = burnt.vps.agent_command(&["join", &tests::find_line(line, "VLTP1-")]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    burnt.ends_well();
}

/// Recovers on a fresh host.
fn recover(burnt: &Burnt, home: &Host, code: Option<&Path>) -> std::process::Command {
    let mut command = home.command(home.bins.vault);
    command.args(["recover", burnt.world.address(), "--kit", &burnt.paper, "--name", "home"]);
    command.args(["--admin", "jonas", "--yes"]);
    if let Some(file) = code {
        command.arg("--code-file").arg(file);
    }
    command
}

#[test]
fn paper_and_backup_are_all_that_is_left() {
    let mut burnt = Burnt::new();
    for host in [&mut burnt.nas, &mut burnt.vps] {
        host.stop();
        fs::remove_dir_all(&host.dir).unwrap();
    }
    let mut home = burnt.world.host("home");
    types(&home, "another horse battery staple");
    let run = |command: &mut std::process::Command| -> Ran { tests::run(command, "") };
    // Without its key nobody could tell the server from another.
    let _ = new_server(&burnt.world, Some(&burnt.backup));
    burnt.world.start();
    let refused = run(&mut recover(&burnt, &home, None));
    assert!(refused.code == 2 && refused.err.contains("E_SERVER_PIN"), "{}", refused.err);
    assert!(refused.err.contains("vault-server restore FILE --key"), "{}", refused.err);
    burn(&mut burnt.world);

    let (backup, key) = (burnt.backup.clone(), burnt.key.clone());
    bring_back(&mut burnt.world, &backup, &key);
    let asked = run(&mut recover(&burnt, &home, None));
    assert!(asked.err.contains("its log ends at entry"), "{}", asked.err);
    assert!(asked.err.contains("one-time code of the server's host is missing"), "{}", asked.err);
    let file = burnt.code_file();
    let wrong = burnt.world.dir().join("wrong-code");
    host::files::write_private(&wrong, "0".repeat(64).as_bytes()).unwrap();
    let refused = run(&mut recover(&burnt, &home, Some(&wrong)));
    assert!(refused.code != 0 && refused.err.contains("E_CLAIM"), "{}", refused.err);
    assert!(file.exists() && !home.state().join("pins.json").exists());

    let killed = killed_at(recover(&burnt, &home, Some(&file)), burnt.world.dir(), one(12));
    let is_over =
        home.state().join("pins.json").exists() && !home.state().join("recovering.json").exists();
    println!("killed: {killed}, over: {is_over}");
    if !is_over {
        let said = run(&mut recover(&burnt, &home, Some(&file)));
        assert_eq!(said.code, 0, "{}", said.err);
    }
    assert!(!file.exists(), "the code is good for once");
    home.start();
    for lost in ["rtx1080", "nas", "vps"] {
        let _ = home.vault(&["machine", "remove", lost, "--yes"]).ok();
    }
    let read = home.vault(&["kv", "get", "-field=K", SECRET]).ok();
    assert_eq!(read.trim(), "one", "what the backup has");
    put_when_back(&home, SECRET, "K=three");
    home.target(&[SECRET]);
    let world = &burnt.world;
    Aftermath { world, hosts: &[&home], value: "three", gone: None, resumed: true }.check();
}
