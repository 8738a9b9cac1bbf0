//! Tests of the program's own verbs: what they print and refuse.

use clap::CommandFactory as _;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::token::MachineLine;

use super::*;

fn paths(dir: &tempfile::TempDir) -> Paths {
    Paths::resolve(Some(dir.path().join("state")), None).unwrap()
}

#[test]
fn the_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn init_makes_keys_once_and_prints_the_same_line_again() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(&dir);
    let name: Name = "vps".parse().unwrap();
    let exit = init(&paths, Some(name.clone()), &Term::std()).unwrap();
    assert_eq!(exit, Exit::OK);
    let first = MachineKeys::load(&paths).unwrap().line(name.clone());
    init(&paths, Some(name.clone()), &Term::std()).unwrap();
    let again = MachineKeys::load(&paths).unwrap().line(name);
    assert_eq!(first, again);
    assert_eq!(MachineLine::from_line(&first.to_line().unwrap()).unwrap(), first);
}

fn pin_line() -> PinLine {
    PinLine {
        addresses: vec!["127.0.0.1:1".into()],
        server: vec![SignKey::generate().verify_key()],
        vault: Hash::of(&[b"vault"]),
        name: "vps".parse().unwrap(),
    }
}

#[test]
fn a_server_that_cannot_be_reached_does_not_stop_a_machine_from_joining() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(&dir);
    init(&paths, Some("vps".parse().unwrap()), &Term::std()).unwrap();
    let line = pin_line().to_line().unwrap();
    assert_eq!(join(&paths, &line, &Term::std()).unwrap(), Exit::OK);
    assert_eq!(Pins::load(&paths).unwrap().unwrap().name.as_str(), "vps");
    let renamed = init(&paths, Some("other".parse().unwrap()), &Term::std()).unwrap_err();
    assert_eq!(renamed.to_string(), "this machine is `vps` already");
}

#[test]
fn joining_needs_keys_and_a_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(&dir);
    let line = pin_line().to_line().unwrap();
    assert!(join(&paths, &line[..line.len() - 2], &Term::std()).is_err());
    assert_eq!(Pins::load(&paths).unwrap(), None);
    assert!(join(&paths, &line, &Term::std()).is_err(), "there are no keys yet");
}
