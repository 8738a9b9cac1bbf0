//! Containers that ask the agent over their bridge, from a network namespace of their own.

use std::process::Command;

use tests::container::{BRIDGE, CONTAINER, Container};
use tests::{Host, World, bins, namespaces, run, watch};

const SECRET: &str = "secret/app/prod";
const PORT: u16 = 8200;

/// Adds lines to the configuration.
fn configure(host: &Host, lines: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.append(true).create(true).open(host.state().join("agent.toml")).unwrap();
    writeln!(file, "\n{lines}").unwrap();
}

/// A machine that trusts loopback, and listens on a bridge as well.
fn machine(world: &World) -> Host {
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "KEY=hunter2"]).ok();
    let _ = host.vault(&["kv", "put", "secret/other", "KEY=hunter3"]).ok();
    host.stop();
    let api = format!(
        "[api]\nlisten = [\"127.0.0.1:{PORT}\", \"{BRIDGE}:{PORT}\"]\n\
         hosts = [\"host.docker.internal\"]\nauth = \"loopback\"\n"
    );
    configure(&host, &api);
    host.start();
    host
}

/// The command line as a container has it: it knows an address, and perhaps a token.
fn vault(host: &Host, token: &str, args: &[&str]) -> Command {
    let mut command = Command::new(host.bins.vault);
    command.args(args).env_clear().env("VAULT_ADDR", format!("http://{BRIDGE}:{PORT}"));
    if !token.is_empty() {
        command.env("VAULT_TOKEN", token);
    }
    command
}

fn token(host: &Host, args: &[&str]) -> String {
    let made = host.vault(&[&["token", "create", "-field=token"], args].concat()).ok();
    made.trim().to_owned()
}

#[test]
fn a_container_reads_what_its_token_allows() {
    namespaces::own(&["--net"], || {
        let world = World::new(bins!());
        let container = Container::new();
        container.plug_in();
        let host = machine(&world);
        let token = token(&host, &["-path=secret/app/"]);
        let get = ["kv", "get", "-field=KEY", SECRET];
        let ask =
            |token: &str, args: &[&str]| run(&mut container.enter(&vault(&host, token, args)), "");
        assert_eq!(ask(&token, &get).ok().trim(), "hunter2");
        for (token, args) in [
            ("", &get[..]),
            ("vltp.wrong", &get),
            (&token, &["kv", "get", "secret/other"]),
            (&token, &["kv", "put", SECRET, "KEY=x"]),
        ] {
            let refused = ask(token, args);
            assert_eq!(refused.code, 2, "{args:?}: {}", refused.err);
            assert!(refused.err.contains("permission denied"), "{}", refused.err);
            assert!(!format!("{}{}", refused.out, refused.err).contains("hunter"), "{args:?}");
        }
        // On this host nothing has changed, and a local caller of the bridge is no container.
        let local = |address: &str, token: &str| {
            let mut command = vault(&host, token, &get);
            run(command.env("VAULT_ADDR", format!("http://{address}:{PORT}")), "")
        };
        assert_eq!(local("127.0.0.1", "").ok().trim(), "hunter2");
        assert_eq!(local(BRIDGE, "").code, 2);
        assert_eq!(local(BRIDGE, &token).ok().trim(), "hunter2");
        let by_container = format!("tcp {CONTAINER}");
        let records = watch::poll("the reads on record", || {
            let _ = host.vault(&["audit", "verify"]);
            let args = ["audit", "export", "--path", SECRET, "--op", "local_read"];
            let all: Vec<serde_json::Value> =
                serde_json::from_str(&host.vault(&args).ok()).unwrap();
            (all.len() >= 6).then_some(all)
        });
        let seen: Vec<(&str, &str)> = records
            .iter()
            .map(|record| {
                (record["result"].as_str().unwrap(), record["who"].as_str().unwrap_or_default())
            })
            .collect();
        let count = |result: &str, is_caller: &dyn Fn(&str) -> bool| {
            seen.iter().filter(|(of, who)| *of == result && is_caller(who)).count()
        };
        let (container, local) =
            (|who: &str| who == by_container, |who: &str| who.contains("] uid "));
        assert_eq!((count("ok", &container), count("denied", &container)), (1, 2), "{seen:?}");
        assert_eq!((count("ok", &local), count("denied", &local)), (2, 1), "{seen:?}");
    });
}

#[test]
fn a_container_names_the_host_rightly() {
    namespaces::own(&["--net"], || {
        let world = World::new(bins!());
        let container = Container::new();
        container.plug_in();
        let host = machine(&world);
        let token = format!("X-Vault-Token: {}", token(&host, &["-path=secret/app/"]));
        let path = "/v1/secret/data/app/prod";
        let by_bridge = format!("Host: {BRIDGE}:{PORT}");
        let absolute = |host: &str| format!("http://{host}{path}");
        for (target, lines, expected) in [
            (path, &[&*by_bridge][..], "200"),
            (path, &["Host: host.docker.internal:8200"], "200"),
            (path, &["host: HOST.DOCKER.INTERNAL."], "200"),
            (path, &["Host: localhost"], "200"),
            (path, &[], "403"),
            (path, &["Host:"], "403"),
            (path, &[&by_bridge, &by_bridge], "403"),
            (path, &[&by_bridge, "Host: evil.example"], "403"),
            (path, &["Host: evil.example"], "403"),
            (path, &["Host: host.docker.internal.evil.example:8200"], "403"),
            (path, &["Host: 172.17.0.1.nip.io"], "403"),
            (path, &["Host: [::2]:8200"], "403"),
            (path, &[&by_bridge, "Origin: http://evil.example"], "403"),
            (&absolute("host.docker.internal"), &[&by_bridge], "200"),
            (&absolute("evil.example"), &[&by_bridge], "403"),
            (&absolute("host.docker.internal"), &["Host: evil.example"], "403"),
        ] {
            let lines = [lines, &[&*token]].concat();
            let answer = container.get(PORT, target, &lines);
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{lines:?}: {answer}");
            assert_eq!(answer.contains("hunter2"), expected == "200", "{lines:?}");
            let without = container.get(PORT, target, &lines[..lines.len() - 1]);
            assert!(without.starts_with("HTTP/1.1 403 "), "{lines:?}: {without}");
        }
    });
}

#[test]
fn a_bridge_that_comes_late_is_waited_for() {
    namespaces::own(&["--net"], || {
        let world = World::new(bins!());
        let container = Container::new();
        let host = machine(&world);
        let _ = host.vault(&["kv", "put", SECRET, "KEY=later"]).ok();
        let alarmed = watch::poll("an alarm", || {
            let status = host.vault(&["status"]);
            status.err.contains("E_LISTEN").then_some(status.err)
        });
        assert!(alarmed.contains(&format!("cannot listen on `{BRIDGE}:{PORT}`")), "{alarmed}");
        assert!(alarmed.contains("start what brings it, such as Docker"), "{alarmed}");
        // Loopback is served meanwhile.
        let mut local = vault(&host, "", &["kv", "get", "-field=KEY", SECRET]);
        local.env("VAULT_ADDR", format!("http://127.0.0.1:{PORT}"));
        assert_eq!(run(&mut local, "").ok().trim(), "later");
        let token = token(&host, &["-path=secret/app/"]);
        container.plug_in();
        watch::poll("the end of the alarm", || {
            (!host.vault(&["status"]).err.contains("E_LISTEN")).then_some(())
        });
        let get = vault(&host, &token, &["kv", "get", "-field=KEY", SECRET]);
        assert_eq!(run(&mut container.enter(&get), "").ok().trim(), "later");
    });
}

/// Returns the block of code that follows a heading of the page on containers, without its fences.
fn recipe(heading: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/containers.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).expect("a heading of the page");
    let (_, block) = below.split_once("\n```").expect("a block of code");
    let (_language, block) = block.split_once('\n').unwrap();
    block.split("\n```").next().unwrap().to_owned()
}

/// Returns what follows `key` on its line of a recipe.
fn value_of<'a>(recipe: &'a str, key: &str) -> &'a str {
    let line = recipe.lines().find_map(|line| line.trim().strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in:\n{recipe}")).trim()
}

/// A machine with the secrets of the recipes, whose shell knows `vault`.
struct Deploying {
    _world: World,
    host: Host,
}

impl Deploying {
    fn new() -> Self {
        let world = World::new(bins!());
        let host = world.owner("rtx1080");
        let keys = ["DB_PASSWORD=pa$$ 'w\"ord#1", "SMTP_PASSWORD=two"];
        for secret in ["secret/apps/web", "secret/hermes"] {
            let _ = host.vault(&[&["kv", "put", secret], &keys[..]].concat()).ok();
        }
        std::fs::create_dir(host.dir.join("bin")).unwrap();
        std::os::unix::fs::symlink(host.bins.vault, host.dir.join("bin/vault")).unwrap();
        Self { _world: world, host }
    }

    /// Runs a line as those programs do.
    fn sh(&self, line: &str) -> String {
        let mut command = self.host.command("sh");
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.host.dir.join("bin").display()));
        run(command.args(["-c", line]), "").ok()
    }
}

/// Kamal takes what a command in `$(…)` prints, without the newline at its end.
#[test]
fn kamals_secrets_come_from_a_command() {
    let deploying = Deploying::new();
    let recipe = recipe("Kamal");
    for (key, expected) in [("DB_PASSWORD", "pa$$ 'w\"ord#1"), ("SMTP_PASSWORD", "two")] {
        let command = value_of(&recipe, &format!("{key}=$(")).strip_suffix(')').unwrap();
        assert_eq!(deploying.sh(command), expected);
    }
}

/// Uncloud takes what `x-command` prints.
#[test]
fn unclouds_secrets_come_from_a_command() {
    let deploying = Deploying::new();
    assert_eq!(deploying.sh(value_of(&recipe("Uncloud"), "x-command:")), "pa$$ 'w\"ord#1");
}

/// Hermes splits lines at the first `=`, and takes one pair of quotes around a value away.
#[test]
fn hermes_reads_lines() {
    let deploying = Deploying::new();
    let printed = deploying.sh(value_of(&recipe("Hermes"), "command: "));
    let lines: Vec<_> =
        printed.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines, ["DB_PASSWORD=pa$$ 'w\"ord#1", "SMTP_PASSWORD=two"]);
}

/// Komodo runs Compose beside a file of the agent's.
#[test]
fn komodos_stack_has_its_file() {
    let deploying = Deploying::new();
    let (host, folder) = (&deploying.host, deploying.host.dir.join("home/web"));
    let _ = host.vault(&["kv", "put", "secret/apps/web", "SMTP_PASSWORD=two"]).ok();
    std::fs::create_dir(&folder).unwrap();
    let text = recipe("Komodo")
        .replace("/opt/stacks/web", folder.to_str().unwrap())
        .replace("\"docker\", \"compose\", \"up\", \"-d\"", "\"touch\", \"up\"");
    configure(host, &text);
    let env = watch::until(&folder.join(".env"), |text| text.contains("SMTP_PASSWORD="));
    assert!(env.contains("SMTP_PASSWORD=two\n"), "{env}");
    watch::poll("the hook", || folder.join("up").exists().then_some(()));
}

/// The settings of the page are taken as they stand there.
#[test]
fn the_settings_of_the_page_are_good() {
    let text = recipe("The agent on a bridge");
    let config = machine::config::Config::parse(&text, std::path::Path::new("/page")).unwrap();
    assert_eq!(config.api.listen.len(), 2);
    assert_eq!(config.api.hosts, ["host.docker.internal", "vault"]);
    assert!(config.api.wants_token());
}
