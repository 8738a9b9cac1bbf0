//! Steps on a host that a script pretends to be.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use shared::keys::{Identity, SignKey};

use std::time::Duration;

use super::super::connection::Connection;
use super::super::probe;
use super::*;

/// Writes a program for the shell; another process does, as a child that another test starts at
/// this moment would keep it open, and nothing runs that is open for writing.
fn program(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    let (path, written) = (dir.path().join(name), dir.path().join(format!("{name}.txt")));
    host::files::write_private(&written, format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    let copied = std::process::Command::new("cp").args([&written, &path]).status().unwrap();
    assert!(copied.success());
    std::fs::remove_file(written).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

/// Acts as ssh to a host whose shell is this one's and greets on both outputs, without ends of
/// lines, and notes how it was called.
const SSH: &str = "HOME=${0%/*}; VAULT_STATE_DIR=$HOME/.local/state/vault-agent
    export HOME VAULT_STATE_DIR
    echo \"$@\" >>\"$HOME/calls\"
    [ \"$1\" = -M ] || printf 'warning: hello' >&2
    while [ \"$1\" != -- ]; do [ \"$1\" != -O ] || exit 0; shift; done
    printf 'VLTM1-x\\nwelcome'
    exec sh -c \"$3\"";

/// A host whose `vault-agent` is a script.
fn with<T>(agent: &str, act: impl FnOnce(&Host) -> T) -> T {
    with_home(agent, |host, _| act(host))
}

/// As [`with`], with the folder that is home there.
fn with_home<T>(agent: &str, act: impl FnOnce(&Host, &tempfile::TempDir) -> T) -> T {
    with_patience(agent, Duration::from_secs(60), act)
}

/// As [`with_home`], of a host that may be silent for so long.
fn with_patience<T>(
    agent: &str,
    patience: Duration,
    act: impl FnOnce(&Host, &tempfile::TempDir) -> T,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let ssh = program(&dir, "ssh", SSH);
    let connection = Connection::open_within(&ssh, "vps", patience).unwrap();
    let (probe, rights, folder) = (probe::sample(), Rights::Own, Folder::User);
    let host = Host {
        at: Reached { connection, probe, rights, folder },
        agent: program(&dir, "agent", agent),
        is_renewed: false,
    };
    act(&host, &dir)
}

/// The machine that is to leave.
fn vps() -> Option<Joined> {
    Some(Joined { vault: VaultId::ZERO, name: "vps".parse().unwrap() })
}

fn line(name: &str) -> MachineLine {
    let recipient = Identity::generate().recipient();
    MachineLine::new(name.parse().unwrap(), recipient, &SignKey::generate()).unwrap()
}

/// Prints the line and the words of `words`, as `vault-agent init` does.
fn prints(line: &MachineLine, words: &MachineLine) -> String {
    format!("echo '{}'; echo '{LABEL}{}'", line.to_line().unwrap(), words.words())
}

fn init(agent: &str) -> Result<MachineLine> {
    with(agent, |host| host.init(&"vps".parse().unwrap(), VaultId::ZERO))
}

#[test]
fn the_machine_line_is_found_among_other_output() {
    let line = line("vps");
    let (args, prints) = (format!("init --name vps --of {}", VaultId::ZERO), prints(&line, &line));
    let found = init(&format!("echo motd; {prints}; echo bye; test \"$*\" = '{args}'"));
    assert_eq!(found.unwrap(), line);
}

#[test]
fn a_line_exchanged_on_the_way_is_refused_by_its_words() {
    let (real, exchanged) = (line("vps"), line("vps"));
    let fault = init(&prints(&exchanged, &real)).unwrap_err().to_string();
    let (real, exchanged) = (real.words(), exchanged.words());
    let expected = format!("`vps` shows the words `{real}`, but its line has `{exchanged}`");
    assert_eq!(fault, expected);
}

#[test]
fn what_goes_wrong_there_is_named_with_the_way_out() {
    let other = line("nas");
    for (script, expected) in [
        ("exit 3".to_owned(), "`vault-agent init` on `vps` failed: exit status: 3"),
        ("echo no >&2; exit 1".to_owned(), "`vault-agent init` on `vps` failed: no"),
        ("echo hello".to_owned(), "`vault-agent init` on `vps` printed no machine line"),
        (prints(&other, &other), "`vps` calls itself `nas` already"),
        ("echo VLTM1-abc".to_owned(), "E_TOKEN: machine line was cut"),
        ("kill -9 $PPID; exit 255".to_owned(), "the connection to `vps` was cut: no word why"),
        ("yes | head -c 2000000".to_owned(), "`vps` prints more than 1048576 bytes in one step"),
    ] {
        let fault = init(&script).unwrap_err();
        assert_eq!(fault.to_string(), expected);
        assert!(host::hint::hint(&fault).is_some(), "{expected}");
    }
    let fault = init(r"echo 'bad\033[2J' >&2; echo 'hint: do it' >&2; exit 2").unwrap_err();
    let expected = "`vault-agent init` on `vps` failed: bad\\u001b[2J\n`vps` says: do it";
    assert_eq!(fault.to_string(), expected);
    let hint = host::hint::hint(&fault).unwrap();
    assert!(hint.starts_with("nothing is lost"), "{hint}");
}

#[test]
fn what_a_host_advises_is_shown_as_its_own_word() {
    let script = "echo warning: w >&2; echo ' Hint:  rm -rf /' >&2; echo done >&2";
    with(&format!("{script}; echo '[]'"), |host| {
        let wish = TargetWish { file: "/f".to_owned(), secrets: Vec::new(), flags: Vec::new() };
        let said = Shown::lines(["warning: w", "`vps` says: rm -rf /"]);
        let (added, _) = host.add_target(&wish).unwrap();
        // What lists the targets warns as well.
        assert!(matches!(added, Added::Now(notes) if notes == vec![said; 3]));
        let said = host.uninstall(vps().as_ref(), false).unwrap();
        assert_eq!(said, "warning: w\ndone\nwarning: w\ndone");
    });
}

#[test]
fn a_refused_uninstall_has_stopped_nothing() {
    let agent = "case \"$*\" in answering) exit 0;; *--check) echo other >&2; exit 1;; esac; \
                 touch \"$HOME/gone\"";
    with_home(agent, |host, home| {
        let state = home.path().join(".local/state/vault-agent");
        std::fs::create_dir_all(&state).unwrap();
        let mut runs = process(home, &host.agent);
        note(&state, &runs);
        let refused = host.uninstall(vps().as_ref(), false).unwrap_err();
        assert_eq!(refused.to_string(), "`vault-agent uninstall` on `vps` failed: other");
        assert!(runs.try_wait().unwrap().is_none() && state.join("agent.pid").exists());
        assert!(!home.path().join("gone").exists());
        drop(runs.stdin.take());
        runs.wait().unwrap();
    });
}

/// Starts a process there that looks as an agent of that program does; it ends with its input.
fn process(home: &tempfile::TempDir, agent: &str) -> Child {
    let access = host::files::Access::PRIVATE;
    host::files::replace_trusted(&home.path().join("run"), b"read -r line", access).unwrap();
    let mut runs = std::process::Command::new("sh");
    runs.arg0(agent).arg("run").current_dir(home).stdin(Stdio::piped());
    runs.env("VAULT_STATE_DIR", home.path().join(".local/state/vault-agent"));
    runs.spawn().unwrap()
}

fn note(state: &std::path::Path, runs: &Child) {
    let noted = format!("{}\n", runs.id());
    let access = host::files::Access::PRIVATE;
    host::files::replace_trusted(&state.join("agent.pid"), noted.as_bytes(), access).unwrap();
}

#[test]
fn an_agent_is_found_however_it_was_started_and_no_other_process_is_taken_for_one() {
    with_home("exit 0", |host, home| {
        let state = home.path().join(".local/state/vault-agent");
        std::fs::create_dir_all(&state).unwrap();
        let names = [
            (&*host.agent, true),
            // By hand, and from where the program was before.
            ("vault-agent", true),
            ("./vault-agent", true),
            ("/usr/bin/vault-agent", true),
            ("/usr/bin/buildkite-agent", false),
            ("my-vault-agent", false),
        ];
        let mut runs = names.map(|(it, _)| process(home, it));
        // After a restart of the host the noted number may be any process's.
        note(&state, &runs[4]);
        let list = Script::default().then(include_str!("../processes.sh")).then("agents");
        let ran = host.must(Step::new("looking"), &list).unwrap();
        for ((name, expected), runs) in names.iter().zip(&runs) {
            let id = runs.id().to_string();
            assert_eq!(ran.out.lines().any(|line| line == id), *expected, "{name}");
        }
        for runs in &mut runs {
            drop(runs.stdin.take());
            runs.wait().unwrap();
        }
    });
}

#[test]
fn an_agent_that_hides_from_its_own_user_is_found_by_its_socket() {
    with_home("[ \"$1\" != answering ] || cat \"$HOME/answers\"", |host, home| {
        std::fs::create_dir_all(home.path().join(".local/state/vault-agent")).unwrap();
        let [answers, other] = [(); 2].map(|()| process(home, "vault-agent"));
        let (id, access) = (format!("{}\n", answers.id()), host::files::Access::PRIVATE);
        host::files::replace_trusted(&home.path().join("answers"), id.as_bytes(), access).unwrap();
        // As the kernel does it for a process that may not be dumped, unless root looks.
        let hide = "readlink() { case $1 in /proc/self/*) command readlink \"$1\" ;; \
                    *) return 1 ;; esac; }";
        let list = Script::default().then(hide).then(include_str!("../processes.sh"));
        let ran = host.must(Step::new("looking"), &list.then("agents; demand_ours")).unwrap();
        assert_eq!(ran.out, id);
        for mut runs in [answers, other] {
            drop(runs.stdin.take());
            runs.wait().unwrap();
        }
    });
}

#[test]
fn an_agent_that_nobody_here_can_end_is_told_before_anything_is_done() {
    let text = "an agent runs here that somebody else has started: process 1";
    with("[ \"$1\" != answering ] || echo 1", |host| {
        for refused in [host.may_leave(vps().as_ref()), host.may_start()] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(text), "{refused}");
        }
    });
    with("exit 0", |host| {
        host.may_leave(vps().as_ref()).unwrap();
        host.may_start().unwrap();
    });
}

/// The folder of programs of a user there.
fn bin(home: &tempfile::TempDir) -> tempfile::TempDir {
    let folder = home.path().join(".local");
    std::fs::create_dir_all(&folder).unwrap();
    tempfile::Builder::new().prefix("bin").rand_bytes(0).tempdir_in(folder).unwrap()
}

#[test]
fn other_peoples_programs_are_neither_replaced_nor_removed() {
    with_home("exit 0", |host, home| {
        let bin = bin(home);
        let Reached { connection, folder, rights, .. } = &host.at;
        let refused = || program::refuse_others(connection, *folder, rights).err();
        assert!(refused().is_none());
        let ours = program(&bin, "vault-agent", "echo vault-agent 0.1.0");
        assert!(refused().is_none());
        let hashicorps = "echo 'Vault v1.15.0 (abc), built 2023-09-22'";
        for text in [hashicorps, "echo vault", "echo vault 1.2.3; echo more", "exit 1"] {
            let others = program(&bin, "vault", text);
            let fault = refused().unwrap();
            let expected = format!("`{others}` on `vps` is another program than ours, and stays");
            assert_eq!(fault.to_string(), expected);
            assert!(host::hint::hint(&fault).unwrap().contains("leave `--user` out"));
            // One that is ours, but that nobody has sent, stays as well.
            let said = host.uninstall(vps().as_ref(), false).unwrap();
            let left = "left, as it was not sent from another machine: ";
            assert_eq!(said, Shown::lines([&others, &ours].map(|it| format!("{left}`{it}`"))));
            std::fs::remove_file(others).unwrap();
        }
    });
}

#[test]
fn what_was_sent_goes_and_what_was_changed_since_stays() {
    with_home("exit 0", |host, home| {
        let bin = bin(home);
        let send = || {
            let files = ["vault", "vault-agent"]
                .map(|name| program(&bin, name, &format!("echo {name} 0.1.0")));
            let note = "set -- \"$(hash \"$1\")\" \"$1\" \"$(hash \"$2\")\" \"$2\"; note \"$@\"";
            let script = Script::default().arguments(files.iter().map(|it| &**it)).then(note);
            host.must(Step::new("sending"), &script).unwrap();
            files
        };
        let there = |files: &[String; 2]| files.clone().map(|it| std::fs::exists(it).unwrap());
        let files = send();
        // A cut before they go leaves them alone: the agent is looked for all the same.
        let is_nothing = || host.at.standing().unwrap().is_nothing();
        assert!(!is_nothing());
        assert_eq!(host.uninstall(vps().as_ref(), false).unwrap(), "");
        assert_eq!((there(&files), is_nothing()), ([false, false], true));
        let files = send();
        std::fs::remove_file(&files[0]).unwrap();
        program(&bin, "vault", "echo vault 0.2.0");
        let said = host.uninstall(vps().as_ref(), false).unwrap();
        assert!(said.contains(&files[0]) && !said.contains(&files[1]), "{said}");
        assert_eq!(there(&files), [true, false]);
    });
    // Without a folder of programs there is nothing to remove.
    with("exit 0", |host| {
        let said = host.uninstall(vps().as_ref(), false).unwrap();
        assert_eq!(said, "");
    });
}

#[test]
fn the_connection_is_private_and_runs_what_it_is_told_alone() {
    with_home("exit 0", |host, home| {
        host.run(Step::new("nothing"), &Script::default()).unwrap();
        let calls = std::fs::read_to_string(home.path().join("calls")).unwrap();
        let calls: Vec<_> = calls.lines().collect();
        assert_eq!(calls.len(), 2, "{calls:?}");
        for call in &calls {
            for option in [
                "RemoteCommand=none",
                "PermitLocalCommand=no",
                "ForwardAgent=no",
                "ForwardX11=no",
                "ClearAllForwardings=yes",
            ] {
                assert!(call.contains(&format!(" -o {option} ")), "{call}");
            }
        }
        let socket = calls[0].split_once("-S ").unwrap().1.split(' ').next().unwrap();
        let folder = std::path::Path::new(socket).parent().unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    });
}

/// An agent with one target, whose list is what was added last.
const LISTS: &str = r#"case "$2" in list)
    row() { echo "{\"path\":\"/srv/$1\",\"name\":\"~/$1\",\"secrets\":[\"secret/a\"]}"; }
    echo "[$(row .env)$(sed "s/^/,/" "$HOME/more" 2>/dev/null)]" ;;
    *) printf 'warning: no agent runs here: x\nhint: start it\n' >&2
    echo "warning: $*" >&2
    case "$*" in *new*) echo '{"path":"/n","name":"n","secrets":[]}' >"$HOME/more" ;; esac ;; esac"#;

#[test]
fn a_target_that_is_there_is_not_added_again_but_does_what_is_new() {
    let wish = |file: &str, secret: &str, flags: &[&str]| TargetWish {
        file: file.to_owned(),
        secrets: vec![secret.to_owned()],
        flags: flags.iter().map(|it| (*it).to_owned()).collect(),
    };
    with(LISTS, |host| {
        let add = |wish: &TargetWish| host.add_target(wish).unwrap();
        let (added, names) = add(&wish("/srv/.env", "secret/a", &[]));
        assert!(matches!(added, Added::Before));
        assert_eq!(names, ["/srv/.env", "~/.env"]);
        let (added, _) = add(&wish("/srv/.env", "secret/b", &["--block"]));
        assert!(matches!(added, Added::Otherwise(secrets) if secrets == ["secret/a"]));
        let (added, names) = add(&wish("/srv/.env", "secret/a", &["--on-change", "old"]));
        assert!(matches!(added, Added::Before));
        assert_eq!(names, ["/srv/.env", "~/.env"]);
        let (added, _) = add(&wish("/srv/.env", "secret/a", &["--on-change", "new"]));
        let said = "warning: target add /srv/.env secret/a --on-change new --update";
        assert!(matches!(added, Added::Changed(notes) if notes == [Shown::from(said)]));
        let (added, _) = add(&wish("/srv/b.env", "secret/b", &["--on-change", "echo 'a b'"]));
        let said = "warning: target add /srv/b.env secret/b --on-change echo 'a b'";
        assert!(matches!(added, Added::Now(notes) if notes == [Shown::from(said)]));
    });
    with("[ \"$2\" = list ] && echo '[]' || { echo 'E_TARGET_FOREIGN: x' >&2; exit 1; }", |host| {
        let (added, _) = host.add_target(&wish("/srv/b.env", "secret/b", &[])).unwrap();
        assert!(matches!(added, Added::Foreign(why) if why.text.contains("E_TARGET_FOREIGN: x")));
    });
}

#[test]
fn a_step_that_hangs_is_given_up_and_named() {
    let agent = "[ \"$1\" != init ] || exec sleep 600";
    with_patience(agent, Duration::from_millis(300), |host, _| {
        let fault = host.init(&"vps".parse().unwrap(), VaultId::ZERO).unwrap_err();
        let expected = "`vps` has given no sign of life for 300 ms: `vault-agent init`";
        assert_eq!(fault.to_string(), expected);
        let hint = host::hint::hint(&fault).unwrap();
        assert!(hint.contains("run the same command again"), "{hint}");
    });
}

#[test]
fn a_step_that_goes_on_is_not_given_up() {
    with_patience("exit 0", Duration::from_secs(2), |host, _| {
        let slow = "for n in 1 2 3 4 5 6; do sleep 0.5; echo $n; done";
        let ran = host.run(Step::new("counting"), &Script::default().then(slow)).unwrap();
        assert_eq!(ran.out.lines().count(), 6);
    });
}

#[test]
fn a_login_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    // As ssh makes its socket once the user is let in.
    let hangs = "[ \"$1\" = -M ] || exit 0; touch \"$4\"; exec sleep 600";
    let ssh = program(&dir, "ssh", hangs);
    let fault = Connection::open_within(&ssh, "vps", Duration::from_millis(300)).err().unwrap();
    assert_eq!(fault.to_string(), "`vps` has given no sign of life for 300 ms: the login");
}

#[test]
fn what_is_there_of_an_agent_is_told_without_it() {
    with_home("exit 1", |host, home| {
        let write = |file: &str, text: &str| {
            let file = home.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            host::files::write_private(&file, text.as_bytes()).unwrap();
        };
        let unit = ".config/systemd/user/vault-agent.service";
        write(unit, "# Written by somebody\n");
        assert!(host.at.standing().unwrap().is_nothing());
        std::fs::remove_file(home.path().join(unit)).unwrap();
        write(unit, "# Written by `vault-agent install`. Add to it…\n");
        write(".local/state/vault-agent/identity/sign.key", "x");
        let vault = VaultId::ZERO;
        let pins = format!("{{\n \"vault\": \"{vault}\",\n \"name\": \"vps\"\n}}\n");
        write(".local/state/vault-agent/pins.json", &pins);
        let found = host.at.standing().unwrap();
        assert!(found.unit && found.state && found.keys && found.joined == vps(), "{found:?}");
    });
}

#[test]
fn a_folder_that_cannot_hold_the_target_is_named() {
    with_home("exit 1", |host, home| {
        let at = |name: &str| home.path().join(name).display().to_string();
        std::fs::create_dir(home.path().join("app")).unwrap();
        host.at.demand_folder(&at("app/.env")).unwrap();
        for (file, said) in [("none/.env", "there is no folder `"), ("app", "is a folder, or")] {
            let fault = host.at.demand_folder(&at(file)).unwrap_err();
            assert!(fault.to_string().contains(said), "{fault}");
            assert!(host::hint::hint(&fault).unwrap().contains("nothing was signed"));
        }
    });
}

#[test]
fn a_host_that_is_none_or_not_reached_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = program(&dir, "ssh", "[ \"$1\" != -q ] || exit 0; exit 255");
    for (host, expected) in [
        ("-oProxyCommand=x", "`-oProxyCommand=x` is no host"),
        ("vps", "ssh did not get to `vps` (exit status: 255)"),
    ] {
        let fault = Connection::open(&refusing, host).err().unwrap();
        assert_eq!(fault.to_string(), expected);
    }
    let fault = Connection::open("/nowhere/ssh", "vps").err().unwrap();
    assert_eq!(fault.to_string(), "there is no `ssh` on this machine");
}
