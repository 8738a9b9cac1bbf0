//! What `agent.toml` may say, and what each mistake is answered with.

use std::time::Duration;

use host::logging::{Format as LogFormat, Level};

use super::*;
use crate::render::{Layout, Multiline, Nested};

const FULL: &str = r#"
server = ["10.8.0.3:8443", "[::1]:8443"]     # tried in order

[[target]]
path = "/home/jonas/J-Jeco/.env"
secrets = ["secret/jjeco/api-keys", "secret/jjeco/telegram"]
format = "dotenv"
keys = ["OPENAI_API_KEY"]
owner = "jonas"
group = "docker"
mode = "0640"
on_change = ["docker", "compose", "up", "-d"]
rollback_on_failure = true
max_stale = "7d"
on_stale = "remove"
after = ["/etc/ghost.json", "/etc//nginx/key.conf"]
on_delete = "remove"
git = "ignore"
drift = "report"
existing = "replace"
write = "in_place"
follow = true
require_mount = "/home/"
allow_names = ["PATH"]
multiline = "allow"
rename = { "db-password" = "DB_PASSWORD" }
prefix = "APP_"
upper = true
nested = "flatten"
header = false
layout = "block"

[[target]]
path = "/etc/nginx/key.conf"
secrets = ["secret/nginx"]
format = "template"
template_file = "/etc/vault-agent/nginx.tmpl"

[[target]]
path = "/etc/ghost.json"
secrets = ["secret/ghost"]
format = "json"
on_change = { systemd = "ghost@1.service", action = "reload-or-restart", timeout = "2m", retries = 0 }

[[source]]
path = "/mnt/shared-secrets/.env.shared"
secret = "secret/jjeco/api-keys"

[credentials]
socket = "/run/vault/credentials.sock"

[[credential]]
unit = "ghost.service"
name = "db"
secret = "secret/ghost"
key = "DB_PASSWORD"

[api]
socket = "/run/x.sock"
allow = ["jonas", "@vault"]
listen = ["127.0.0.1:8200", "172.17.0.1:8200"]
hosts = ["host.docker.internal", "vault"]
auth = "loopback"
token_file = "/run/token"
require_reason = "agents"
ai_tools = ["my-tool"]

[log]
level = "debug"
format = "json"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/agent.toml")).map_err(|error| error.to_string())
}

fn hook(text: &str) -> Hook {
    let file = format!("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\non_change = {text}\n");
    parse(&file).unwrap().targets[0].on_change.clone().unwrap()
}

#[test]
fn every_key_is_read() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.server, ["10.8.0.3:8443", "[::1]:8443"]);
    let [env, nginx, ghost] = &config.targets[..] else { panic!("three targets") };
    assert_eq!(
        (env.mode, env.on_delete, env.git, env.drift),
        (Some(0o640), OnDelete::Remove, GitPolicy::Ignore, Drift::Report)
    );
    assert_eq!(
        (env.existing, env.write, env.follow),
        (Existing::Replace, WriteMode::InPlace, true)
    );
    assert_eq!(
        (ghost.existing, ghost.write, ghost.follow),
        (Existing::Hold, WriteMode::Replace, false)
    );
    assert_eq!(env.require_mount.as_deref(), Some(Path::new("/home")));
    assert_eq!((env.format, ghost.format), (Format::Dotenv, Format::Json));
    assert_eq!(env.rename, [("db-password".to_owned(), "DB_PASSWORD".to_owned())]);
    assert_eq!((env.prefix.as_str(), env.upper, env.header), ("APP_", true, false));
    assert_eq!(
        (env.multiline, env.nested, env.layout),
        (Multiline::Allow, Nested::Flatten, Layout::Block)
    );
    assert_eq!(nginx.template_file.as_deref(), Some(Path::new("/etc/vault-agent/nginx.tmpl")));
    assert_eq!((ghost.header, ghost.layout), (true, Layout::File));
    assert_eq!(
        (ghost.mode, ghost.on_delete, ghost.git, ghost.drift),
        (None, OnDelete::Keep, GitPolicy::Refuse, Drift::Restore)
    );
    assert_eq!(
        config.api.allow,
        [Allow::User("jonas".to_owned()), Allow::Group("vault".to_owned())]
    );
    let listen = ["127.0.0.1:8200", "172.17.0.1:8200"].map(|text| text.parse().unwrap());
    assert_eq!(config.api.listen, listen);
    assert_eq!(config.api.hosts, ["host.docker.internal", "vault"]);
    assert_eq!(config.api.require_reason, RequireReason::Agents);
    assert_eq!(config.api.ai_tools, ["my-tool"]);
    assert_eq!(
        (config.api.auth, config.log.level, config.log.format),
        (Auth::Loopback, Level::Debug, LogFormat::Json)
    );
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!((env.max_stale, env.on_stale), (Some(week), Some(OnStale::Remove)));
    assert_eq!((ghost.max_stale, ghost.on_stale), (None, None));
    assert!(env.rollback_on_failure && !ghost.rollback_on_failure);
    assert_eq!(env.after, [ghost.path.clone(), nginx.path.clone()]);
    let ghost = ghost.on_change.clone().unwrap();
    assert_eq!((ghost.timeout, ghost.retries), (Duration::from_secs(120), 0));
    let [source] = &config.sources[..] else { panic!("one source") };
    assert_eq!(source.path, Path::new("/mnt/shared-secrets/.env.shared"));
    assert_eq!(source.secret.as_str(), "secret/jjeco/api-keys");
    let credentials = config.credentials.as_ref().unwrap();
    assert_eq!(credentials.socket.as_deref(), Some(Path::new("/run/vault/credentials.sock")));
    let db = credentials.find("ghost.service", "db").unwrap();
    assert_eq!((db.secret.as_str(), db.key.as_deref()), ("secret/ghost", Some("DB_PASSWORD")));
    assert_eq!(credentials.find("ghost.service", "DB"), None);
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("[credentials]").unwrap().credentials, Some(Credentials::default()));
}

#[test]
fn hooks_have_four_forms() {
    let shown = |text: &str| (hook(text).action, hook(text).to_string());
    let command = |arguments: &[&str]| {
        HookAction::Command(arguments.iter().map(|a| (*a).to_owned()).collect())
    };
    assert_eq!(
        shown(r#"["docker", "compose"]"#),
        (command(&["docker", "compose"]), "docker compose".to_owned())
    );
    assert_eq!(shown(r#""a && b""#), (command(&["sh", "-c", "a && b"]), "a && b".to_owned()));
    assert_eq!(shown(r#"{ command = "a" }"#).0, command(&["sh", "-c", "a"]));
    assert_eq!(shown(r#"{ command = ["a"], timeout = 5 }"#).0, command(&["a"]));
    assert_eq!(shown(r#"{ systemd = "x.service" }"#).1, "systemctl try-restart x.service");
    assert_eq!(shown(r#"{ signal = "HUP", pid_file = "/run/x.pid" }"#).1, "kill -HUP /run/x.pid");
}

#[test]
fn mistakes_name_line_and_key() {
    let target = "[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\n";
    let with = |line: &str| parse(&format!("{target}{line}\n")).unwrap_err();
    let mut shown = vec![
        with("formt = \"dotenv\""),
        with("format = \"env\""),
        with("mode = \"0999\""),
        with("mode = 600"),
        with("mode = 0600"),
        with("keys = []"),
        with("on_change = 5"),
        with("on_change = []"),
        with("on_change = { systemd = \"-x\" }"),
        with("on_change = { signal = \"KILL\", pid_file = \"/x\" }"),
        with("on_change = { signal = \"HUP\" }"),
        with("on_change = { command = \"x\", timeout = \"5 parsecs\" }"),
        with("[[target]]\npath = \"/a/\"\nsecrets = [\"secret/b\"]"),
        with("on_change = [\n  \"x\",\n  5\n]"),
        with("x"),
        with("format = \"template\""),
        with("template = \"x\""),
        with("template_file = \"/x\""),
        with("format = \"template\"\ntemplate = \"x\"\ntemplate_file = \"/x\""),
        with("format = \"json\"\nlayout = \"block\""),
        with("multiline = true"),
        with("allow_newlines = true"),
        with("rename = { a = 1 }"),
        with("require_mount = \"/mnt/disk\""),
        with("require_mount = \"mnt\""),
        with("rollback_on_failure = true"),
        with("max_stale = \"soon\""),
        with("max_stale = \"0s\""),
        with("max_stale = 24"),
        with("max_stale = \"1h\"\non_stale = \"delete\""),
        with("on_stale = \"keep\""),
        with("after = [\"a\"]"),
        with("mode = \"0600\"\nafter = [\"/b\"]"),
        with("after = [\"/a\"]"),
        with(
            "after = [\"/b\"]\n[[target]]\npath = \"/b\"\nsecrets = [\"secret/b\"]\n\
             after = [\"/c\"]\n[[target]]\npath = \"/c\"\nsecrets = [\"secret/c\"]\n\
             after = [\"/b\"]",
        ),
    ];
    shown.extend([
        parse("server = [\"nohost\"]").unwrap_err(),
        parse("[[target]]\npath = \"a\"\nsecrets = [\"secret/a\"]").unwrap_err(),
        parse("[[target]]\npath = \"/a\"\nsecrets = []").unwrap_err(),
        parse("[[target]]\npath = \"/a\"\nsecrets = [\"secret\"]").unwrap_err(),
        parse("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\", \"secret/a\"]").unwrap_err(),
        parse("[[target]]\npath = \"/a\"").unwrap_err(),
        parse("[[target]]\npath = \"/a\"\nsecrets = [\"secret/u\u{308}\"]").unwrap_err(),
        parse("[[source]]\npath = \"/a\"\nsecret = \"secret/u\u{308}\"").unwrap_err(),
        parse("[api]\nallow = [\"@\"]").unwrap_err(),
        with("[[source]]\npath = \"/a\"\nsecret = \"secret/a\""),
        with("[[source]]\npath = \"/b\"\nsecrets = [\"secret/a\"]"),
        with("[[source]]\npath = \"/b\"\nsecret = \"a\""),
        with("[[source]]\npath = \"/b\"\nsecret = \"s/a\"\n[[source]]\npath = \"/b\"\nsecret = \"s/b\""),
        with("[[source]]\npath = \"/b\"\nsecret = \"s/a\"\n[[source]]\npath = \"/c\"\nsecret = \"s/a\""),
        parse("[[credential]]\nunit = \"-x\"\nname = \"a\"\nsecret = \"s/a\"").unwrap_err(),
        parse("[[credential]]\nunit = \"a.service\"\nname = \"a/b\"\nsecret = \"s/a\"").unwrap_err(),
        parse("[[credential]]\nunit = \"a.service\"\nname = \"a\"").unwrap_err(),
        parse(&"[[credential]]\nunit = \"a.service\"\nname = \"a\"\nsecret = \"s/a\"\n".repeat(2)).unwrap_err(),
        parse("[credentials]\nsocket = \"x\"").unwrap_err(),
        parse("[log]\nlevel = \"loud\"").unwrap_err(),
        parse("[loge]\n").unwrap_err(),
    ]);
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn permissions_stand_in_quotes() {
    for (written, right) in [("0600", "0600"), ("600", "0600"), ("0o640 # c", "0640")] {
        let text =
            format!("[[target]]\npath = \"/a\"\nsecrets = [\"secret/a\"]\nmode = {written}\n");
        let fault = Config::parse(&text, Path::new("/agent.toml")).unwrap_err();
        assert_eq!(fault.line, Some(4), "{fault}");
        assert_eq!(fault.hint, format!("write `mode = \"{right}\"`"));
    }
}

#[test]
fn a_long_line_of_targets_is_walked() {
    let target = |n: u32| {
        let after = if n > 0 { format!("after = [\"/{}\"]\n", n - 1) } else { String::new() };
        format!("[[target]]\npath = \"/{n}\"\nsecrets = [\"secret/a\"]\n{after}")
    };
    let text: String = (0..2_000).rev().map(target).collect();
    assert_eq!(parse(&text).unwrap().targets.len(), 2_000);
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    assert!(Config::load(&file).unwrap_err().missing);
    assert_eq!(Config::load_or_default(&file).unwrap(), Config::default());
    host::files::write_private(&file, b"server = [\"a:1\"]\n").unwrap();
    assert_eq!(Config::load(&file).unwrap().server, ["a:1"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o646)).unwrap();
    assert!(Config::load(&file).unwrap_err().to_string().contains("written by others"));
}

#[test]
fn a_file_that_holds_nothing_is_no_edit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    for text in ["", " \n\n"] {
        host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
        assert_eq!(Config::load(&file).unwrap(), Config::default());
        assert!(Config::load_filled(&file).unwrap_err().to_string().ends_with("is empty"));
    }
    let comment = b"# nothing\n";
    host::files::replace_trusted(&file, comment, host::files::Access::PRIVATE).unwrap();
    assert_eq!(Config::load_filled(&file).unwrap(), Config::default());
}

#[test]
fn mistakes_about_listeners_name_the_way_out() {
    let nine = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|n| format!("127.0.0.{n}:1"));
    for (line, expected) in [
        (
            "listen = \"0.0.0.0:8200\"",
            "address `0.0.0.0:8200` is every interface of this host: name",
        ),
        ("listen = [\"127.0.0.1:1\", \"[::]:1\"]", "address `[::]:1` is every interface of this"),
        ("listen = \"203.0.113.7:8200\"", "is neither a loopback nor a private address: secrets"),
        ("listen = \"[2001:db8::1]:8200\"", "host; name `127.0.0.1`, and for containers the add"),
        ("listen = \"127.0.0.1\"", "`127.0.0.1` is not an address such as \"127.0.0.1:8200\""),
        ("listen = 8200", "expected an address such as \"127.0.0.1:8200\", or a list of them"),
        ("listen = [\"172.17.0.1:1\", \"172.17.0.1:1\"]", "address `172.17.0.1:1` is named twice"),
        (&format!("listen = {nine:?}"), "there are more than 8 addresses"),
        ("hosts = [\"vault:8200\"]", "`vault:8200` is not a name such as \"host.docker.internal\""),
        ("hosts = [\"*\"]", "`*` is not a name such as \"host.docker.internal\", without a port"),
        ("hosts = [\"\"]", "`` is not a name"),
        ("hosts = [\"172.17.0.1\"]", "is an address: those of `listen` are accepted without"),
        ("hosts = \"vault\"", "invalid type: string \"vault\", expected a sequence"),
    ] {
        let why = parse(&format!("[api]\n{line}\n")).unwrap_err();
        let place =
            format!("`/etc/agent.toml` line 2, key `{}`: ", &line[..line.find(' ').unwrap()]);
        assert!(why.starts_with(&place) && why.contains(expected), "{line}: {why}");
    }
}

#[test]
fn what_only_this_host_and_its_containers_reach_is_listened_on() {
    for good in [
        "127.0.0.1:8200",
        "[::1]:8200",
        "10.88.0.1:8200",
        "172.17.0.1:8200",
        "192.168.122.1:8200",
        "169.254.1.1:8200",
        "[fd00:dead::1]:8200",
        "[fe80::1%3]:8200",
    ] {
        let config = parse(&format!("[api]\nlisten = \"{good}\"")).unwrap();
        assert_eq!(config.api.listen, [good.parse().unwrap()], "{good}");
    }
    for bad in [
        "172.32.0.1:8200",
        "100.64.0.1:8200",
        "8.8.8.8:8200",
        "255.255.255.255:8200",
        "224.0.0.1:8200",
        "[::ffff:172.17.0.1]:8200",
        "[ff02::1]:8200",
    ] {
        let why = parse(&format!("[api]\nlisten = \"{bad}\"")).unwrap_err();
        assert!(why.contains("secrets would leave this host; name `127.0.0.1`"), "{bad}: {why}");
    }
    assert!(parse("[api]\nlisten = []").unwrap().api.listen.is_empty());
}

#[test]
fn what_waits_for_the_next_start_is_named() {
    let parse = |text: &str| parse(text).unwrap();
    let target = "[[target]]\npath = \"/a/.env\"\nsecrets = [\"secret/a\"]\n";
    let none = Config::default();
    assert!(parse(target).for_next_start(&none).is_empty());
    let all = "[api]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"\n[credentials]\n";
    let waits = ["[api]", "[log]", "socket of [credentials]"];
    assert_eq!(parse(all).for_next_start(&none), waits);
    assert_eq!(none.for_next_start(&parse(all)), waits);
    assert!(parse(all).for_next_start(&parse(all)).is_empty());
}

#[test]
fn a_host_scans_once_it_is_told_to() {
    let scan = |text: &str| parse(text).map(|config| config.scan);
    assert_eq!(scan(""), Ok(None));
    assert_eq!(scan("[scan]"), Ok(Some(Scan::default())));
    let asked = scan("[scan]\nevery = \"0\"\npresets = []\ncontainers = [\"/srv/c\"]\n").unwrap();
    let asked = asked.unwrap();
    assert_eq!((asked.every, asked.presets.len()), (None, 0));
    assert_eq!(asked.containers, Containers::Below(vec!["/srv/c".to_owned()]));
    let places = "[scan]\npaths = [\"/srv/*/log\", \"~jonas/n\", \"~\"]\nexcept = [\"target\"]\n";
    assert_eq!(scan(places).unwrap().unwrap().paths.len(), 3);
    for (bad, why) in [
        ("every = \"9m\"", "of 10 minutes at least"),
        ("every = \"soon\"", "is not a time span"),
        ("paths = [\"notes\"]", "neither absolute nor below"),
        ("paths = [\"/a/../b\"]", "has `..` in it"),
        ("except = [\"a/b\"]", "neither a name nor a place"),
        ("presets = [\"all\"]", "unknown variant"),
        ("max_time = \"0\"", "is not a time span"),
        ("secrets = []", "unknown field"),
    ] {
        let found = scan(&format!("[scan]\n{bad}\n")).unwrap_err();
        assert!(found.contains(why), "{bad}: {found}");
    }
}
