//! Help, wrong calls, where the API is looked for.

use clap::CommandFactory as _;

use super::{APP, World, envelope, transcript};
use crate::dispatch::{Cli, HELP};

#[test]
fn commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn help_fits_a_screen_and_names_every_command() {
    assert!(HELP.lines().count() <= 50);
    for line in HELP.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let named =
            |line: &str| line.starts_with("  ") && line.split([' ', '|']).any(|w| w == name);
        assert!(HELP.lines().any(named), "{name}");
    }
}

#[test]
fn help_teaches() {
    let world = World::new("");
    insta::assert_snapshot!(transcript(
        &world,
        &[
            "-h",
            "kv",
            "kv get -h",
            "help kv get",
            "help kv gett",
            "help flags",
            "kv put -help",
            "machine --help",
            "import -h",
            "audit log -h",
            "scan -h",
            "rotate-due -h",
            "-version"
        ]
    ));
}

#[test]
fn wrong_calls_end_with_1() {
    let world = World::new("");
    insta::assert_snapshot!(transcript(
        &world,
        &[
            "kv gett secret/a",
            "kv get",
            "kv get a b",
            "kv get -fild=x secret/a",
            "kv list",
            "frobnicate",
            "login",
            "operator unseal",
            "target list",
            "server -dev",
            "version"
        ]
    ));
}

#[test]
fn without_agent_or_identity_the_way_out_is_named() {
    insta::assert_snapshot!(transcript(&World::new(""), &["kv get secret/a"]));
}

#[test]
fn a_server_that_is_away_is_named() {
    let world = World::new("").env("VAULT_ADDR", "unix:///nope/agent.sock");
    let text = transcript(&world, &["kv get secret/a", "kv put secret/a b=c"]);
    let world = World::new("").env("VAULT_ADDR", "ftp://x");
    insta::assert_snapshot!(text + &transcript(&world, &["kv get secret/a"]));
}

#[test]
fn variables_and_flags_reach_the_request() {
    let world = World::agent(&[("GET /v1/secret/data/app", 200, &envelope(APP))])
        .foreign()
        .env("VAULT_TOKEN", " s.token\n")
        .env("VAULT_NAMESPACE", "team")
        .env("VAULT_FORMAT", "json");
    let run = world.run("kv get -header x-test=1 -field=user secret/app");
    assert_eq!((run.exit, run.out.as_str(), run.err.as_str()), (0, "\"app\"", ""));
    let expected = "GET /v1/secret/data/app x-vault-token=s.token x-vault-namespace=team x-test=1";
    assert_eq!(world.seen(), [expected]);
}

#[test]
fn the_saved_token_goes_to_named_servers_only() {
    let world = World::agent(&[("GET /v1/secret/data/app", 200, &envelope(APP))]);
    world.file(".vault-token", "s.saved\n");
    let home = world.path().display().to_string();
    let world = world.env("HOME", &home);
    world.run("kv get secret/app");
    assert_eq!(world.seen(), ["GET /v1/secret/data/app"]);
    let world = world.foreign();
    world.run("kv get secret/app");
    assert_eq!(world.seen(), ["GET /v1/secret/data/app x-vault-token=s.saved"]);
}

const MOUNT: &str = r#"{"path":"team/kv/","type":"kv","options":{"version":"2"}}"#;
const FIRST: &str = r#"{"path":"old/","type":"kv","options":{"version":"1"}}"#;

fn foreign() -> World {
    World::agent(&[
        ("GET /v1/sys/internal/ui/mounts/team/kv/app", 200, &envelope(MOUNT)),
        ("GET /v1/sys/internal/ui/mounts/team/kv", 200, &envelope(MOUNT)),
        ("GET /v1/sys/internal/ui/mounts/old/app", 200, &envelope(FIRST)),
        (
            "GET /v1/sys/internal/ui/mounts/locked/app",
            403,
            r#"{"errors":["preflight capability check returned 403"]}"#,
        ),
        ("GET /v1/team/kv/data/app", 200, &envelope(APP)),
        ("PUT /v1/team/kv/data/app", 204, ""),
        ("GET /v1/old/app", 200, &envelope(r#"{"user":"app","n":1}"#)),
        ("PUT /v1/old/app", 204, ""),
    ])
    .foreign()
}

/// The first request goes where the path says; only a foreign server that has nothing there is
/// asked about its mounts.
#[test]
fn mounts_of_other_servers_are_found() {
    let world = foreign();
    let mut text = String::new();
    for line in [
        "kv get -field=user team/kv/app",
        "kv get -field=user -mount=team/kv app",
        "kv put team/kv/app a=b",
        "kv put -mount=team/kv app a=b",
        "kv get old/app",
        "kv put old/app a=b",
        "kv patch old/app a=b",
        "kv metadata get old/app",
        "kv get locked/app",
        "kv put locked/app a=b",
    ] {
        text.push_str(&transcript(&world, &[line]));
        text.push_str(&format!("--- requests\n{}\n\n", world.seen().join("\n")));
    }
    insta::assert_snapshot!(text);
}
