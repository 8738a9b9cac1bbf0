//! Each verb on a configuration of its own.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
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
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let shown = match run(&cli.args, &self.config, &mut out, &mut talk) {
            Ok(()) => String::from_utf8([out, talk].concat()).unwrap(),
            Err(error) => format!("error: {error:#}\n"),
        };
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
        "TARGET SECRETS FORMAT ON CHANGE ROOT/.env secret/a, secret/b dotenv docker compose up -d \
         ROOT/x.json secret/a json a && b"
    );
}

#[test]
fn add_makes_the_first_configuration() {
    let world = World::new("");
    world.run(&["add", "ROOT/.env", "secret/a"]);
    assert_eq!(world.text(), "[[target]]\npath = \"ROOT/.env\"\nsecrets = [\"secret/a\"]\n");
    assert_eq!(world.config.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn links_are_resolved_once_and_for_all() {
    let world = World::new("");
    std::fs::create_dir(world.root.join("real")).unwrap();
    std::os::unix::fs::symlink(world.root.join("real"), world.root.join("link")).unwrap();
    assert_eq!(
        world.run(&["add", "ROOT/link/../link/.env", "secret/a"]),
        "added: `ROOT/real/.env` holds secret/a\n"
    );
    assert_eq!(
        world.run(&["remove", "ROOT/link/.env"]),
        "removed: `ROOT/real/.env` is no target any more; the file stays\n"
    );
    assert_eq!(world.run(&["list"]), "TARGET   SECRETS   FORMAT   ON CHANGE\n");
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
        "[\n  {\n    \"path\": \"ROOT/b\",\n    \"secrets\": [\n      \"secret/b\"\n    ],\n    \"format\": \"dotenv\",\n    \"on_change\": null\n  }\n]\n"
    );
}

#[test]
fn remove_says_that_a_block_stays() {
    let text = "[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\nlayout = \"block\"\n";
    let world = World::new(text);
    let shown = world.run(&["remove", "/a"]);
    assert_eq!(
        shown,
        "removed: `/a` is no target any more; the file stays\nits block stays too: delete the lines from \
         `# BEGIN vault-agent` to `# END vault-agent` if nothing reads them\n"
    );
    assert_eq!(world.text(), "");
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
