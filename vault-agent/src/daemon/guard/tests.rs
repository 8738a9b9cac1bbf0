//! Tests of watching, with real files.

use super::*;
use host::files::{self, Access};

fn put(path: &Path, content: &str) {
    files::replace(path, content.as_bytes(), Access::PRIVATE).unwrap();
}

fn world() -> (tempfile::TempDir, PathBuf, Guard) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path, Guard::new())
}

#[tokio::test]
async fn replacing_editing_and_removing_are_seen() {
    use std::io::Write as _;
    let (_folder, root, mut guard) = world();
    let file = root.join(".env");
    guard.watch([file.as_path()]).unwrap();
    put(&root.join("other"), "x");
    put(&file, "1");
    assert_eq!(guard.touched().await.files, [file.clone()].into());
    let mut open = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    open.write_all(b"2").unwrap();
    drop(open);
    assert_eq!(guard.touched().await.files, [file.clone()].into());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(guard.touched().await.files, [file.clone()].into());
}

#[tokio::test]
async fn a_missing_folder_is_waited_for() {
    let (_folder, root, mut guard) = world();
    let file = root.join("a/b/.env");
    guard.watch([file.as_path()]).unwrap();
    std::fs::create_dir(root.join("a")).unwrap();
    assert!(guard.touched().await.moved);
    guard.watch([file.as_path()]).unwrap();
    std::fs::create_dir(root.join("a/b")).unwrap();
    assert_eq!(guard.touched().await.files, [file.clone()].into());
    guard.watch([file.as_path()]).unwrap();
    put(&file, "1");
    assert_eq!(guard.touched().await.files, [file.clone()].into());
}

#[tokio::test]
async fn a_replaced_folder_is_watched_again() {
    let (_folder, root, mut guard) = world();
    let file = root.join("a/.env");
    std::fs::create_dir(root.join("a")).unwrap();
    guard.watch([file.as_path()]).unwrap();
    std::fs::rename(root.join("a"), root.join("b")).unwrap();
    std::fs::create_dir(root.join("a")).unwrap();
    assert!(guard.touched().await.moved);
    guard.watch([file.as_path()]).unwrap();
    put(&file, "1");
    assert_eq!(guard.touched().await.files, [file.clone()].into());
}

#[tokio::test]
async fn a_file_is_followed_through_links() {
    use std::os::unix::fs::symlink;
    let (_folder, root, mut guard) = world();
    for release in ["r1", "r2"] {
        std::fs::create_dir(root.join(release)).unwrap();
        put(&root.join(release).join("real"), "1");
        symlink("real", root.join(release).join("file")).unwrap();
    }
    let switch = |to: &str| {
        symlink(to, root.join("new")).unwrap();
        std::fs::rename(root.join("new"), root.join("current")).unwrap();
    };
    switch("r1");
    symlink(root.join("current"), root.join("etc")).unwrap();
    let file = root.join("etc/file");
    let seen = async |guard: &mut Guard| {
        let touched = guard.touched().await;
        assert_eq!((touched.files, touched.moved), ([file.clone()].into(), true));
        guard.watch([file.as_path()]).unwrap();
    };
    guard.watch([file.as_path()]).unwrap();
    // Where it is, a link in the middle, there again, and the last link.
    put(&root.join("r1/real"), "2");
    seen(&mut guard).await;
    switch("r2");
    seen(&mut guard).await;
    put(&root.join("r2/real"), "2");
    seen(&mut guard).await;
    std::fs::remove_file(root.join("r2/file")).unwrap();
    seen(&mut guard).await;
    put(&root.join("r2/file"), "3");
    seen(&mut guard).await;
    // What it led to before is nobody's news.
    put(&root.join("r1/real"), "3");
    put(&root.join("r2/file"), "4");
    seen(&mut guard).await;
}

#[tokio::test]
async fn a_file_is_open_until_its_writer_closes_it() {
    use std::io::Write as _;
    for name in ["real", "link"] {
        let (_folder, root, mut guard) = world();
        let file = root.join(name);
        put(&root.join("real"), "1");
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        guard.watch([file.as_path()]).unwrap();
        let mut open = std::fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
        open.write_all(b"half").unwrap();
        put(&root.join("other"), "x");
        while !guard.is_open(&file) {
            tokio::task::yield_now().await;
        }
        drop(open);
        assert_eq!(guard.touched().await.files, [file.clone()].into(), "{name}");
        assert!(!guard.is_open(&file), "{name}");
    }
}

#[tokio::test]
async fn readers_of_a_watched_folder_wake_nobody() {
    use std::io::Write as _;
    let (_folder, root, mut guard) = world();
    let (file, other) = (root.join(".env"), root.join("other"));
    put(&file, "1");
    put(&other, "1");
    guard.watch([file.as_path()]).unwrap();
    for _ in 0..5_000 {
        std::fs::read(&file).unwrap();
        std::fs::read(&other).unwrap();
    }
    let mut foreign = std::fs::OpenOptions::new().append(true).open(&other).unwrap();
    foreign.write_all(b"2").unwrap();
    drop(foreign);
    // This event is taken after all others, and wakes nobody either.
    let mut open = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    open.write_all(b"2").unwrap();
    while !guard.is_open(&file) {
        tokio::task::yield_now().await;
    }
    let shared = Arc::clone(&guard.shared);
    let woken = tokio::time::timeout(std::time::Duration::ZERO, shared.bell.notified()).await;
    assert!(woken.is_err(), "{:?}", shared.lock().touched);
    drop(open);
    assert_eq!(guard.touched().await.files, [file].into());
}

#[tokio::test]
async fn a_folder_that_does_not_answer_holds_up_nothing() {
    // Nobody writes into the pipe: who opens it waits, as who looks into a mount that hangs.
    fn look(file: &Path) -> Vec<(PathBuf, PathBuf)> {
        let pipe = file.with_file_name("pipe");
        if pipe.exists() {
            let _ = std::fs::read(pipe);
        }
        places(file)
    }
    let (_folder, root, mut guard) = world();
    let [hung, well] = ["hung", "well"].map(|name| root.join(name));
    for folder in [&hung, &well] {
        std::fs::create_dir(folder).unwrap();
    }
    let pipe = hung.join("pipe");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    guard.looks = Looks::new(look);
    let files = [hung.join("a"), hung.join("b"), well.join("a")];
    let watched = || files.iter().map(PathBuf::as_path);
    let why = format!("`{}` does not answer", hung.display());
    for content in ["1", "2"] {
        assert_eq!(guard.watch(watched()), Err(why.clone()));
        put(&files[2], content);
        assert!(guard.touched().await.files.contains(&files[2]));
    }
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    std::fs::remove_file(&pipe).unwrap();
    drop(writer);
    while !guard.touched().await.moved {}
    guard.watch(watched()).unwrap();
    put(&files[0], "1");
    while !guard.touched().await.files.contains(&files[0]) {}
}

#[tokio::test]
async fn without_watches_files_are_polled() {
    let (_folder, root, mut guard) = world();
    let broken = |_| Err(notify::Error::new(ErrorKind::MaxFilesWatch));
    guard.make = Some(broken);
    guard.poll = Poll::new(std::time::Duration::from_millis(1));
    let file = root.join(".env");
    put(&file, "1");
    guard.watch([file.as_path()]).unwrap_err();
    put(&file, "2");
    let touched = guard.touched().await;
    assert_eq!((touched.files, touched.moved), ([file.clone()].into(), true));
    guard.watch([file.as_path()]).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(guard.touched().await.files, [file.clone()].into());
    // The limit is raised: events again.
    guard.make = Some(watcher);
    guard.watch([file.as_path()]).unwrap();
    put(&file, "3");
    assert_eq!(guard.touched().await.files, [file].into());
}
