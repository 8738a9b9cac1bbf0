//! What is done with a file that is there, without a vault.

use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;
use machine::config::Config;

struct World {
    _folder: tempfile::TempDir,
    root: PathBuf,
    disk: Disk,
    target: std::sync::Arc<Target>,
}

impl World {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let path = root.join(".env");
        let text =
            format!("[[target]]\npath = \"{}\"\nsecrets = [\"secret/a\"]\n{more}", path.display());
        let config = Config::parse(&text, Path::new("agent.toml")).unwrap();
        let disk = Disk::new(&root.join("state"));
        std::fs::create_dir(root.join("state")).unwrap();
        Self { _folder: folder, root, disk, target: std::sync::Arc::clone(&config.targets[0]) }
    }

    fn put(&self, content: &str, first: bool, commit: &Commit) -> Result<Put, TargetFault> {
        let content = Plaintext::new(content.as_bytes().to_vec());
        let rendered = Rendered { content, warnings: Vec::new(), absent: Vec::new() };
        self.disk.write(&self.target, &rendered, first, commit)
    }

    fn is(&self, content: &str) -> bool {
        std::fs::read(&self.target.path).is_ok_and(|found| found == content.as_bytes())
    }

    fn mine(&self, content: &str) {
        let access = Access { mode: 0o640, ..Access::PRIVATE };
        files::replace(&self.target.path, content.as_bytes(), access).unwrap();
    }

    fn copies(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("before-vault")).collect()
    }
}

const KEPT: fn() -> Commit = || Commit::ended(true);

#[test]
fn nothing_changes_for_what_is_not_on_disk() {
    let world = World::new("");
    assert_eq!(world.put("A=old\n", true, &KEPT()).unwrap().replaced, Replaced::Written);
    let lost = Commit::ended(false);
    let refused = [
        world.put("A=new\n", false, &lost).map(drop).unwrap_err(),
        world.put("A=old\n", false, &lost).map(drop).unwrap_err(),
        world.disk.remove(&world.target, &lost).map(drop).unwrap_err(),
    ];
    for fault in refused {
        assert!(fault.passing && fault.text.contains("database cannot be written"));
        assert!(world.is("A=old\n"));
    }
    assert_eq!(world.put("A=new\n", false, &KEPT()).unwrap().replaced, Replaced::Written);
    assert!(world.is("A=new\n") && world.disk.remove(&world.target, &KEPT()).unwrap());
    assert!(!world.target.path.exists() && !world.disk.remove(&world.target, &KEPT()).unwrap());
}

#[test]
fn a_foreign_file_is_held_until_it_is_covered_or_chosen() {
    let world = World::new("");
    world.mine("A=1\nMINE=x\n");
    let held = world.put("A=1\n", true, &KEPT()).map(drop).unwrap_err();
    assert_eq!(
        (held.state, held.passing, held.text.as_str()),
        (TargetState::Foreign, false, "holds what this agent did not write: `MINE` would go")
    );
    assert!(world.is("A=1\nMINE=x\n") && world.copies().is_empty());
    assert!(world.put("A=1\nMINE=x\nB=2\n", true, &KEPT()).is_ok());
    let mode = |world: &World| world.target.path.metadata().unwrap().mode() & 0o777;
    assert!(world.copies().is_empty() && mode(&world) == 0o640);
    let world = World::new("existing = \"replace\"\nmode = \"0600\"\n");
    world.mine("MINE=x\n");
    let put = world.put("A=1\n", true, &KEPT()).unwrap();
    let [copy] = &world.copies()[..] else { panic!("one copy") };
    assert_eq!(std::fs::read(copy).unwrap(), b"MINE=x\n");
    assert_eq!(put.notes, [format!("what was there before is in `{}`", copy.display())]);
    assert!(world.is("A=1\n") && mode(&world) == 0o600);
}

#[test]
fn an_edit_that_is_put_back_is_kept_once() {
    let world = World::new("");
    world.put("A=1\n", true, &KEPT()).unwrap();
    for (edit, copies) in [("A=2\n", 1), ("A=2\n", 1), ("A=1\n# mine\n", 2), ("", 2), ("\n", 2)] {
        world.mine(edit);
        world.put("A=1\n", false, &KEPT()).unwrap();
        assert!(world.is("A=1\n"));
        assert_eq!(world.copies().len(), copies, "{edit:?}");
    }
}

#[test]
fn a_block_leaves_what_is_around_it_and_keeps_what_was_in_it() {
    let world = World::new("layout = \"block\"\n");
    let with = |body: &str| format!("MINE=1\n# BEGIN vault-agent\n{body}# END vault-agent\n");
    world.mine("MINE=1\n");
    world.put("A=1\n", true, &KEPT()).unwrap();
    assert!(world.is(&with("A=1\n")) && world.copies().is_empty());
    world.mine(&with("A=9\n"));
    assert_eq!(world.disk.remove(&world.target, &KEPT()).unwrap_err().state, TargetState::Foreign);
    world.put("A=2\n", false, &KEPT()).unwrap();
    assert!(world.is(&with("A=2\n")) && world.copies().len() == 1);
    assert!(world.disk.remove(&world.target, &KEPT()).unwrap() && world.is("MINE=1\n"));
    // The markers of another agent, or of this one before it lost its state.
    world.mine(&with("B=9\n"));
    let held = world.put("A=1\n", true, &KEPT()).map(drop).unwrap_err();
    assert_eq!(held.state, TargetState::Foreign);
}

#[test]
fn a_file_in_place_stays_the_same_one() {
    let world = World::new("write = \"in_place\"\n");
    world.put("A=1\n", true, &KEPT()).unwrap();
    let inode = || world.target.path.metadata().unwrap().ino();
    let before = inode();
    world.put("A=2\n", false, &KEPT()).unwrap();
    assert!(world.is("A=2\n") && inode() == before);
    world.mine("MINE=1\n");
    world.put("A=2\n", false, &KEPT()).unwrap();
    assert!(world.is("A=2\n") && world.copies().len() == 1);
    assert!(world.disk.remove(&world.target, &KEPT()).unwrap() && world.is(""));
}

/// Gives the file an ACL, in the encoding of the kernel: its group may read, user 1000 also write.
fn set_acl(path: &Path) {
    let entries = [(0x01, 6, u32::MAX), (0x02, 6, 1000), (0x04, 4, u32::MAX), (0x10, 6, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries.into_iter().chain([(0x20, 0, u32::MAX)]) {
        value.extend([u16::to_le_bytes(tag), u16::to_le_bytes(rights)].concat());
        value.extend(u32::to_le_bytes(id));
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &value, flags).unwrap();
}

#[test]
fn the_mask_of_an_acl_never_becomes_a_right_of_the_group() {
    for more in ["", "write = \"in_place\"\n"] {
        let world = World::new(more);
        let mode = || world.target.path.metadata().unwrap().mode() & 0o777;
        world.mine("A=1\n");
        world.put("A=1\nB=1\n", true, &KEPT()).unwrap();
        set_acl(&world.target.path);
        assert_eq!(mode(), 0o660, "the mask stands where the group's rights do");
        world.put("A=1\nB=2\n", false, &KEPT()).unwrap();
        assert_eq!(mode(), 0o660, "and goes with the ACL to the next file");
        std::fs::remove_file(&world.target.path).unwrap();
        world.put("A=1\nB=2\n", false, &KEPT()).unwrap();
        assert_eq!(mode(), 0o640, "without the ACL the group may what it might before");
        set_acl(&world.target.path);
        // Now the mask takes the group's rights too.
        let narrow = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&world.target.path, narrow).unwrap();
        world.put("A=1\nB=4\n", false, &KEPT()).unwrap();
        std::fs::remove_file(&world.target.path).unwrap();
        world.put("A=1\nB=4\n", false, &KEPT()).unwrap();
        assert_eq!(mode(), 0o600);
        world.mine("A=1\nB=4\n");
        world.put("A=1\nB=4\n", true, &KEPT()).unwrap();
        set_acl(&world.target.path);
        world.put("A=1\nB=2\n", false, &KEPT()).unwrap();
        rustix::fs::removexattr(&world.target.path, "system.posix_acl_access").unwrap();
        world.put("A=1\nB=3\n", false, &KEPT()).unwrap();
        assert_eq!(mode(), 0o640);
    }
}

#[test]
fn links_are_followed_where_that_is_wanted() {
    let world = World::new("");
    let real = world.root.join("real");
    symlink(&real, &world.target.path).unwrap();
    assert!(world.put("A=1\n", true, &KEPT()).is_err() && !real.exists());
    let world = World::new("follow = true\n");
    let real = world.root.join("real");
    symlink(&real, &world.target.path).unwrap();
    world.put("A=1\n", true, &KEPT()).unwrap();
    assert!(world.target.path.is_symlink() && std::fs::read(real).unwrap() == b"A=1\n");
}

#[test]
fn two_names_of_one_file_are_one_target() {
    let world = World::new("");
    world.put("A=1\n", true, &KEPT()).unwrap();
    let second = world.root.join("second");
    symlink(&world.root, &second).unwrap();
    let text = format!(
        "[[target]]\npath = \"{}\"\nsecrets = [\"secret/b\"]\nfollow = true\n",
        second.join(".env").display()
    );
    let config = Config::parse(&text, Path::new("agent.toml")).unwrap();
    let other = &config.targets[0];
    let content = Plaintext::new(b"A=2\n".to_vec());
    let rendered = Rendered { content, warnings: Vec::new(), absent: Vec::new() };
    let put = || world.disk.write(other, &rendered, false, &KEPT()).map(drop);
    let refused = put().unwrap_err();
    assert_eq!(refused.state, TargetState::Refused);
    assert!(refused.text.starts_with("is the same file as") && world.is("A=1\n"));
    // The first one is no target any more.
    world.disk.targets_are(std::slice::from_ref(&other.path));
    put().unwrap();
    assert!(world.is("A=2\n"));
}
