//! What others see while a target is rewritten: the whole old file or the whole new one, never
//! wider rights, never another owner, and no write into a file that has a name.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher as _};
use tests::{World, bins, watch};

const SECRET: &str = "secret/app";

/// How often the target is rewritten.
const REWRITES: usize = 200;

/// The owner and mode that the target is to have.
const MODE: u32 = 0o640;

/// A file of several pages, so that half of one would be noticed.
fn content(n: usize) -> String {
    format!("A={}-end\n", format!("-{n}").repeat(4_000))
}

/// What is wrong with a file of the target's folder, if anything is.
fn fault(path: &Path, found: &Metadata, owner: u32) -> Option<String> {
    let (mode, uid) = (found.mode() & 0o7777, found.uid());
    (mode & !MODE != 0 || uid != owner).then(|| format!("{path:?}: mode {mode:o}, owner {uid}"))
}

/// Reads everything in `folder` until told to stop, and returns what should not have been seen.
fn read_on(folder: &Path, owner: u32, whole: &BTreeSet<String>, stop: &AtomicBool) -> Vec<String> {
    let mut faults = Vec::new();
    while !stop.load(Ordering::Relaxed) && faults.is_empty() {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        for path in entries.map(|entry| entry.path()).chain([folder.join(".env")]) {
            // A temporary name may be gone again.
            let Ok(mut file) = File::open(&path) else {
                assert!(!path.ends_with(".env"), "the file is there at every moment");
                continue;
            };
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            faults.extend(fault(&path, &file.metadata().unwrap(), owner));
            if !whole.contains(&text) {
                faults.push(format!("{path:?} held {} bytes of no version", text.len()));
            }
        }
    }
    faults
}

#[test]
fn every_reader_sees_whole_files_with_the_right_owner_and_mode() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let folder = host.dir.join("home/app");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join(".env");
    let us = host.dir.metadata().unwrap().uid();
    // Only root can give files away.
    let owner = if us == 0 { 65_534 } else { us };
    let put = |n: usize| {
        let text = content(n);
        let value = text.trim_end().strip_prefix("A=").unwrap().to_owned();
        let _ = host.vault_with(&["kv", "put", SECRET, "A=-"], &value).ok();
        watch::until(&file, |found| found == text);
    };
    let table = format!(
        "[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\nmode = \"{MODE:04o}\"\nowner = \"{owner}\"\n",
        file.display()
    );
    std::io::Write::write_all(
        &mut File::create(host.state().join("agent.toml")).unwrap(),
        table.as_bytes(),
    )
    .unwrap();
    put(0);

    let (renamed, written) = (AtomicUsize::new(0), Mutex::new(Vec::<String>::new()));
    let counters = Arc::new((renamed, written));
    let (sender, events) = mpsc::channel();
    let mut watcher = watch::watcher({
        let (file, counters) = (file.clone(), Arc::clone(&counters));
        move |event: Result<notify::Event, _>| {
            note(&event.unwrap(), &file, &counters.0, &counters.1);
            let _ = sender.send(());
        }
    });
    watcher.watch(&folder, RecursiveMode::NonRecursive).unwrap();
    let whole: BTreeSet<String> = (0..=REWRITES).map(content).collect();
    let stop = AtomicBool::new(false);
    let faults = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_on(&folder, owner, &whole, &stop));
        (1..=REWRITES).for_each(put);
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert_eq!(faults, Vec::<String>::new());
    while counters.0.load(Ordering::Relaxed) < REWRITES {
        events.recv_timeout(Duration::from_secs(60)).expect("every rename is heard of");
    }
    assert_eq!(counters.0.load(Ordering::Relaxed), REWRITES, "one rename a version");
    assert_eq!(*counters.1.lock().unwrap(), Vec::<String>::new(), "written under a name");
    let names: Vec<PathBuf> = tests::files_below(&folder);
    assert_eq!(names, [file], "nothing stays behind");
}

/// Counts renames to the target, and notes what should never happen: a write, or other rights,
/// under any name.
fn note(event: &notify::Event, file: &Path, renamed: &AtomicUsize, written: &Mutex<Vec<String>>) {
    let onto = event.paths.last().is_some_and(|path| path == file);
    // A file that has no name yet goes by its number, `#123`.
    let unnamed =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'#');
    if event.paths.iter().any(unnamed) {
        return;
    }
    match event.kind {
        EventKind::Modify(ModifyKind::Name(notify::event::RenameMode::To)) if onto => {
            renamed.fetch_add(1, Ordering::Relaxed);
        }
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
        | EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            written.lock().unwrap().push(format!("{event:?}"));
        }
        EventKind::Remove(_) if onto => written.lock().unwrap().push(format!("{event:?}")),
        _ => {}
    }
}
