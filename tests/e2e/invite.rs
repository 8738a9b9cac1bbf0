//! `vault machine invite … | sh`: a host gets programs, pins and its place in the vault from one
//! stream, over its user's own ssh, and nothing of a stream that was cut or changed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::{Host, Ran, World, bins, find_line, mounts, run};

/// The new host, with programs of its own in front of those of the system.
struct Invited {
    host: Host,
    fakes: PathBuf,
}

impl Invited {
    /// Makes a host whose ssh reaches `owner` alone, and notes what it is asked for.
    fn new(world: &World, owner: &Host) -> Self {
        let host = world.host("thinkpad");
        let fakes = host.dir.join("fakes");
        std::fs::create_dir(&fakes).unwrap();
        let invited = Self { host, fakes };
        // Root would install for all users of the host that runs the tests.
        invited.fake("id", "echo 1000");
        let state = owner.state();
        invited.fake(
            "ssh",
            &format!(
                "echo \"$@\" >>'{}'\n[ \"$1\" = -t ] && [ \"$2\" = rtx1080 ] || exit 255\nshift 2\n\
                 VAULT_STATE_DIR='{}' VAULT_PASSPHRASE_FILE='{}' exec sh -c \"$*\"",
                invited.asked().display(),
                state.display(),
                owner.dir.join("passphrase").display(),
            ),
        );
        invited
    }

    fn fake(&self, name: &str, script: &str) {
        let file = self.fakes.join(name);
        tests::script(&file, &format!("#!/bin/sh\n{script}\n"));
    }

    /// What ssh was asked for.
    fn asked(&self) -> PathBuf {
        self.host.dir.join("asked")
    }

    fn bin(&self) -> PathBuf {
        self.host.dir.join("home/.local/bin")
    }

    /// Pipes a file into a shell that has no terminal.
    fn sh(&self, shell: &str, stream: &Path) -> Ran {
        let mut command = self.command(shell);
        command.stdin(std::fs::File::open(stream).unwrap());
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The same at a terminal, at which `typed` is typed; returns all that it shows.
    fn at_terminal(&self, shell: &str, stream: &Path, typed: &str) -> Ran {
        let mut command = self.command("script");
        command.args(["-qec", &format!("{shell} <'{}'", stream.display()), "/dev/null"]);
        run(&mut command, typed)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.fakes.display()));
        command.env_remove("VAULT_PASSPHRASE_FILE");
        command
    }
}

/// Writes the stream of an invitation to a file.
fn stream(owner: &Host, more: &[&str]) -> PathBuf {
    let args = ["machine", "invite", "thinkpad", "--read", "*"];
    let file = owner.dir.join("stream");
    let out = std::fs::File::create(&file).unwrap();
    let mut command = owner.command(owner.bins.vault);
    let made = command.args(args).args(more).stdout(out).status().unwrap();
    assert!(made.success());
    file
}

#[test]
fn a_stream_makes_a_host_a_machine_with_one_question() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/a/b", "KEY=one"]).ok();
    let stream = stream(&rtx, &["--via", "rtx1080"]);
    let mut invited = Invited::new(&world, &rtx);
    let ran = invited.at_terminal("sh", &stream, "y\n");
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("its words  ") && ran.out.contains("Sign this? [y/N]"), "{}", ran.out);
    assert!(ran.out.contains("secrets readable here: 1"), "{}", ran.out);
    assert!(!ran.out.contains("VLTP1-"), "it joins by itself: {}", ran.out);
    // No secret, and nothing but the public line, went over ssh.
    let asked = std::fs::read_to_string(invited.asked()).unwrap();
    assert_eq!(asked.lines().count(), 1, "{asked}");
    assert!(asked.contains("machine add VLTM1-") && asked.contains("--read '*'"), "{asked}");
    let sorted = |folder: &Path| {
        let all = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = all.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&invited.bin()), ["vault", "vault-agent"], "and nothing beside them");
    // They are the very programs.
    let host = &invited.host;
    let bytes = |file: &Path| std::fs::read(file).unwrap();
    assert!(bytes(&invited.bin().join("vault")) == bytes(Path::new(host.bins.vault)));
    invited.host.start();
    let got = invited.host.vault(&["kv", "get", "-field=KEY", "secret/a/b"]).ok();
    assert_eq!(got, "one");
    // The same line again changes nothing, and says how it stands.
    let ran = invited.at_terminal("sh", &stream, "");
    assert_eq!(ran.code, 0, "{}", ran.out);
    for said in ["is here already", "is in the vault already", "as `thinkpad` already"] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
}

#[test]
fn without_a_name_for_ssh_the_last_step_is_printed() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let stream = stream(&rtx, &[]);
    let invited = Invited::new(&world, &rtx);
    // As it may have been cut off: the same line goes on.
    for _ in 0..2 {
        let ran = invited.sh("bash", &stream);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let typed = ran.out.trim();
        assert!(typed.starts_with("ssh -t HOST ") && typed.contains("\"'*'\""), "{typed}");
        assert!(!invited.asked().exists());
    }
    let typed = invited.sh("sh", &stream).out;
    let line = find_line(&typed, "VLTM1-");
    let typed = typed.replace("HOST", "rtx1080").replace(&line, &format!("{line} --yes"));
    let ran = run(invited.command("sh").args(["-c", &typed]), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let machines = rtx.vault(&["machine", "list"]).ok();
    let row = machines.lines().find(|line| line.starts_with("thinkpad ")).unwrap();
    assert!(row.contains(" * "), "{machines}");
}

#[test]
fn a_stream_that_was_cut_or_changed_or_is_for_others_installs_nothing() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let whole = std::fs::read(stream(&rtx, &[])).unwrap();
    let invited = Invited::new(&world, &rtx);
    let file = invited.host.dir.join("changed");
    let write = |parts: &[&[u8]]| {
        let mut out = std::fs::File::create(&file).unwrap();
        parts.iter().for_each(|part| out.write_all(part).unwrap());
    };
    let find = |text: &str| {
        let found = whole.windows(text.len()).position(|at| at == text.as_bytes());
        found.unwrap_or_else(|| panic!("no {text}"))
    };
    // Cut in the middle of each part; of the last line, too.
    let agent = find("carry_vault_agent() {");
    for end in [200, agent + 5, agent + 10_000, whole.len() - 3, whole.len() - 8] {
        write(&[&whole[..end]]);
        let _ = invited.sh("sh", &file);
        assert!(!invited.bin().exists(), "cut at {end}");
    }
    // One letter of a program.
    let at = agent + 200_000;
    let at = at + whole[at..].iter().position(|byte| *byte == b'A').unwrap();
    write(&[&whole[..at], b"B", &whole[at + 1..]]);
    let ran = invited.sh("sh", &file);
    assert!(ran.code == 1 && ran.err.contains("vault-agent has changed on the way"), "{}", ran.err);
    // Programs for another kind of host.
    let system = format!("system='Linux {}'", std::env::consts::ARCH);
    let at = find(&system);
    write(&[&whole[..at], b"system='Linux sparc'", &whole[at + system.len()..]]);
    let ran = invited.sh("sh", &file);
    let text = "the programs are for Linux sparc\nhint: install the package of vault for this \
                host, then run here: vault-agent join --wait ";
    assert!(ran.code == 1 && ran.err.contains(text), "{}", ran.err);
    let left = std::fs::read_dir(invited.bin()).map_or(0, Iterator::count);
    assert_eq!(left, 0, "not even a folder of ours");
}

#[test]
fn a_home_that_runs_no_programs_is_named() {
    mounts::own(|| {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let stream = stream(&rtx, &[]);
        let invited = Invited::new(&world, &rtx);
        let local = invited.host.dir.join("home/.local");
        let _disk = mounts::Disk::new(&local, "400m");
        let noexec = Command::new("mount").args(["-o", "remount,bind,noexec"]).arg(&local).status();
        assert!(noexec.unwrap().success());
        let ran = invited.sh("sh", &stream);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("vault-agent does not run from "), "{}", ran.err);
        assert!(ran.err.contains("\nhint: is it mounted noexec?"), "{}", ran.err);
        assert_eq!(std::fs::read_dir(invited.bin()).unwrap().count(), 0);
    });
}
