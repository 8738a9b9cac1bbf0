//! `vault compose`: what Docker Compose runs as a provider, read as Compose reads it: one JSON
//! value after the other until the first `error`.

use serde_json::Value;
use tests::{Host, Ran, World, bins};

/// What Compose makes of a run: the variables that it injects, or why it gives up.
fn injected(ran: &Ran) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for message in serde_json::Deserializer::from_str(&ran.out).into_iter::<Value>() {
        let message = message.unwrap();
        let text = message["message"].as_str().unwrap().to_owned();
        match message["type"].as_str().unwrap() {
            "error" => return Err(text),
            "rawsetenv" => {
                let (name, value) = text.split_once('=').unwrap();
                variables.push((name.to_owned(), value.to_owned()));
            }
            "info" | "debug" => {}
            other => panic!("Compose knows no `{other}`"),
        }
    }
    if ran.code == 0 { Ok(variables) } else { Err(format!("exit status {}", ran.code)) }
}

fn up(host: &Host, options: &[&str]) -> Ran {
    let args = [&["compose", "--project-name=newsletter", "up"], options, &["secrets"]].concat();
    host.vault(&args)
}

fn check(host: &Host, options: &[&str], expected: &[(&str, &str)]) {
    let ran = up(host, options);
    let found = injected(&ran).unwrap();
    let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(found, expected, "{options:?}");
}

fn refused(host: &Host, options: &[&str], code: i32, why: &str) {
    let ran = up(host, options);
    assert!(!ran.out.contains("rawsetenv"), "{options:?}: {}", ran.out);
    assert_eq!(ran.out.lines().count(), 1, "the error is the only line: {}", ran.out);
    let text = injected(&ran).unwrap_err();
    assert!(ran.code == code && text.contains(why), "{options:?}: {} {text}", ran.code);
}

#[test]
fn compose_is_told_every_variable_or_one_error() {
    let mut world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let nasty = "it's \"$x\" ${y} `id` \\n\nsecond\r\n\u{2028}=";
    let app = serde_json::json!({ "PASSWORD": nasty, "USER": "app", "PORT": 5432, "db": { "host": "h" } });
    let _ = host.vault_with(&["kv", "put", "secret/app", "-"], &app.to_string()).ok();
    let _ = host.vault(&["kv", "put", "secret/smtp", "USER=smtp", "PATH=/evil"]).ok();

    let flat: &[(&str, &str)] =
        &[("PASSWORD", nasty), ("PORT", "5432"), ("USER", "app"), ("db__host", "h")];
    check(&host, &["--secret=secret/app", "--nested=flatten"], flat);
    let options = ["--key=USER", "--secret=secret/app", "--secret=secret/smtp", "--prefix=APP_"];
    check(&host, &options, &[("APP_USER", "smtp")]);
    let options =
        ["--upper=true", "--rename=USER=user", "--keys=db", "--keys=USER", "--nested=flatten"];
    let options = [&options[..], &["--secrets=secret/app"]].concat();
    check(&host, &options, &[("user", "app"), ("DB__HOST", "h")]);
    check(
        &host,
        &["--allow_names=PATH", "--secret=secret/smtp"],
        &[("PATH", "/evil"), ("USER", "smtp")],
    );

    refused(&host, &["--secret=secret/app"], 1, "`db` is null, a list or an object");
    refused(&host, &["--secret=secret/smtp"], 1, "`PATH` changes what other programs run");
    refused(&host, &["--secret=secret/app", "--key=USER", "--key=GONE"], 1, "`GONE` is in none");
    refused(&host, &["--secret=secret/none"], 2, "No value found at secret/data/none");
    refused(&host, &["--secret=secret/app", "--sekret=x"], 1, "unexpected argument '--sekret'");
    refused(&host, &[], 1, "the provider names no secret");

    for words in [&["down", "--secret=secret/app", "secrets"][..], &["stop", "secrets"], &["down"]]
    {
        let ran = host.vault(&[&["compose", "--project-name=newsletter"], words].concat());
        assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.err);
    }
    // Neither agent nor server: the cache answers, and every read is on record all the same.
    host.stop();
    drop(world.server.take());
    check(&host, &["--secret=secret/app", "--key=USER"], &[("USER", "app")]);
}

#[test]
fn every_option_is_told_beforehand() {
    let world = World::new(bins!());
    let host = world.host("rtx1080");
    let told: Value = serde_json::from_str(&host.vault(&["compose", "metadata"]).ok()).unwrap();
    assert!(told["description"].is_string());
    for command in ["down", "stop"] {
        assert_eq!(told[command]["parameters"], Value::Array(Vec::new()), "{command}");
    }
    let parameters = told["up"]["parameters"].as_array().unwrap();
    let names: Vec<_> = parameters.iter().map(|known| known["name"].as_str().unwrap()).collect();
    // Compose passes on what is named here, and drops everything else without a word.
    let all = [
        "secret",
        "secrets",
        "path",
        "paths",
        "key",
        "keys",
        "rename",
        "prefix",
        "upper",
        "nested",
        "allow-name",
        "allow-names",
        "allow_name",
        "allow_names",
    ];
    assert_eq!(names, all);
    assert!(parameters.iter().all(|known| known["required"] == false && known["type"].is_string()));
}

#[test]
fn the_agents_old_verb_still_answers_and_names_the_new_one() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let old = host.agent_command(&["compose", "metadata"]);
    assert_eq!((old.code, old.out), (0, host.vault(&["compose", "metadata"]).ok()));
    assert_eq!(old.err, "`vault-agent compose` is deprecated: use `vault compose`\n");
}
