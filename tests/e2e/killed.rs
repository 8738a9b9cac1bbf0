//! `kill -9` of the agent while it writes its targets, at a hundred different moments: each file is
//! whole, and the next start leaves no trace of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tests::{Host, World, bins, watch};

const SECRET: &str = "secret/app";

/// Kills, each one event later in the life of a process than the one before.
const KILLS: usize = 100;

const TARGETS: usize = 40;

/// Longer than a page, so that half a file would be noticed.
fn content(n: usize) -> String {
    format!("A={}-end\n", format!("-{n}").repeat(2_000))
}

/// The version that a file holds whole; `None` if there is no file.
fn version(file: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let number = text.strip_prefix("A=-").and_then(|rest| rest.split('-').next());
    let number = number.and_then(|number| number.parse().ok());
    let whole = number.filter(|n| content(*n) == text);
    assert!(whole.is_some(), "{} holds {} bytes of no version", file.display(), text.len());
    whole
}

struct Victim {
    host: Host,
    files: Vec<PathBuf>,
}

impl Victim {
    /// A machine with many targets, whose hooks copy what they found.
    fn new(world: &World, owner: &Host) -> Self {
        let host = world.host("vps");
        world.enrol(owner, &host, &["*"]);
        let (folder, seen) = (host.dir.join("home/app"), host.dir.join("home/seen"));
        for folder in [&folder, &seen] {
            std::fs::create_dir(folder).unwrap();
        }
        let files: Vec<PathBuf> = (0..TARGETS).map(|n| folder.join(format!("{n}.env"))).collect();
        let tables = files.iter().map(|file| {
            let name = file.file_name().unwrap().to_str().unwrap();
            format!(
                "[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n\
                 on_change = [\"cp\", \"{name}\", \"../seen/{name}\"]\n",
                file.display()
            )
        });
        let config = host.state().join("agent.toml");
        let mut config = std::fs::File::create(config).unwrap();
        std::io::Write::write_all(&mut config, tables.collect::<String>().as_bytes()).unwrap();
        Self { host, files }
    }

    /// Starts the agent without waiting for it.
    fn spawn(&self) -> Child {
        let mut command = self.host.command(self.host.bins.agent);
        command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

#[test]
fn an_agent_killed_at_any_moment_leaves_whole_files() {
    let world = World::new(bins!());
    let owner = world.owner("rtx1080");
    let victim = Victim::new(&world, &owner);
    let folder = victim.files[0].parent().unwrap();
    let (sender, events) = mpsc::channel();
    let mut watcher = watch::watcher(move |event: Result<notify::Event, _>| {
        // What readers do is no moment of a write.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    });
    watcher.watch(folder, RecursiveMode::NonRecursive).unwrap();

    let mut before = vec![None; TARGETS];
    for kill in 1..=KILLS {
        let value = content(kill).trim_end().strip_prefix("A=").unwrap().to_owned();
        let _ = owner.vault_with(&["kv", "put", SECRET, "A=-"], &value).ok();
        while events.try_recv().is_ok() {}
        let mut agent = victim.spawn();
        for _ in 0..kill {
            events.recv_timeout(Duration::from_secs(60)).expect("the agent writes its targets");
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
        let now: Vec<_> = victim.files.iter().map(|file| version(file)).collect();
        for (now, before) in now.iter().zip(&before) {
            assert!(now >= before && *now <= Some(kill), "{before:?} became {now:?}");
        }
        before = now;
    }

    let mut host = victim.host;
    host.start();
    for file in &victim.files {
        // It is ready with what its cache has; the newest version may have to be fetched first.
        watch::until(file, |text| text == content(KILLS));
        let seen = host.dir.join("home/seen").join(file.file_name().unwrap());
        watch::until(&seen, |text| text == content(KILLS));
    }
    let mut found = tests::files_below(folder);
    found.sort();
    let mut wanted = victim.files.clone();
    wanted.sort();
    assert_eq!(found, wanted, "nothing stays behind");
    owner.is_well();
}
