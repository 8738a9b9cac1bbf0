//! `target add` of a file that the agent could not write: refused with the reason and the way out,
//! and nothing is configured.

use std::path::Path;
use std::process::Command as Program;

use super::{World, mounts};

fn program(name: &str, words: &[&str]) -> Result<(), String> {
    let ran = Program::new(name).args(words).output().map_err(|why| format!("{name}: {why}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&ran.stderr).trim())),
    }
}

/// Adds the file, and what is to follow from it.
fn check(world: &World, more: &[&str], said: &str) {
    let shown = world.run(&[&["add", "ROOT/home/.env", "secret/a"][..], more].concat());
    if said.is_empty() {
        assert!(shown.contains("added: `ROOT/home/.env`"), "{shown}");
        world.run(&["remove", "ROOT/home/.env"]);
        return;
    }
    assert!(shown.contains(&format!("error: {said}")), "{shown}");
    assert!(!world.config.exists() || !world.text().contains("[[target]]"), "{shown}");
}

#[test]
fn what_cannot_be_written_is_refused_before_it_is_added() {
    if !mounts::are_own(
        "targets::tests::writable::what_cannot_be_written_is_refused_before_it_is_added",
    ) {
        return;
    }
    let world = World::new("");
    let home = world.root.join("home");
    let (home, file) = (home.to_str().unwrap(), home.join(".env"));
    let file = file.to_str().unwrap();
    std::fs::create_dir(home).unwrap();
    check(&world, &[], "");
    drop(std::fs::File::create_new(file).unwrap());
    check(&world, &[], "");
    check(&world, &["--in-place"], "");
    let marked = "cannot be changed: it is marked immutable or append-only\nhint: `lsattr -d ROOT";
    for path in [file, home] {
        if let Err(why) = program("chattr", &["+i", path]) {
            eprintln!("not made here: {why}");
            continue;
        }
        let shown = path.replace(world.root.to_str().unwrap(), "ROOT");
        check(&world, &[], &format!("`{shown}` {marked}"));
        let into = if path == file { format!("`{shown}` {marked}") } else { String::new() };
        check(&world, &["--in-place"], &into);
        program("chattr", &["-i", path]).unwrap();
    }
    program("mount", &["--bind", home, home]).unwrap();
    program("mount", &["-o", "remount,bind,ro", home]).unwrap();
    let told = "cannot write `ROOT/home/.env`: Read-only file system";
    check(&world, &[], told);
    check(&world, &["--in-place"], told);
    program("umount", &[home]).unwrap();
    // The folder is read-only, the file itself is mounted over and may be written into.
    let outside = world.root.join("outside");
    drop(std::fs::File::create_new(&outside).unwrap());
    program("mount", &["--bind", home, home]).unwrap();
    program("mount", &["--bind", outside.to_str().unwrap(), file]).unwrap();
    program("mount", &["-o", "remount,bind,ro", home]).unwrap();
    check(&world, &["--in-place"], "");
    check(&world, &[], told);
    for path in [file, home] {
        program("umount", &[path]).unwrap();
    }
    assert!(Path::new(file).exists());
}
