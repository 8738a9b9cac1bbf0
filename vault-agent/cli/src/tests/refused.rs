//! What is refused before anything is asked of anybody, with the way out.

use crate::testing::World;

/// Runs `line` in `world`, whose agent must hear nothing of it; returns what it says.
fn refused(world: &World, line: &str) -> String {
    let ran = world.run(line);
    assert_eq!(ran.exit, 1, "{line}: {}", ran.shown());
    assert_eq!(ran.out, "", "{line}");
    assert_eq!(world.seen(), [""; 0], "{line}");
    ran.err
}

#[test]
fn this_machines_agent_wraps_nothing() {
    let world = World::agent(&[]);
    let said = refused(&world, "kv get -wrap-ttl=60s secret/app");
    assert!(said.contains("-wrap-ttl: answers are not wrapped in tokens here"), "{said}");
    let world = World::agent(&[]).env("VAULT_WRAP_TTL", "5m");
    assert!(refused(&world, "kv get secret/app").contains("VAULT_WRAP_TTL: "));
    for world in [World::agent(&[]).env("VAULT_WRAP_TTL", "0"), world.foreign()] {
        assert_eq!(world.run("kv get secret/app").exit, 2, "asked all the same");
        assert!(!world.seen().is_empty());
    }
}

#[test]
fn a_description_of_a_mount_is_not_lost() {
    let world = World::agent(&[]);
    for line in
        ["secrets enable -description=ours -path=team kv", "secrets tune -description=ours team/"]
    {
        assert!(refused(&world, line).contains("a mount has no description here"), "{line}");
    }
    let other = World::agent(&[("POST /v1/sys/mounts/team", 204, "")]).foreign();
    assert_eq!(other.run("secrets enable -description=ours -path=team kv").exit, 0);
    assert!(other.seen()[0].contains(r#""description":"ours""#), "another Vault keeps it");
    let said = refused(&world, "secrets enable -options=a=b -path=team kv");
    assert!(said.contains("no option `a` here"), "{said}");
}

#[test]
fn an_address_ends_before_the_apis_path() {
    let world = World::agent(&[]).env("VAULT_ADDR", "http://127.0.0.1:8200/v1");
    let said = refused(&world, "kv get secret/app");
    assert!(said.contains("hint: leave it out: `http://127.0.0.1:8200`"), "{said}");
}

#[test]
fn a_socket_has_a_short_path() {
    let long = format!("unix:///{}", "s".repeat(120));
    let world = World::agent(&[]).env("VAULT_ADDR", &long);
    let said = refused(&world, "kv get secret/app");
    assert!(said.contains("has 121 bytes, 107 at most"), "{said}");
}

#[test]
fn a_pipe_that_brings_nothing_writes_nothing() {
    for line in ["kv put secret/app A=-", "kv patch secret/app A=-", "write secret/data/app a=-"] {
        let said = refused(&World::agent(&[]), line);
        assert!(said.contains("\"A=-\": ") || said.contains("\"a=-\": "), "{said}");
        assert!(said.contains("standard input is empty\nhint: "), "{said}");
    }
    let world = World::agent(&[
        ("POST /v1/secret/data/app", 200, "{}"),
        ("PUT /v1/secret/data/app", 200, "{}"),
    ]);
    assert_eq!(world.run("kv put -allow-empty secret/app A=-").exit, 0);
    assert!(world.seen().iter().any(|seen| seen.contains(r#"{"A":""}"#)));
}

#[test]
fn backslashes_are_asked_about() {
    let world = World::agent(&[]);
    let file = world.file("windows.env", "P=\"C:\\temp\"\n");
    let said = refused(&world, &format!("import secret/app {file}"));
    assert!(
        said.contains("line 1: ") && said.contains("Node") && said.contains("Compose"),
        "{said}"
    );
    assert!(said.contains("`vault import --backslashes undo`, or `keep`"), "{said}");
    for (how, value) in [("undo", r"C:\temp"), ("keep", r"C:\\temp")] {
        let line = format!("import --backslashes {how} secret/app {file}");
        let exit = world.run(&line).exit;
        let seen = world.seen().join("\n");
        assert!(seen.contains(&format!(r#""P":"{value}""#)), "{how}: {exit} {seen}");
    }
    let broken = world.file("broken.env", "P=\"C:\\temp\"\nQ='x\n");
    assert!(!refused(&world, &format!("import secret/app {broken}")).contains("--backslashes"));
}

#[test]
fn a_value_that_no_program_can_be_given_is_named() {
    let value = "x".repeat(128 << 10);
    let answer = format!(
        r#"{{"data":{{"data":{{"SMALL":"1","BIG":"{value}"}},"metadata":{{"version":1}}}}}}"#
    );
    let world = World::agent(&[("GET /v1/secret/data/app", 200, &answer)]);
    let ran = world.run("run secret/app -- true");
    assert_eq!(ran.exit, 1, "{}", ran.err);
    assert!(ran.err.starts_with("`BIG` takes 128 KiB with its value"), "{}", ran.err);
    assert!(!ran.err.contains("xxx"));
    assert_eq!(world.run("run --key SMALL secret/app -- true").exit, 0);
}
