//! What goes from a state folder, what stays, and what is refused before anything is stopped.

use std::fs;

use machine::identity::MachineKeys;
use machine::written::Written;

use super::*;
use crate::targets::tests::mounts;

/// A state folder with an agent's keys and pins.
fn agent(dir: &tempfile::TempDir, name: &str) -> Paths {
    let state = dir.path().canonicalize().unwrap().join("state");
    let paths = Paths::resolve(Some(state), None).unwrap();
    MachineKeys::create(&paths).unwrap();
    let pins = Pins {
        addresses: Vec::new(),
        server: Vec::new(),
        vault: vault(),
        name: name.parse().unwrap(),
        checkpoint: None,
    };
    pins.store(&paths).unwrap();
    files::create_dir_private(&paths.state.join("rekey")).unwrap();
    for name in [
        "agent.db",
        "agent.db-wal",
        "tokens.json",
        "agent.log",
        "agent.toml",
        "renewal.json",
        ".appointing.json.vault-new",
        "rekey/pins.json",
        "identity/rekeyed.json",
    ] {
        files::write_private(&paths.state.join(name), b"").unwrap();
    }
    let access = files::Access::PRIVATE;
    Written::new(&paths.state).note(dir.path(), None, b"x", access).unwrap();
    paths
}

/// Changes nothing.
const CHECK: Args =
    Args { user: false, with_targets: false, name: None, of: None, check: true, unjoined: false };

fn vault() -> Hash {
    Hash::of(&[b"vault"])
}

/// Removes everything; returns what it said.
fn cleared(paths: &Paths) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let term = Term::piped(std::io::empty(), std::io::sink(), writer);
    clear(paths, &term).unwrap();
    drop(term);
    std::io::read_to_string(&mut reader).unwrap()
}

/// Asks whether the agent of the machine `vps` may go.
fn asked(paths: &Paths) -> Result<()> {
    let name = Some("vps".to_owned());
    let args = Args { user: true, with_targets: false, name, of: Some(vault()), ..CHECK };
    refuse(&args, Whose::User, paths)
}

#[test]
fn the_agents_own_files_go_and_the_folder_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "vps");
    asked(&paths).unwrap();
    let said = cleared(&paths);
    assert!(!paths.state.exists(), "{said}");
    assert!(said.ends_with(&format!("removed: `{}`\n", paths.state.display())), "{said}");
    // A state that is gone already is done.
    asked(&paths).unwrap();
    assert_eq!(cleared(&paths), "");
}

#[test]
fn a_state_folder_on_which_something_is_mounted_is_emptied_and_stays() {
    let test = "a_state_folder_on_which_something_is_mounted_is_emptied_and_stays";
    if !mounts::are_own(&format!("uninstall::tests::{test}")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().canonicalize().unwrap().join("state");
    files::create_dir_private(&state).unwrap();
    let run = |program: &str, words: &[&str]| {
        let ran = std::process::Command::new(program).args(words).arg(&state).status();
        assert!(ran.unwrap().success(), "{program}");
    };
    run("mount", &["-t", "tmpfs", "-o", "mode=700", "tmpfs"]);
    let paths = agent(&dir, "vps");
    let said = cleared(&paths);
    let shown = state.display();
    let expected = format!("emptied: `{shown}`, which stays, as something is mounted there\n");
    assert!(said.ends_with(&expected), "{said}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    // Once more there is nothing to do.
    cleared(&paths);
    run("umount", &[]);
}

#[test]
fn what_is_not_the_agents_stays_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "vps");
    let others = ["notes.txt", "photos/one.jpg", "written/list.json"];
    fs::create_dir(paths.state.join("photos")).unwrap();
    for name in others {
        files::write_private(&paths.state.join(name), name.as_bytes()).unwrap();
    }
    let said = cleared(&paths);
    for name in others {
        assert_eq!(fs::read_to_string(paths.state.join(name)).unwrap(), name);
    }
    let named = ["notes.txt", "photos", "written"];
    let named = named.map(|name| format!("`{}`", paths.state.join(name).display())).join(", ");
    assert!(said.contains(&format!("kept, as it is not the agent's: {named}\n")), "{said}");
    let left: Vec<_> = fs::read_dir(&paths.state).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_servers_data_below_the_state_is_refused_before_anything_goes() {
    for name in ["server.key", "vault.db", "server.lock", "server.key.sealed"] {
        let dir = tempfile::tempdir().unwrap();
        let paths = agent(&dir, "vps");
        let file = paths.state.join("deep/server").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        files::write_private(&file, b"").unwrap();
        let fault = asked(&paths).unwrap_err();
        assert!(fault.to_string().ends_with(&format!("`{}`", file.display())), "{fault}");
        assert!(hint::hint(&fault).unwrap().contains("move the server's data folder away"));
    }
}

#[test]
fn another_machine_and_one_that_does_not_say_which_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "nas");
    let fault = asked(&paths).unwrap_err().to_string();
    assert!(fault.starts_with("this host is `nas` of vault "), "{fault}");
    // Keys without pins: a host that is about to be added, perhaps to another vault.
    Pins::remove(&paths).unwrap();
    let fault = asked(&paths).unwrap_err().to_string();
    assert!(fault.starts_with("this host's agent has joined no vault"), "{fault}");
    let any = Args { user: true, ..CHECK };
    refuse(&any, Whose::User, &paths).unwrap();
    // Without keys either: a machine that has lost its state, of which the rest may go.
    wipe(&paths).unwrap();
    asked(&paths).unwrap();
    cleared(&paths);
    assert!(!paths.state.exists());
}

#[test]
fn an_admin_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "vps");
    files::create_dir_private(&paths.admin()).unwrap();
    asked(&paths).unwrap();
    files::write_private(&paths.admin().join("laptop.age"), b"").unwrap();
    let fault = asked(&paths).unwrap_err().to_string();
    assert!(fault.starts_with("an admin key lies in "), "{fault}");
    fs::remove_file(paths.admin().join("laptop.age")).unwrap();
    for name in ["appointing.json", "recovering.json"] {
        let file = paths.state.join(name);
        files::write_private(&file, b"{}").unwrap();
        let fault = asked(&paths).unwrap_err().to_string();
        let expected = format!("an admin key lies in `{}`", file.display());
        assert!(fault.starts_with(&expected), "{fault}");
        fs::remove_file(&file).unwrap();
    }
    asked(&paths).unwrap();
}

#[test]
fn files_of_targets_go_or_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "vps");
    let file = |name: &str| dir.path().canonicalize().unwrap().join(name);
    let written = Written::new(&paths.state);
    let mut config = String::new();
    for name in ["one.env", "two.env"] {
        let path = file(name);
        config += &format!("[[target]]\npath = \"{}\"\nsecrets = [\"a/b\"]\n", path.display());
        files::write_private(&path, b"K=1\n").unwrap();
        written.note(&path, None, b"K=1\n", files::Access::PRIVATE).unwrap();
    }
    let access = files::Access::PRIVATE;
    files::replace(&paths.config, config.as_bytes(), access).unwrap();
    files::replace(&file("one.env"), b"MINE=1\n", access).unwrap();
    let purged = || {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let term = Term::piped(std::io::empty(), std::io::sink(), writer);
        let done = purge(&paths, &term);
        drop(term);
        (done, std::io::read_to_string(&mut reader).unwrap())
    };
    let (done, said) = purged();
    assert!(done.unwrap_err().to_string().starts_with("the file of 1 target stays"), "{said}");
    assert!(said.contains("one.env` stays: ") && said.contains("hint: if nobody needs"), "{said}");
    assert!(file("one.env").exists() && !file("two.env").exists());
    assert_eq!(fs::read_to_string(&paths.config).unwrap(), config, "all are known still");
    fs::remove_file(file("one.env")).unwrap();
    purged().0.unwrap();
}

#[test]
fn a_configuration_that_does_not_say_what_runs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = agent(&dir, "vps");
    files::replace(&paths.config, b"[api", files::Access::PRIVATE).unwrap();
    let fault = asked(&paths).unwrap_err().to_string();
    assert!(fault.contains("agent.toml` line 1"), "{fault}");
}

#[test]
fn keys_without_a_vault_go_again_and_leave_nothing_but_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().canonicalize().unwrap().join("state");
    let paths = Paths::resolve(Some(state), None).unwrap();
    MachineKeys::create(&paths).unwrap();
    forget(&paths).unwrap();
    assert!(!paths.state.exists());
    forget(&paths).unwrap();
    MachineKeys::create(&paths).unwrap();
    files::write_private(&paths.config, b"# mine\n").unwrap();
    forget(&paths).unwrap();
    assert!(paths.config.exists() && !paths.identity().exists());
    let dir = tempfile::tempdir().unwrap();
    let joined = agent(&dir, "vps");
    let fault = forget(&joined).unwrap_err().to_string();
    assert!(fault.starts_with("this host is `vps` of vault "), "{fault}");
    assert!(MachineKeys::exist(&joined));
}
