//! Completion against a local API with set answers, and without one.

use crate::testing::World;
use crate::tests::envelope;

fn world() -> World {
    World::agent(&[
        ("GET /v1/secret/metadata?list=true", 200, &envelope(r#"{"keys":["app/","top"]}"#)),
        ("GET /v1/secret/metadata/app?list=true", 200, &envelope(r#"{"keys":["db","x/"]}"#)),
        (
            "GET /v1/secret/subkeys/app/db?depth=1",
            200,
            &envelope(r#"{"subkeys":{"user":null,"password":null}}"#),
        ),
        (
            "GET /v1/secret/metadata/app/db",
            200,
            &envelope(r#"{"versions":{"9":{},"10":{},"2":{}}}"#),
        ),
        (
            "GET /v1/sys/internal/ui/mounts",
            200,
            &envelope(
                r#"{"auth":{},"secret":{"secret/":{"type":"kv"},"team/":{"type":"kv"},"sys/":{"type":"system"}}}"#,
            ),
        ),
        (
            "GET /v1/agent/machines",
            200,
            r#"{"machines":[{"name":"vps","active":true},{"name":"gone","active":false}],"server":[]}"#,
        ),
    ])
}

/// Completes the last of the words; `|` stands between candidates.
fn check(words: &[&str], expected: &str) {
    let args: Vec<&str> = ["__complete", "zsh"].iter().chain(words).copied().collect();
    let run = world().run_args(&args);
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    assert_eq!(run.out.lines().collect::<Vec<_>>().join("|"), expected, "{words:?}");
}

#[test]
fn commands_and_flags_are_completed() {
    check(&["k"], "kv");
    check(&["kv", "un"], "undelete");
    check(&["kv", "metadata", "p"], "put|patch");
    check(&["-address=x", "kv", "ge"], "get");
    check(&["kv", "get", "-fi"], "-field=");
    check(&["kv", "get", "--off"], "--offline");
    check(&["kv", "get", "-format=j"], "-format=json");
    check(&["kv", "get", "-format", "y"], "yaml");
    check(&["completions", "f"], "fish");
    check(&["scan", "--in"], "--install-hook");
    check(&["nonsense", ""], "");
}

#[test]
fn secrets_keys_and_machines_are_completed() {
    check(&["kv", "get", ""], "secret/|team/");
    check(&["kv", "get", "sec"], "secret/");
    check(&["kv", "get", "secret/"], "secret/app/|secret/top");
    check(&["kv", "get", "secret/app/d"], "secret/app/db");
    check(&["kv", "get", "-mount=secret", "app/"], "app/db|app/x/");
    check(&["kv", "get", "-mount", "secret", ""], "app/|top");
    check(&["kv", "get", "-mount", "t"], "team");
    check(&["kv", "list", "secret/a"], "secret/app/");
    check(&["rotate-due", "secret/a"], "secret/app/");
    check(&["scan", "secret/a"], "");
    check(&["kv", "get", "secret/app/db", "-field=p"], "-field=password");
    check(&["kv", "get", "secret/app/db", "-field", ""], "password|user");
    check(&["kv", "patch", "secret/app/db", "u"], "user=");
    check(&["kv", "patch", "secret/app/db", "user=x", "-remove-data=u"], "-remove-data=user");
    check(
        &["kv", "delete", "secret/app/db", "-versions=10,9,"],
        "-versions=10,9,10|-versions=10,9,9|-versions=10,9,2",
    );
    check(&["blast", "secret/app/d"], "secret/app/db");
    check(&["blast", "secret/app/db@1"], "secret/app/db@10");
    check(&["blast", "secret/app/db@9", "--key", "p"], "password");
    check(&["kv", "mv", "secret/top", "secret/a"], "secret/app/");
    check(&["run", "secret/app/"], "secret/app/db|secret/app/x/");
    check(&["run", "secret/app/db", "--", ""], "");
    check(&["access", "show", ""], "vps");
    check(&["audit", "log", "--machine", "v"], "vps");
}

#[test]
fn bash_sends_the_line_and_gets_what_follows_a_break() {
    let world = world();
    let complete = |line: &str| world.run_args(&["__complete", "bash", line]).out;
    assert_eq!(complete("vault kv get secret/app/db -field=pass"), "password\n");
    assert_eq!(complete("vault kv get 'secret/app/d"), "secret/app/db\n");
    assert_eq!(complete("vault  kv un"), "undelete\n");
    assert_eq!(complete("vault kv get secret/\\to"), "secret/top\n");
    assert!(complete("vault ").contains("kv\n"));
}

#[test]
fn without_an_agent_there_are_commands_only() {
    let world = World::new("");
    assert_eq!(world.run_args(&["__complete", "zsh", "kv", "get", "secret/"]).out, "");
    assert_eq!(
        world.run_args(&["__complete", "fish", "kv", "hist"]).out,
        "history\tPrint the versions of a secret: who wrote them, what changed, who has and who read them\n"
    );
    let run = world.env("VAULT_ADDR", "ftp://x").run_args(&["__complete", "zsh", "kv", "get", ""]);
    assert_eq!((run.exit, run.out.as_str(), run.err.as_str()), (0, "", ""));
}
