//! `install` without systemd, and with a `systemctl` that notes what it is asked: the unit is
//! written whole, once, and never over somebody's edit. What systemd makes of it is shown in
//! `tests/interop/systemd`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tests::{Host, Ran, World, bins, files_below, run};

/// Notes its arguments; nothing is enabled, nothing is active.
const SYSTEMCTL: &str =
    "#!/bin/sh\necho \"$*\" >>\"$HOME/asked\"\ncase \"$*\" in *is-*) exit 3;; esac\n";

fn unit(host: &Host) -> PathBuf {
    host.dir.join("home/.config/systemd/user/vault-agent.service")
}

fn install(host: &Host, args: &[&str]) -> Ran {
    let args = [&["install", "--user"], args].concat();
    host.agent_command(&args)
}

fn write(file: &Path, text: &str) {
    File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

fn refused(ran: &Ran, message: &str) {
    assert_ne!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains(message), "{}", ran.err);
}

#[test]
fn a_unit_is_written_once_and_an_edit_stays() {
    let world = World::new(bins!());
    let host = world.host("desk");
    let ran = install(&host, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("systemd does not run here: nothing is started"), "{}", ran.err);
    let first = fs::read_to_string(unit(&host)).unwrap();
    assert_eq!(first, install(&host, &["--print"]).ok());
    assert!(first.contains(&format!(" run --state {}\n", host.state().display())), "{first}");
    assert_eq!(fs::metadata(unit(&host)).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(install(&host, &[]).err.contains("is right already"));

    let edited = first.replace("WatchdogSec=60", "WatchdogSec=5");
    write(&unit(&host), &edited);
    refused(
        &install(&host, &[]),
        "hint: move what it adds to `systemctl edit vault-agent.service`",
    );
    assert_eq!(fs::read_to_string(unit(&host)).unwrap(), edited);
    let _ = install(&host, &["--force"]).ok();
    assert_eq!(fs::read_to_string(unit(&host)).unwrap(), first);
    assert_eq!(fs::read_to_string(unit(&host).with_extension("service.old")).unwrap(), edited);

    fs::remove_file(unit(&host)).unwrap();
    std::os::unix::fs::symlink("/dev/null", unit(&host)).unwrap();
    refused(&install(&host, &["--force"]), "`systemctl unmask vault-agent.service` removes it");
}

#[test]
fn systemd_is_asked_in_order_and_only_for_what_is_new() {
    let world = World::new(bins!());
    let host = world.host("desk");
    let (home, runtime) = (host.dir.join("home"), host.dir.join("runtime"));
    fs::create_dir_all(runtime.join("systemd/private")).unwrap();
    tests::script(&home.join("systemctl"), SYSTEMCTL);
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    let install = |host: &Host, args: &[&str]| {
        let mut command = host.command(host.bins.agent);
        command.env("PATH", &path).env("XDG_RUNTIME_DIR", &runtime);
        let said = run(command.args(["install", "--user"]).args(args), "");
        assert_eq!(said.code, 0, "{}", said.err);
        let asked = fs::read_to_string(home.join("asked")).unwrap();
        fs::remove_file(home.join("asked")).unwrap();
        let asked = asked.replace("--user --no-ask-password ", "");
        let asked = asked.lines().filter(|line| !line.starts_with("is-")).collect::<Vec<_>>();
        (asked.join("; "), said.err)
    };
    let (asked, said) = install(&host, &[]);
    assert_eq!(asked, "daemon-reload; enable --quiet vault-agent.service");
    assert!(said.contains("not started: this machine has no keys"), "{said}");

    let mut host = world.owner_on(host);
    host.stop();
    let (asked, said) = install(&host, &[]);
    assert_eq!(asked, "enable --quiet vault-agent.service; restart vault-agent.service");
    assert!(said.contains("it runs, and starts with the host"), "{said}");

    host.target(&["secret/a"]);
    let (asked, said) = install(&host, &["--no-start"]);
    assert_eq!(asked, "daemon-reload; enable --quiet vault-agent.service");
    assert!(said.contains("now with `systemctl --user start vault-agent.service`"), "{said}");
    let unit = fs::read_to_string(unit(&host)).unwrap();
    assert!(!unit.contains("MemoryDenyWriteExecute"), "{unit}");
}

/// What is running according to a `systemctl` that notes what it is asked.
fn active(pid: u32) -> String {
    format!(
        "#!/bin/sh\necho \"$*\" >>\"$HOME/asked\"\ncase \"$*\" in *MainPID*) echo {pid};; esac\n"
    )
}

#[test]
fn a_program_that_runs_already_is_told_or_started_anew() {
    let world = World::new(bins!());
    let host = world.owner("desk");
    let (home, runtime) = (host.dir.join("home"), host.dir.join("runtime"));
    fs::create_dir_all(runtime.join("systemd/private")).unwrap();
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    let install = |program: &str, more: &[&str]| {
        let mut command = host.command(program);
        command.env("PATH", &path).env("XDG_RUNTIME_DIR", &runtime);
        run(command.args(["install", "--user"]).args(more), "")
    };
    let systemctl = |script: &str| tests::script(&home.join("systemctl"), script);
    systemctl(SYSTEMCTL);
    let pid = host.agent.as_ref().unwrap().pid();
    refused(&install(host.bins.agent, &[]), &format!("`vault-agent` runs already (pid {pid})"));
    assert!(!unit(&host).exists(), "nothing is written");
    let server = world.server.as_ref().unwrap().pid();
    let data = world.data();
    let told = install(host.bins.server, &["--data", data.to_str().unwrap()]);
    refused(&told, &format!("`vault-server` runs already (pid {server})"));
    // The unit's own, of this program: nothing to do. Of another that was there before: anew.
    systemctl(&active(pid));
    let restarted = || {
        let _ = fs::remove_file(home.join("asked"));
        let ran = install(host.bins.agent, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        fs::read_to_string(home.join("asked")).unwrap().contains(" restart ")
    };
    assert!(restarted(), "the unit is new");
    assert!(!restarted());
    systemctl(&active(std::process::id()));
    assert!(restarted(), "the program is another");
}

#[test]
fn a_package_gets_its_unit_below_a_folder() {
    let world = World::new(bins!());
    let host = world.host("desk");
    let root = host.dir.join("package");
    let root = root.to_str().unwrap();
    let written = |program: &str| {
        let file = format!("{root}/usr/lib/systemd/system/{program}.service");
        fs::read_to_string(file).unwrap()
    };
    let _ = host.agent_command(&["install", "--root", root]).ok();
    assert_eq!(written("vault-agent"), host.agent_command(&["install", "--print"]).ok());
    let server =
        |args: &[&str]| run(host.command(host.bins.server).arg("install").args(args), "").ok();
    let _ = server(&["--root", root]);
    assert_eq!(written("vault-server"), server(&["--print"]));
    let files = files_below(Path::new(root));
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn keys_are_not_sealed_where_systemd_does_not_run() {
    let world = World::new(bins!());
    let host = world.host("desk");
    refused(&host.agent_command(&["install", "--seal-keys", "--user"]), "cannot be used with");
    let _ = host.agent_command(&["init", "--name", "desk"]).ok();
    let ran = host.agent_command(&["install", "--seal-keys"]);
    assert_ne!(ran.code, 0, "{}", ran.err);
    let keys = host.state().join("identity");
    for key in ["age.key", "sign.key"] {
        assert!(keys.join(key).exists() && !keys.join(format!("{key}.sealed")).exists());
    }
}
