//! Each verb on a configuration of its own.

mod matrix;
pub(crate) mod mounts;
mod updated;
mod writable;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::Parser as _;
use host::files::Access;

use super::document::words;
use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What a verb prints, on both streams.
#[derive(Clone, Default)]
pub(crate) struct Printed(pub(crate) Rc<RefCell<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    _folder: tempfile::TempDir,
    root: PathBuf,
    config: PathBuf,
}

impl World {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let config = root.join("etc/agent.toml");
        std::fs::create_dir(root.join("etc")).unwrap();
        if !text.is_empty() {
            files::write_private(&config, text.as_bytes()).unwrap();
        }
        files::create_dir_private(&root.join("state")).unwrap();
        Self { _folder: folder, root, config }
    }

    /// Runs a verb; returns what it printed, with the world's folder as `ROOT`.
    fn run(&self, words: &[&str]) -> String {
        let root = self.root.to_str().unwrap();
        let words = words.iter().map(|word| word.replace("ROOT", root));
        let cli = match Cli::try_parse_from(["target".to_owned()].into_iter().chain(words)) {
            Ok(cli) => cli,
            Err(error) => return error.to_string(),
        };
        let printed = Printed::default();
        let term = Term::piped(io::empty(), printed.clone(), printed.clone());
        let state = Some(self.root.join("state"));
        let paths = Paths::resolve(state, Some(self.config.clone())).unwrap();
        if let Err(error) = run(&cli.command, &paths, &term) {
            term.show("error: ");
            term.fail(&error);
        }
        let shown = String::from_utf8(printed.0.take()).unwrap();
        shown.replace(root, "ROOT")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.config).unwrap().replace(self.root.to_str().unwrap(), "ROOT")
    }
}

#[test]
fn add_keeps_what_is_there() {
    let world = World::new("# mine\nserver = [\"a:1\"]  # home\n\n[log]\nlevel = \"debug\"\n");
    let shown = world.run(&[
        "add",
        "ROOT/.env",
        "secret/a",
        "secret/b",
        "--on-change",
        "docker compose up -d",
    ]);
    assert_eq!(shown, "added: `ROOT/.env` holds secret/a, secret/b\n");
    world.run(&[
        "add",
        "ROOT/x.json",
        "secret/a",
        "--format",
        "json",
        "--keys",
        "A,B",
        "--mode",
        "0640",
        "--owner",
        "0",
        "--git",
        "ignore",
        "--on-change",
        "a && b",
    ]);
    insta::assert_snapshot!(world.text(), @r#"
    # mine
    server = ["a:1"]  # home

    [log]
    level = "debug"

    [[target]]
    path = "ROOT/.env"
    secrets = ["secret/a", "secret/b"]
    on_change = ["docker", "compose", "up", "-d"]

    [[target]]
    path = "ROOT/x.json"
    secrets = ["secret/a"]
    format = "json"
    keys = ["A", "B"]
    owner = "0"
    mode = "0640"
    git = "ignore"
    on_change = "a && b"
    "#);
    // The width of the first column is that of the folder's real name.
    let words: Vec<String> = world.run(&["list"]).split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        words.join(" "),
        "TARGET SECRETS FORMAT SETTINGS ON CHANGE ROOT/.env secret/a, secret/b dotenv - docker \
         compose up -d ROOT/x.json secret/a json git=ignore keys=A,B mode=0640 owner=0 a && b"
    );
}

#[test]
fn every_setting_has_a_flag() {
    let world = World::new("");
    world.run(&["add", "ROOT/first", "secret/a"]);
    let line = "add ROOT/a secret/a --format template --template-file a.tmpl --rename a=B,c=D \
                --prefix P_ --upper --allow-names PATH,IFS --multiline allow --nested flatten \
                --no-header --after ROOT/first --require-mount ROOT --drift report \
                --on-delete remove --max-stale 7d --on-stale remove --rollback-on-failure \
                --on-change true";
    let shown = world.run(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(shown, "added: `ROOT/a` holds secret/a\n");
    let here = std::env::current_dir().unwrap();
    let text = world.text().replace(here.to_str().unwrap(), "HERE");
    let added = text.split_once("\n\n").unwrap().1;
    insta::assert_snapshot!(added, @r#"
    [[target]]
    path = "ROOT/a"
    secrets = ["secret/a"]
    format = "template"
    rename = { a = "B", c = "D" }
    prefix = "P_"
    multiline = "allow"
    nested = "flatten"
    drift = "report"
    on_delete = "remove"
    max_stale = "7d"
    on_stale = "remove"
    upper = true
    header = false
    rollback_on_failure = true
    allow_names = ["PATH", "IFS"]
    after = ["ROOT/first"]
    template_file = "HERE/a.tmpl"
    require_mount = "ROOT"
    on_change = ["true"]
    "#);
    let text = format!("template = \"{}\"", "x".repeat(100));
    let long = world.text().replace("template_file", "#").replace("[\"true\"]", "\"true\"");
    let long = long.replace("upper = true", &text);
    let settings = settings::of(&long).unwrap();
    assert_eq!(
        settings::shown(&settings[1]),
        "after=ROOT/first allow_names=PATH,IFS drift=report header=false max_stale=7d \
         multiline=allow nested=flatten on_delete=remove on_stale=remove prefix=P_ \
         rename=a=B,c=D require_mount=ROOT rollback_on_failure=true template="
            .to_owned()
            + &"x".repeat(60)
            + "…"
    );
    assert_eq!(settings::shown(&settings[0]), "-");
}

#[test]
fn settings_that_do_not_fit_change_nothing() {
    let world = World::new("");
    world.run(&["add", "ROOT/a", "secret/a"]);
    let before = world.text();
    for (flags, part) in [
        ("--rename a", "expected KEY=NAME"),
        ("--format template", "a template is needed"),
        ("--max-stale soon", "is not a time span"),
        ("--on-stale keep", "without `max_stale` it never applies"),
        ("--after ROOT/none", "is no target"),
        ("--require-mount /proc", "is not in `/proc`"),
        ("--rollback-on-failure", "without `on_change`"),
        ("--multiline yes", "[possible values: refuse, allow]"),
    ] {
        let words: Vec<&str> =
            ["add", "ROOT/b", "secret/a"].into_iter().chain(flags.split(' ')).collect();
        let shown = world.run(&words);
        assert!(shown.contains(part), "{flags}: {shown}");
    }
    assert_eq!(world.text(), before);
}

#[test]
fn add_makes_the_first_configuration() {
    let world = World::new("");
    world.run(&["add", "ROOT/.env", "secret/a"]);
    assert_eq!(world.text(), "[[target]]\npath = \"ROOT/.env\"\nsecrets = [\"secret/a\"]\n");
    assert_eq!(world.config.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn add_warns_of_what_git_would_pick_up() {
    let world = World::new("");
    for folder in [".git/objects", ".git/refs"] {
        std::fs::create_dir_all(world.root.join(folder)).unwrap();
    }
    let write = |file: &str, text: &str| {
        let mut file = std::fs::File::create(world.root.join(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write(".git/HEAD", "ref: refs/heads/main\n");
    let shown = world.run(&["add", "ROOT/.env", "secret/a"]);
    assert_eq!(
        shown,
        "added: `ROOT/.env` holds secret/a\n\
         warning: `ROOT/.env` is in a git work tree that does not ignore it: it will not be written\n\
         hint: add it to .gitignore, or set `git = \"ignore\"` for this target\n"
    );
    assert!(!world.run(&["add", "ROOT/b.env", "secret/a", "--git", "ignore"]).contains("warning"));
    write(".gitignore", "c.env\n");
    assert!(!world.run(&["add", "ROOT/c.env", "secret/a"]).contains("warning"));
}

#[test]
fn links_are_resolved_once_and_for_all() {
    let world = World::new("");
    std::fs::create_dir(world.root.join("real")).unwrap();
    std::os::unix::fs::symlink(world.root.join("real"), world.root.join("link")).unwrap();
    assert_eq!(
        world.run(&["add", "ROOT/link/../link/.env", "secret/a"]),
        "added: `ROOT/real/.env` holds secret/a\n\
         `ROOT/link` is a link, and the file is where it leads now\n\
         hint: where the link is turned, as by a deployment, add the file with `--follow` \
         instead\n"
    );
    assert_eq!(
        world.run(&["remove", "ROOT/link/.env"]),
        "removed: `ROOT/real/.env` is no target any more; there is no file\n"
    );
    assert_eq!(world.run(&["list"]), "TARGET  SECRETS  FORMAT  SETTINGS  ON CHANGE\n");
}

#[test]
fn a_file_that_is_a_link_is_refused_at_once_or_followed() {
    let world = World::new("");
    std::fs::create_dir(world.root.join("r1")).unwrap();
    std::os::unix::fs::symlink("r1", world.root.join("current")).unwrap();
    files::replace(&world.root.join("r1/real"), b"", Access::PRIVATE).unwrap();
    std::os::unix::fs::symlink("r1/real", world.root.join("link")).unwrap();
    assert_eq!(
        world.run(&["add", "ROOT/link", "secret/a"]),
        "error: `ROOT/link` is a link\n\
         hint: name `ROOT/r1/real` instead, or follow it with `--follow`\n"
    );
    let said = world.run(&["add", "ROOT/current/.env", "secret/a"]);
    assert_eq!(
        said,
        "added: `ROOT/r1/.env` holds secret/a\n\
         `ROOT/current` is a link, and the file is where it leads now\n\
         hint: where the link is turned, as by a deployment, add the file with `--follow` \
         instead\n"
    );
    world.run(&["remove", "ROOT/current/.env"]);
    std::fs::remove_file(&world.config).unwrap();
    let said = world.run(&["add", "ROOT/current/.env", "secret/a", "--follow"]);
    assert_eq!(said, "added: `ROOT/current/.env` holds secret/a\n");
    let text =
        "[[target]]\npath = \"ROOT/current/.env\"\nsecrets = [\"secret/a\"]\nfollow = true\n";
    assert_eq!(world.text(), text);
    let said = world.run(&["add", "ROOT/r1/.env", "secret/b"]);
    assert!(said.contains("is the same file as `ROOT/current/.env`"), "{said}");
    assert_eq!(world.text(), text);
    // The other way round, too.
    world.run(&["remove", "ROOT/current/.env"]);
    world.run(&["add", "ROOT/r1/.env", "secret/b"]);
    let said = world.run(&["add", "ROOT/current/.env", "secret/a", "--follow"]);
    assert!(said.contains("`ROOT/current/.env` is the same file as `ROOT/r1/.env`"), "{said}");
    // A link that has been turned since leads to another target: the one that is named goes.
    std::fs::create_dir(world.root.join("r2")).unwrap();
    let turn = |to: &str| {
        std::fs::remove_file(world.root.join("current")).unwrap();
        std::os::unix::fs::symlink(to, world.root.join("current")).unwrap();
    };
    turn("r2");
    world.run(&["add", "ROOT/current/.env", "secret/a", "--follow"]);
    turn("r1");
    let said = world.run(&["remove", "ROOT/current/.env"]);
    assert!(said.contains("`ROOT/current/.env` is no target any more"), "{said}");
    assert!(world.text().contains("ROOT/r1/.env"), "{}", world.text());
}

#[test]
fn a_file_that_cannot_be_compared_is_added_and_not_touched() {
    let world = World::new("");
    files::replace(&world.root.join(".env"), b"MINE=1\n", Access::PRIVATE).unwrap();
    let said = world.run(&["add", "ROOT/.env", "secret/a"]);
    assert!(said.contains("is there already, and cannot be compared now"), "{said}");
    assert!(said.ends_with("added: `ROOT/.env` holds secret/a\n"), "{said}");
    let choices = [["--block", "layout = \"block\"\n"], ["--replace", "existing = \"replace\"\n"]];
    for [flag, line] in choices {
        world.run(&["remove", "ROOT/.env"]);
        world.run(&["add", "ROOT/.env", "secret/a", flag]);
        let text = world.text().replace("# Nothing is configured.\n", "");
        assert!(text.ends_with(line), "{text}");
    }
    world.run(&["remove", "ROOT/.env"]);
    let said = world.run(&["add", "ROOT/.env", "secret/a", "--import"]);
    assert!(said.starts_with("error: no agent answers"), "{said}");
    // A host that is in no vault has no agent to be started.
    assert!(said.contains("\nhint: no machine has joined a vault in `ROOT/state`: run "), "{said}");
    files::write_private(&world.root.join("state/pins.json"), b"{}").unwrap();
    let said = world.run(&["add", "ROOT/.env", "secret/a", "--import"]);
    let ways = ["`systemctl start vault-agent` starts", "`vault-agent run` runs it in a terminal"];
    assert!(ways.iter().any(|way| said.contains(&format!("\nhint: {way}"))), "{said}");
    assert_eq!(world.text(), "# Nothing is configured.\n");
    assert_eq!(std::fs::read(world.root.join(".env")).unwrap(), b"MINE=1\n");
}

#[test]
fn a_file_that_nobody_would_write_is_refused() {
    let world = World::new("");
    let paths = Paths::resolve(Some(world.root.join("state")), None).unwrap();
    let words = ["target", "add", "/srv/.env", "secret/a"];
    let command = Cli::try_parse_from(words).unwrap().command;
    let printed = Printed::default();
    let term = Term::piped(io::empty(), io::sink(), printed.clone());
    let why = foretell(&command, &paths, &term).unwrap_err();
    let said = format!("no machine has joined a vault in `{}`: ", paths.state.display());
    assert!(why.to_string().starts_with(&said), "{why}");
    assert!(host::hint::hint(&why).is_some() && printed.0.borrow().is_empty());

    files::write_private(&paths.pins(), b"{}").unwrap();
    foretell(&command, &paths, &term).unwrap();
    let said = String::from_utf8(printed.0.take()).unwrap();
    let missing = "warning: no agent runs here: nothing is written before one does\nhint: ";
    assert!(said.starts_with(missing), "{said}");
}

#[test]
fn remove_takes_one_table_only() {
    let world = World::new("");
    world.run(&["add", "ROOT/a", "secret/a"]);
    world.run(&["add", "ROOT/b", "secret/b"]);
    world.run(&["remove", "ROOT/a"]);
    assert!(
        !world.text().contains("ROOT/a") && world.text().contains("ROOT/b"),
        "{}",
        world.text()
    );
    assert_eq!(
        world.run(&["list", "--json"]),
        "[\n  {\n    \"path\": \"ROOT/b\",\n    \"name\": \"ROOT/b\",\n\
         \x20   \"secrets\": [\n      \"secret/b\"\n    ],\n    \"format\": \"dotenv\",\n\
         \x20   \"settings\": {},\n    \"on_change\": null\n  }\n]\n"
    );
}

/// A block between lines of the file's owner.
const BLOCK: &str = "MINE=1\n# BEGIN vault-agent\nA=1\n# END vault-agent\nMINE=2\n";

/// Has a target of `content` removed; returns what was said, and what is there afterwards.
fn removed(more: &str, content: Option<&str>, flags: &[&str]) -> (String, Option<String>) {
    let world = World::new("");
    let file = world.root.join("a");
    let text =
        format!("[[target]]\npath = \"{}\"\nsecrets = [\"secret/a\"]\n{more}", file.display());
    files::write_private(&world.config, text.as_bytes()).unwrap();
    let access = Access { mode: 0o640, ..Access::PRIVATE };
    if let Some(content) = content {
        files::replace(&file, content.as_bytes(), access).unwrap();
    }
    Written::new(&world.root.join("state")).note(&file, None, b"A=1\n", access).unwrap();
    let shown = world.run(&[&["remove", "ROOT/a"], flags].concat());
    assert_eq!(world.text(), "# Nothing is configured.\n");
    let left = std::fs::read_to_string(&file).ok();
    assert!(left.is_none() || file.metadata().unwrap().mode() & 0o777 == 0o640);
    (shown, left)
}

#[test]
fn remove_says_what_stays() {
    let start = "removed: `ROOT/a` is no target any more; ";
    let check = |more, content: Option<&str>, says: &str| {
        let left = (format!("{start}{says}\n"), content.map(str::to_owned));
        assert_eq!(removed(more, content, &[]), left);
    };
    check("", Some("A=1\n"), "the file stays, values and all: `rm ROOT/a` removes it");
    check("", None, "there is no file");
    let block = "the file stays, and its block too: delete the lines from `# BEGIN vault-agent` to \
         `# END vault-agent` if nothing reads them";
    check("layout = \"block\"", Some(BLOCK), block);
}

#[test]
fn purge_takes_what_is_the_vaults_and_nothing_else() {
    let start = "removed: `ROOT/a` is no target any more; ";
    let check = |more, content: Option<&str>, says: &str, left: Option<&str>| {
        let left = (format!("{start}{says}\n"), left.map(str::to_owned));
        assert_eq!(removed(more, content, &["--purge"]), left);
    };
    let block = "layout = \"block\"";
    check("", Some("A=1\n"), "the file is gone", None);
    check("", None, "there was no file", None);
    let rest = "its block is gone from the file, all other lines are as they were";
    check(block, Some(BLOCK), rest, Some("MINE=1\nMINE=2\n"));
    let alone = BLOCK.trim_start_matches("MINE=1\n").trim_end_matches("MINE=2\n");
    check(block, Some(alone), "the file is gone", None);
    let none = "there was no block in the file, which is as it was";
    check(block, Some("MINE=1\n"), none, Some("MINE=1\n"));
    check(block, None, "there was no file", None);
    for (more, edited) in
        [("", "A=2\n"), ("", "A=1\nMINE=1\n"), (block, &BLOCK.replace("A=1", "A=2"))]
    {
        let (shown, left) = removed(more, Some(edited), &["--purge"]);
        assert!(shown.contains("holds what this agent did not write"), "{shown}");
        assert_eq!(left.as_deref(), Some(edited));
    }
    let broken = BLOCK.replace("# END vault-agent\n", "");
    let (shown, left) = removed(block, Some(&broken), &["--purge"]);
    assert!(
        shown.contains("is no target any more, but stays") && shown.contains("line 2"),
        "{shown}"
    );
    assert_eq!(left, Some(broken));
}

#[test]
fn mistakes_change_nothing() {
    let world = World::new("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\n");
    let before = world.text();
    let mistakes = [
        world.run(&["add", "/a", "secret/a"]),
        world.run(&["add", "ROOT/none/.env", "secret/a"]),
        world.run(&["add", "ROOT", "secret/a"]),
        world.run(&["add", "ROOT/.env", "secret/a", "--mode", "888"]),
        world.run(&["add", "ROOT/.env", "secret/a", "--owner", "no-such-user"]),
        world.run(&["add", "ROOT/.env", "secret/a", "secret/a"]),
        world.run(&["remove", "ROOT/b"]),
    ];
    insta::assert_snapshot!(mistakes.concat());
    assert!(world.run(&["add", "ROOT/.env", "secret"]).contains("names a mount only"));
    assert!(
        world
            .run(&["add", "ROOT/.env", "secret/a", "--format", "env"])
            .contains("dotenv, compose, docker, systemd, sh, json, yaml, toml, raw, template")
    );
    assert_eq!(world.text(), before);
}

#[test]
fn commands_that_need_a_shell_get_one() {
    assert_eq!(words("docker compose up -d"), Some(vec!["docker", "compose", "up", "-d"]));
    for line in ["a && b", "a | b", "echo 'x y'", "A=1 b", "a *", "", " "] {
        assert_eq!(words(line), None, "{line:?}");
    }
}

#[test]
fn a_target_goes_by_the_name_that_a_status_shows() {
    let uid = rustix::process::geteuid().as_raw();
    let home = account::home(uid).unwrap();
    let home = home.display();
    let target = |path: &str| {
        format!(
            "[[target]]\npath = \"{home}/{path}\"\nsecrets = [\"secret/a\"]\nowner = \"{uid}\"\n"
        )
    };
    let world = World::new(&(target("app-1/.env") + &target("app-2/.env")));
    let name = |text: &str| named(Path::new(text), &world.config).map(|it| it.path.clone());
    assert_eq!(name("~/app-2/.env").unwrap(), Path::new(&format!("{home}/app-2/.env")));
    assert!(name("~/app-3/.env").unwrap_err().to_string().contains("is no target"));
}
