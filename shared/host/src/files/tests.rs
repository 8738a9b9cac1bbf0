//! What `replace` promises: atomic, private, durable, never through a link.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

fn write(path: &Path, content: &str) -> Replaced {
    replace(path, content.as_bytes(), Access::PRIVATE).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn equal_content_is_not_touched() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    assert_eq!(write(&path, "A=1\n"), Replaced::Written);
    let inode = || path.metadata().unwrap().ino();
    let first = inode();
    assert_eq!(write(&path, "A=1\n"), Replaced::Unchanged);
    assert_eq!(inode(), first);
    assert_eq!(write(&path, "A=2\n"), Replaced::Written);
    assert_ne!(inode(), first);
    assert_eq!(write(&path, ""), Replaced::Written);
    assert_eq!(write(&path, ""), Replaced::Unchanged);
    assert_eq!(names(&folder), [".env"]);
}

#[test]
fn a_file_that_may_not_be_shown_yet_leaves_the_old_one() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    write(&path, "A=1\n");
    for content in ["A=1\n", "A=2\n"] {
        let mut seen = None;
        let refused = replace_when(&path, content.as_bytes(), Access::PRIVATE, || {
            seen = std::fs::read_to_string(&path).ok();
            assert_eq!(names(&folder), [".env"], "the new file has no name while it waits");
            Err(FileError::Busy(path.clone()))
        });
        assert!(matches!(refused, Err(FileError::Busy(_))), "{refused:?}");
        assert_eq!(seen.as_deref(), Some("A=1\n"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\n");
        assert_eq!(names(&folder), [".env"]);
    }
}

#[test]
fn a_print_is_of_one_content_and_access_alone() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    let print = Print::of(b"A=1\n", Access::PRIVATE);
    let is_right = || print.is_of(&path).unwrap();
    assert!(!is_right());
    write(&path, "A=1\n");
    assert!(is_right());
    // No clock is asked: an edit of equal length is one, however soon it comes.
    let times =
        std::fs::FileTimes::new().set_modified(path.metadata().unwrap().modified().unwrap());
    let mut open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    open.write_all(b"A=2\n").unwrap();
    open.set_times(times).unwrap();
    assert!(!is_right());
    write(&path, "A=1\n");
    assert!(is_right());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!is_right());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(folder.join("other"), &path).unwrap();
    write(&folder.join("other"), "A=1\n");
    assert!(!is_right());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(!is_right());
    assert_ne!(Print::of(b"A=1\n", Access::PRIVATE), print, "the salt is another");
}

#[test]
fn mode_and_owner_are_put_right() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    for mode in [0o600, 0o640, 0o400, 0o600] {
        let access = Access { mode, ..Access::PRIVATE };
        assert!(matches!(replace(&path, b"A=1\n", access).unwrap(), Replaced::Written), "{mode:o}");
        assert_eq!(path.metadata().unwrap().mode() & MODE_BITS, mode);
        assert!(
            matches!(replace(&path, b"A=1\n", access).unwrap(), Replaced::Unchanged),
            "{mode:o}"
        );
    }
    if rustix::process::geteuid().is_root() {
        let access = Access { uid: Some(12), gid: Some(34), mode: 0o640 };
        assert!(matches!(replace(&path, b"A=1\n", access).unwrap(), Replaced::Written));
        let found = path.metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & MODE_BITS), (12, 34, 0o640));
        assert_eq!(Access::of(&found), access);
    }
}

#[test]
fn compare_touches_nothing() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    assert_eq!(compare(&path, b"x", Access::PRIVATE).unwrap(), Found::Absent);
    assert!(names(&folder).is_empty());
    write(&path, "x");
    assert_eq!(compare(&path, b"x", Access::PRIVATE).unwrap(), Found::Same);
    assert_eq!(compare(&path, b"y", Access::PRIVATE).unwrap(), Found::Differs);
    assert_eq!(
        compare(&path, b"x", Access { mode: 0o640, ..Access::PRIVATE }).unwrap(),
        Found::Differs
    );
}

#[test]
fn links_and_special_files_are_refused() {
    let (_guard, folder) = folder();
    let real = folder.join("real");
    write(&real, "old");
    let link = folder.join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let sub = folder.join("sub");
    std::fs::create_dir(&sub).unwrap();
    let refusal = |path: &Path| replace(path, b"new", Access::PRIVATE).unwrap_err();
    assert!(matches!(refusal(&link), FileError::Symlink(_)));
    assert!(matches!(refusal(&sub), FileError::NotRegular(_)));
    assert!(matches!(refusal(&folder.join("none/.env")), FileError::NoFolder(_)));
    assert!(matches!(refusal(Path::new("a/.env")), FileError::Relative(_)));
    assert!(matches!(refusal(&folder.join("sub/../.env")), FileError::Relative(_)));
    assert!(matches!(remove(&link), Err(FileError::Symlink(_))));
    assert_eq!(std::fs::read(&real).unwrap(), b"old");
    assert!(refusal(&link).hint().contains("real"), "{}", refusal(&link).hint());
}

#[test]
fn a_hard_linked_file_is_replaced_and_never_written_through() {
    let (_guard, folder) = folder();
    let (path, other) = (folder.join(".env"), folder.join("other"));
    write(&path, "old");
    std::fs::hard_link(&path, &other).unwrap();
    assert!(matches!(write(&path, "old"), Replaced::Unchanged));
    assert!(matches!(write(&path, "new"), Replaced::Written));
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(std::fs::read(&other).unwrap(), b"old");
    assert_eq!((path.metadata().unwrap().nlink(), other.metadata().unwrap().nlink()), (1, 1));
}

#[test]
fn a_folder_that_everybody_may_change_is_refused() {
    let (_guard, folder) = folder();
    let deep = folder.join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join(".env");
    for (mode, refused) in [(0o777, true), (0o1777, false), (0o775, false), (0o757, true)] {
        std::fs::set_permissions(folder.join("a"), std::fs::Permissions::from_mode(mode)).unwrap();
        let written = replace(&path, b"x", Access::PRIVATE);
        assert_eq!(matches!(written, Err(FileError::Everybodys(_))), refused, "{mode:o}");
        assert_eq!(written.is_err(), refused, "{mode:o}");
    }
}

#[test]
fn an_exchange_never_loses_an_edit() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    let edit = |text: &str| {
        std::fs::OpenOptions::new().append(true).open(&path).map(|mut file| {
            file.write_all(text.as_bytes()).unwrap();
        })
    };
    assert!(read(&path, 9).unwrap().is_none());
    write(&path, "A=1\n");
    let seen = read(&path, 9).unwrap().unwrap();
    assert_eq!(seen.content.expose(), b"A=1\n");
    edit("B=2\n").unwrap();
    let swapped = exchange(&path, seen.content.expose(), b"A=3\n", seen.access).unwrap();
    assert!(matches!(swapped, Exchanged::Moved));
    assert_eq!(std::fs::read(&path).unwrap(), b"A=1\nB=2\n");
    assert_eq!(names(&folder), [".env"]);

    // A program that has the old file open still writes into it: that is found too.
    let mut open = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let before = b"A=1\nB=2\n";
    let Exchanged::Done(old) = exchange(&path, before, b"A=3\n", seen.access).unwrap() else {
        panic!("nobody has changed it");
    };
    assert_eq!(old.edited(before).unwrap(), None);
    open.write_all(b"C=4\n").unwrap();
    assert_eq!(old.edited(before).unwrap().unwrap().expose(), b"A=1\nB=2\nC=4\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"A=3\n");
    assert_eq!(names(&folder), [".env"]);
    assert!(matches!(read(&path, 3), Err(FileError::TooLarge { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(exchange(&path, b"A=3\n", b"x", seen.access).unwrap(), Exchanged::Moved));
    assert!(names(&folder).is_empty());
}

#[test]
fn copies_get_names_of_their_own() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    for text in ["one", "two"] {
        copy_aside(&path, ".conflict-1", text.as_bytes(), Access::PRIVATE).unwrap();
    }
    assert_eq!(names(&folder), [".env.conflict-1", ".env.conflict-1-2"]);
    assert_eq!(std::fs::read(folder.join(".env.conflict-1")).unwrap(), b"one");
}

#[test]
fn a_new_file_has_no_name_until_it_is_whole() {
    let (_guard, folder) = folder();
    let place = Place::open(&folder.join(".env")).unwrap();
    let Some(mut temp) = Temp::unnamed(&place).unwrap() else { return };
    assert!(names(&folder).is_empty());
    assert!(temp.show().unwrap());
    assert_eq!(names(&folder), ["..env.vault-new"]);
    drop(temp);
    assert!(names(&folder).is_empty());
}

#[test]
fn remove_tells_whether_there_was_one() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    assert!(!remove(&path).unwrap());
    write(&path, "x");
    assert!(remove(&path).unwrap());
    assert!(names(&folder).is_empty());
}

#[test]
fn private_files_are_never_overwritten() {
    let (_guard, folder) = folder();
    let state = folder.join("a/state");
    create_dir_private(&state).unwrap();
    assert_eq!(state.metadata().unwrap().mode() & 0o777, 0o700);
    let key = state.join("age.key");
    write_private(&key, b"one").unwrap();
    assert!(matches!(write_private(&key, b"two"), Err(FileError::Exists(_))));
    assert_eq!(std::fs::read(&key).unwrap(), b"one");
    assert_eq!(key.metadata().unwrap().mode() & MODE_BITS, 0o600);
    assert_eq!(names(&state), ["age.key"]);
    let link = folder.join("link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    replace_trusted(&link.join("age.key"), b"two", Access::PRIVATE).unwrap();
    assert_eq!(std::fs::read(&key).unwrap(), b"two");
    wipe(&key).unwrap();
    assert!(names(&state).is_empty());
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let (_guard, folder) = folder();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    check_private(&folder).unwrap();
    for mode in [0o750, 0o705, 0o755] {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(check_private(&folder), Err(FileError::Exposed { .. })), "{mode:o}");
        assert!(matches!(create_dir_private(&folder), Err(FileError::Exposed { .. })), "{mode:o}");
    }
}

#[test]
fn what_a_killed_writer_left_is_cleared() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    let left = folder.join("..env.vault-new");
    let leave = || drop(File::create(&left).unwrap());
    leave();
    sweep(&path).unwrap();
    assert!(names(&folder).is_empty());
    leave();
    write(&path, "x");
    assert_eq!(names(&folder), [".env"]);
    std::os::unix::fs::symlink(&path, &left).unwrap();
    write(&path, "y");
    assert_eq!(names(&folder), [".env"]);
}

#[test]
fn a_living_writer_is_left_alone() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    write(&path, "old");
    let place = Place::open(&path).unwrap();
    let temp = Temp::named(&place).unwrap();
    assert!(matches!(replace(&path, b"new", Access::PRIVATE), Err(FileError::Busy(_))));
    sweep(&path).unwrap();
    assert_eq!(names(&folder), ["..env.vault-new", ".env"]);
    drop(temp);
    write(&path, "new");
    assert_eq!(names(&folder), [".env"]);
}

/// The two contents of the kill test: big enough that a torn write would show.
fn content(n: usize) -> String {
    format!("{}\n", n % 2).repeat(100_000)
}

/// Not a test of its own: the process that [`a_killed_writer_leaves_whole_content`] kills.
#[test]
fn endless_writer() {
    let Some(path) = std::env::var_os("VAULT_TEST_ENDLESS_WRITER") else { return };
    for n in 0.. {
        write(Path::new(&path), &content(n));
        println!("written");
    }
}

#[test]
fn a_killed_writer_leaves_whole_content() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["files::tests::endless_writer", "--exact", "--nocapture"])
            .env("VAULT_TEST_ENDLESS_WRITER", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let written = lines
            .map(Result::unwrap)
            .filter(|line| line.ends_with("written"))
            .take(1 + round)
            .count();
        assert_eq!(written, 1 + round);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(found == content(0) || found == content(1), "torn after {written} writes");
        write(&path, "whole");
        assert_eq!(names(&folder), [".env"]);
    }
}

#[test]
fn a_file_is_made_and_removed_only_as_it_was_seen() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    let create = |content: &[u8]| {
        create_when(&path, content, Access::PRIVATE, || Ok::<_, FileError>(())).unwrap()
    };
    assert_eq!(create(b"A=1\n"), Swapped::Done);
    assert_eq!(create(b"A=2\n"), Swapped::Moved);
    let failed = create_when(&folder.join("other"), b"", Access::PRIVATE, || {
        Err(FileError::Busy(path.clone()))
    });
    assert!(failed.is_err());
    assert_eq!(remove_if(&path, b"A=2\n").unwrap(), Swapped::Moved);
    assert_eq!(std::fs::read(&path).unwrap(), b"A=1\n");
    assert_eq!(names(&folder), [".env"]);
    assert_eq!(remove_if(&path, b"A=1\n").unwrap(), Swapped::Done);
    assert_eq!(remove_if(&path, b"A=1\n").unwrap(), Swapped::Moved);
    assert!(names(&folder).is_empty());
}

/// An edit at the very moment of a removal is put back.
#[test]
fn a_removal_never_loses_an_edit() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    for n in 0..200 {
        write(&path, "A=1\n");
        let edited = folder.join("edited");
        write(&edited, "MINE=1\n");
        let removed = std::thread::scope(|scope| {
            let removal = scope.spawn(|| remove_if(&path, b"A=1\n"));
            // Now before, now amid it, now after it.
            for _ in 0..n % 20 {
                std::thread::yield_now();
            }
            std::fs::rename(&edited, &path).unwrap();
            removal.join().unwrap().unwrap()
        });
        let mine = names(&folder).into_iter().filter(|name| {
            std::fs::read(folder.join(name)).is_ok_and(|content| content == b"MINE=1\n")
        });
        assert_eq!(mine.count(), 1, "{removed:?}");
        for name in names(&folder) {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
    }
}

#[test]
fn attributes_go_with_the_name() {
    let (_guard, folder) = folder();
    let path = folder.join(".env");
    write(&path, "A=1\n");
    let set = rustix::fs::setxattr(&path, "user.mine", b"kept", rustix::fs::XattrFlags::empty());
    if let Err(errno) = set {
        eprintln!("not shown here: no attributes on `{}`: {errno}", folder.display());
        return;
    }
    let kept = || {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&path, "user.mine", &mut value[..]).unwrap();
        value[..length].to_vec()
    };
    write(&path, "A=2\n");
    assert_eq!(kept(), b"kept");
    exchange(&path, b"A=2\n", b"A=3\n", Access::PRIVATE).unwrap();
    assert_eq!(kept(), b"kept");
}
