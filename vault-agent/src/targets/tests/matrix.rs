//! Whatever stands in the place of a target, and whatever is done with it then: what somebody else
//! wrote is afterwards in the file, in the secret, or in the copy beside the file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use clap::Parser as _;
use host::files::Access;
use rustix::fs::XattrFlags;
use shared::blob::Kind as Content;
use shared::path::SecretPath;
use tokio::sync::watch;

use super::super::*;
use super::mounts;
use crate::api::{Listeners, serve};
use crate::daemon;
use crate::engine::tests::Lone;
use crate::engine::{Change, Engine, PutContent};

const ACL: &str = "system.posix_acl_access";

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absent,
    Ours,
    Equal,
    Superset,
    Subset,
    Other,
    Unreadable,
    Binary,
    Link,
    FolderLink,
    HardLink,
    MountPoint,
    SecondMount,
    Tracked,
    ForeignOwner,
    Acl,
    Immutable,
}

const KINDS: [Kind; 17] = [
    Kind::Absent,
    Kind::Ours,
    Kind::Equal,
    Kind::Superset,
    Kind::Subset,
    Kind::Other,
    Kind::Unreadable,
    Kind::Binary,
    Kind::Link,
    Kind::FolderLink,
    Kind::HardLink,
    Kind::MountPoint,
    Kind::SecondMount,
    Kind::Tracked,
    Kind::ForeignOwner,
    Kind::Acl,
    Kind::Immutable,
];

/// What is done then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Add,
    Start,
    NewVersion,
    Drift,
    Remove,
    Purge,
    OnDelete,
}

const ACTS: [Act; 7] =
    [Act::Add, Act::Start, Act::NewVersion, Act::Drift, Act::Remove, Act::Purge, Act::OnDelete];

const FIRST: &str = "A=one\nB=two\n";

/// Lines of a file's owner, beside those of the secret.
const SUPERSET: &str = "# mine\nA=one\nB=two\nMINE=x\n";

impl Kind {
    /// What somebody else wrote there, if anything.
    fn content(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Absent | Self::Ours => return None,
            Self::Equal => b"export A='one'\nB=\"two\"\n",
            Self::Subset => b"# mine\nA=one\n",
            Self::Other | Self::Link | Self::FolderLink | Self::HardLink => b"A=other\n",
            Self::Unreadable => b"A='not closed\n",
            Self::Binary => b"\xFF\xFE\0\x01",
            Self::Superset
            | Self::MountPoint
            | Self::SecondMount
            | Self::Tracked
            | Self::ForeignOwner
            | Self::Acl
            | Self::Immutable => SUPERSET.as_bytes(),
        })
    }
}

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One cell: a folder, a file in it that is a target, and a secret of its own.
struct Cell {
    kind: Kind,
    root: PathBuf,
    file: PathBuf,
    secret: SecretPath,
    paths: Paths,
    engine: Engine,
}

impl Cell {
    fn new(lone: &Lone, root: PathBuf, kind: Kind, act: Act) -> Self {
        fs::create_dir_all(root.join("home")).unwrap();
        let state = root.join("state");
        files::create_dir_private(&state).unwrap();
        let paths = Paths { config: root.join("agent.toml"), state, ..lone.paths() };
        let name = format!("secret/{kind:?}-{act:?}").to_lowercase();
        let (file, secret) = (root.join("home/.env"), name.parse().unwrap());
        Self { kind, root, file, secret, paths, engine: lone.engine() }
    }

    async fn publish(&self, json: &str) {
        let content = PutContent::Whole(json.as_bytes().into());
        let path = self.secret.clone();
        let put = Change::Put { path, kind: Content::Kv, content, cas: None };
        self.engine
            .write("a test".parse::<shared::audit::Who>().unwrap(), vec![put])
            .await
            .unwrap();
    }

    fn configure(&self, more: &str) {
        let (path, secret) = (self.file.display(), &self.secret);
        let text = format!("[[target]]\npath = \"{path}\"\nsecrets = [\"{secret}\"]\n{more}");
        files::replace(&self.paths.config, text.as_bytes(), Access::PRIVATE).unwrap();
    }

    /// Has the agent look at everything once, as at its start.
    async fn once(&self) -> bool {
        let config = Config::load(&self.paths.config).unwrap();
        daemon::once(config, &self.paths.config, &self.paths.state, self.engine.clone()).await
    }

    /// Runs a verb of `target`; returns what it printed, and whether it worked.
    async fn verb(&self, words: &[&str]) -> (String, bool) {
        let words = [&["target"], words].concat();
        let cli = Cli::try_parse_from(words).unwrap();
        let paths = self.paths.clone();
        let work = move || {
            let mut printed = Vec::new();
            let term = Term::piped(io::empty(), io::sink(), io::sink());
            let ran = run(&cli.command, &paths, &term);
            if let Err(error) = &ran {
                printed.extend_from_slice(host::hint::shown(error).as_bytes());
            }
            (String::from_utf8(printed).unwrap(), ran.is_ok())
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// Where what somebody else wrote lies.
    fn source(&self) -> PathBuf {
        self.root.join("home/source")
    }

    /// Puts what somebody else wrote in the place of the target.
    ///
    /// # Errors
    /// What this machine cannot do.
    fn make(&self) -> Result<(), String> {
        let Some(content) = self.kind.content() else {
            if self.kind == Kind::Absent {
                let _ = fs::remove_file(&self.file);
            }
            return Ok(());
        };
        let (file, source) = (&self.file, &self.source());
        let write = |path: &Path| {
            let _ = fs::remove_file(path);
            let access = Access { mode: 0o640, ..Access::PRIVATE };
            files::replace(path, content, access).unwrap();
        };
        match self.kind {
            Kind::Link | Kind::FolderLink | Kind::HardLink | Kind::MountPoint => write(source),
            _ => write(file),
        }
        match self.kind {
            Kind::Link | Kind::FolderLink => {
                let folder = self.root.join("home/folder");
                fs::create_dir_all(&folder).unwrap();
                let _ = fs::remove_file(file);
                symlink(if self.kind == Kind::Link { source } else { &folder }, file).unwrap();
            }
            Kind::HardLink => {
                let _ = fs::remove_file(file);
                fs::hard_link(source, file).map_err(|why| why.to_string())?;
            }
            Kind::MountPoint => {
                drop(fs::OpenOptions::new().create(true).append(true).open(file).unwrap());
                program("mount", &["--bind".as_ref(), source, file])?;
            }
            Kind::SecondMount => {
                drop(fs::File::create(source).unwrap());
                program("mount", &["--bind".as_ref(), file, source])?;
            }
            Kind::Tracked => {
                let home = file.parent().unwrap();
                program("git", &["-C".as_ref(), home, "init".as_ref(), "-q".as_ref()])?;
                program("git", &["-C".as_ref(), home, "add".as_ref(), "-f".as_ref(), file])?;
            }
            Kind::ForeignOwner => {
                chown(file, Some(1000), Some(1000)).map_err(|why| why.to_string())?;
            }
            Kind::Acl => {
                let open = fs::File::open(file).unwrap();
                let set = |name, value: &[u8]| {
                    rustix::fs::fsetxattr(&open, name, value, XattrFlags::empty())
                        .map_err(|why| format!("no `{name}`: {why}"))
                };
                set(ACL, &acl())?;
                set("user.mine", b"kept")?;
            }
            Kind::Immutable => program("chattr", &["+i".as_ref(), file])?,
            _ => {}
        }
        Ok(())
    }

    /// Tells where what somebody else wrote is now; nothing if it is nowhere.
    async fn found(&self) -> String {
        let Some(content) = self.kind.content() else { return "-".to_owned() };
        let is = |path: &Path| fs::read(path).is_ok_and(|found| found == content);
        let mut places = Vec::new();
        let linked = matches!(self.kind, Kind::Link | Kind::FolderLink);
        if is(&self.file) || (linked && self.file.is_symlink() && is(&self.source())) {
            places.push("file");
        }
        let names = fs::read_dir(self.root.join("home")).unwrap().flatten();
        let copies = names.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(".env.before-vault-") && is(&entry.path())
        });
        let copies: Vec<_> = copies.collect();
        for copy in &copies {
            let found = copy.metadata().unwrap();
            assert_eq!(found.mode() & 0o7777, 0o600, "{:?}", copy.path());
            let owner = if self.kind == Kind::ForeignOwner { 1000 } else { 0 };
            assert_eq!(found.uid(), owner, "{:?}", copy.path());
            places.push("copy");
        }
        if self.is_published(content).await {
            places.push("secret");
        }
        places.join("+")
    }

    /// Tells whether all that a file says is in the secret.
    async fn is_published(&self, content: &[u8]) -> bool {
        let (Ok(variables), Ok(secret)) =
            (machine::render::parse(content), self.engine.content(&self.secret, None).await)
        else {
            return false;
        };
        let fields = machine::render::fields(secret.expose()).unwrap();
        let has = |name: &str, value: &[u8]| {
            let field = fields.iter().find(|field| field.name == name);
            field.and_then(|field| field.value.bytes()) == Some(value)
        };
        // Comments are in no secret.
        !content.contains(&b'#')
            && variables.iter().all(|variable| has(&variable.name, variable.value.expose()))
    }

    /// What the file bears beside its content is as it was.
    fn check_access(&self) {
        match self.kind {
            Kind::ForeignOwner => {
                let found = self.file.metadata().unwrap();
                assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (1000, 1000, 0o640));
            }
            Kind::Acl => {
                let open = fs::File::open(&self.file).unwrap();
                let mut value = [0; 256];
                let length = rustix::fs::fgetxattr(&open, ACL, &mut value[..]).unwrap();
                assert_eq!(value[..length], acl()[..]);
                let length = rustix::fs::fgetxattr(&open, "user.mine", &mut value[..]).unwrap();
                assert_eq!(&value[..length], b"kept");
            }
            Kind::HardLink => {
                assert_eq!(fs::read(self.source()).unwrap(), self.kind.content().unwrap());
            }
            _ => {}
        }
    }

    /// Does one thing.
    async fn act(&self, act: Act) {
        let file = self.file.to_str().unwrap();
        match act {
            Act::Add => {
                files::replace(&self.paths.config, b"", Access::PRIVATE).unwrap();
                let (said, ok) = self.verb(&["add", file, self.secret.as_str()]).await;
                assert!(!said.contains("not closed") && !said.contains("other"), "{said}");
                let config = Config::load(&self.paths.config).unwrap();
                assert_eq!(config.targets.len(), usize::from(ok), "{said}");
                self.once().await;
            }
            Act::Start => {
                self.configure("");
                self.once().await;
            }
            Act::NewVersion => {
                self.publish(r#"{"A":"new","B":"two"}"#).await;
                self.once().await;
            }
            Act::Drift => {
                self.once().await;
            }
            Act::Remove => {
                let (said, ok) = self.verb(&["remove", file]).await;
                assert!(ok, "{said}");
            }
            Act::Purge => {
                self.verb(&["remove", file, "--purge"]).await;
                assert!(Config::load(&self.paths.config).unwrap().targets.is_empty());
            }
            Act::OnDelete => {
                let delete = Change::Delete { path: self.secret.clone(), versions: None };
                self.engine
                    .write("a test".parse::<shared::audit::Who>().unwrap(), vec![delete])
                    .await
                    .unwrap();
                self.once().await;
            }
        }
    }

    fn clear(&self) {
        // What was never made cannot be undone.
        let _ = program("umount", &[&self.file]);
        let _ = program("umount", &[&self.source()]);
        let _ = program("chattr", &["-i".as_ref(), &self.file]);
    }
}

/// An ACL in its encoding (linux/posix_acl_xattr.h): user 1000 may read.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(0x01, 6, none),
        entry(0x02, 4, 1000),
        entry(0x04, 4, none),
        entry(0x10, 4, none),
        entry(0x20, 0, none),
    ];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}

fn program(name: &str, arguments: &[&Path]) -> Result<(), String> {
    let ran =
        Program::new(name).args(arguments).output().map_err(|why| format!("{name}: {why}"))?;
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    if ran.status.success() { Ok(()) } else { Err(format!("{name}: {said}")) }
}

/// Does one cell; returns where what somebody else wrote is afterwards.
async fn cell(lone: &Lone, root: PathBuf, kind: Kind, act: Act) -> Result<String, String> {
    let cell = Cell::new(lone, root, kind, act);
    cell.publish(r#"{"A":"one","B":"two"}"#).await;
    let was_there = !matches!(act, Act::Add | Act::Start) || kind == Kind::Ours;
    if was_there {
        let more = if act == Act::OnDelete { "on_delete = \"remove\"\n" } else { "" };
        cell.configure(more);
        assert!(cell.once().await);
        assert!(fs::read_to_string(&cell.file).unwrap().ends_with(FIRST));
    }
    let made = cell.make();
    if let Err(why) = made {
        cell.clear();
        return Err(why);
    }
    cell.act(act).await;
    let places = cell.found().await;
    // Owner and mode of what was ours are put back, as its content is.
    let is_first = matches!(act, Act::Add | Act::Start);
    if kind.content().is_some() && (is_first || kind != Kind::ForeignOwner) {
        cell.check_access();
    }
    let left = fs::read_to_string(&cell.file).ok();
    let left = left.filter(|_| matches!(kind, Kind::Absent | Kind::Ours));
    cell.clear();
    Ok(match left {
        Some(text) if text.ends_with("A=new\nB=two\n") => "new".to_owned(),
        Some(text) if text.ends_with(FIRST) => "ours".to_owned(),
        Some(text) => panic!("{kind:?} {act:?}: {text:?}"),
        None if kind.content().is_none() => "gone".to_owned(),
        None => places,
    })
}
/// Does every cell of the matrix, in a mount namespace of its own.
#[tokio::test]
async fn what_somebody_else_wrote_is_never_lost() {
    if !mounts::are_own("targets::tests::matrix::what_somebody_else_wrote_is_never_lost") {
        return;
    }
    let lone = Lone::new("vps", &["*"], &["*"]).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let listeners =
        Listeners::bind(lone.engine(), &lone.paths(), &machine::config::Api::default(), None).await;
    let (_stop, shutdown) = watch::channel(false);
    tokio::spawn(serve(listeners.unwrap(), shutdown));
    let mut shown = String::new();
    let mut lost = Vec::new();
    let mut not_made = BTreeMap::new();
    for kind in KINDS {
        let mut row = format!("{:13}", format!("{kind:?}"));
        for act in ACTS {
            let place = root.join(format!("{kind:?}-{act:?}"));
            let places = match cell(&lone, place, kind, act).await {
                Ok(places) => places,
                Err(why) => {
                    not_made.insert(format!("{kind:?}"), why);
                    "not made".to_owned()
                }
            };
            if places.is_empty() {
                lost.push(format!("{kind:?} {act:?}"));
            }
            row.push_str(&format!("{places:13}"));
        }
        shown.push_str(row.trim_end());
        shown.push('\n');
    }
    assert!(lost.is_empty(), "lost: {lost:?}\n{shown}");
    for (kind, why) in &not_made {
        eprintln!("not made here: {kind}: {why}");
    }
    // A row that this machine cannot make is said above, and stands for nothing.
    let made = |row: &&str| !not_made.keys().any(|kind| row.starts_with(kind.as_str()));
    let rows =
        |text: &str| -> Vec<String> { text.lines().filter(made).map(str::to_owned).collect() };
    assert_eq!(rows(&shown), rows(EXPECTED));
}

/// Add, start, new version, drift, remove, remove --purge, on_delete: what is in the file where it
/// was ours, and where what somebody else wrote is otherwise.
const EXPECTED: &str = "\
Absent       ours         ours         new          ours         gone         gone         gone
Ours         ours         ours         new          ours         ours         gone         gone
Equal        secret       secret       copy         secret       file+secret  file+secret  file
Superset     file         file         copy         copy         file         file         file
Subset       copy         copy         copy         copy         file         file         file
Other        file         file         copy         copy         file         file         file
Unreadable   file         file         copy         copy         file         file         file
Binary       file         file         copy         copy         file         file         file
Link         file         file         file         file         file         file         file
FolderLink   file         file         file         file         file         file         file
HardLink     file         file         copy         copy         file         file         file
MountPoint   file         file         file         file         file         file         file
SecondMount  file         file         copy         copy         file         file         file
Tracked      file         file         file         file         file         file         file
ForeignOwner file         file         copy         copy         file         file         file
Acl          file         file         copy         copy         file         file         file
Immutable    file         file         file         file         file         file         file
";
