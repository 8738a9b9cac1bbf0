//! Rotation: what custom metadata says is listed when its day comes, told by `vault status`, and
//! never ignored.

use tests::{Host, World, bins};

/// Writes a secret with custom metadata.
fn put(host: &Host, path: &str, custom: &[&str]) {
    let _ = host.vault(&["kv", "put", path, "k=v"]).ok();
    let custom: Vec<String> =
        custom.iter().map(|pair| format!("-custom-metadata={pair}")).collect();
    let mut args = vec!["kv", "metadata", "put"];
    args.extend(custom.iter().map(String::as_str));
    args.push(path);
    let _ = host.vault(&args).ok();
}

#[test]
fn what_is_due_is_listed_and_told_by_status() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let ran = host.vault(&["rotate-due"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("no secret says when it is to be changed"), "{}", ran.err);

    put(&host, "secret/app/new", &["rotate_after=90d", "issuer=openai.com"]);
    put(&host, "secret/app/soon", &["rotate_after=10d", "issuer=stripe.com", "owner=jonas"]);
    let ran = host.vault(&["rotate-due"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = ran.out.lines().map(words).collect();
    assert_eq!(lines[0], ["SECRET", "DUE", "AGE", "ISSUER", "OWNER"]);
    assert_eq!(lines.len(), 2, "{}", ran.out);
    assert_eq!(lines[1][0], "secret/app/soon");
    assert_eq!(&lines[1][lines[1].len() - 2..], ["stripe.com", "jonas"]);
    assert_eq!(host.vault(&["rotate-due", "--within=1d"]).out, "");
    assert_eq!(host.vault(&["rotate-due", "--within=91d"]).out.lines().count(), 3);

    put(&host, "secret/tls", &["rotate_after=2020-01-31"]);
    put(&host, "secret/bad", &["rotate_after=3 months"]);
    let ran = host.vault(&["rotate-due", "-format=json"]);
    assert_eq!(ran.code, 2);
    let rows: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let states: Vec<(&str, &str)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["secret"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    let expected =
        [("secret/bad", "malformed"), ("secret/tls", "overdue"), ("secret/app/soon", "due")];
    assert_eq!(states, expected);
    assert_eq!(rows[1]["due"], "2020-01-31T00:00:00Z");
    assert!(ran.err.contains("neither a duration such as 90d nor a date"), "{}", ran.err);
    assert!(ran.err.contains("hint: `vault kv metadata patch"), "{}", ran.err);
    assert_eq!(host.vault(&["rotate-due", "secret/app"]).code, 0);
    assert_eq!(host.vault(&["rotate-due", "secret/tls"]).code, 2);
    assert_eq!(host.vault(&["rotate-due", "--within=soon"]).code, 1);

    // Status tells, and stays what it is: about the fleet.
    let ran = host.vault(&["status"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for text in [
        "`secret/bad`: rotate_after \"3 months\" is neither",
        "rotation overdue: `secret/tls` 2020-01-31 (",
        "rotation due: `secret/app/soon` 2",
        ", issuer stripe.com, owner jonas",
    ] {
        assert!(ran.err.contains(text), "{text}: {}", ran.err);
    }
    assert!(!ran.err.contains("secret/app/new"), "{}", ran.err);
    let json: serde_json::Value =
        serde_json::from_str(&host.vault(&["status", "-format=json"]).out).unwrap();
    assert_eq!(json["rotations"].as_array().unwrap().len(), 3);
}

#[test]
fn a_new_version_begins_the_time_anew_and_a_deleted_one_ends_it() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    put(&host, "secret/app/new", &["rotate_after=90d"]);
    put(&host, "secret/app/soon", &["rotate_after=10d"]);
    put(&host, "secret/bad", &["rotate_after=3 months"]);
    put(&host, "secret/tls", &["rotate_after=1ms"]);
    assert_eq!(host.vault(&["rotate-due", "secret/tls"]).code, 2);
    let _ = host
        .vault(&["kv", "metadata", "patch", "-custom-metadata=rotate_after=90d", "secret/tls"])
        .ok();
    assert_eq!(host.vault(&["rotate-due", "secret/tls"]).code, 0);
    let _ = host.vault(&["kv", "delete", "secret/app/soon"]).ok();
    assert_eq!(host.vault(&["rotate-due", "secret/app"]).out, "");
    // Another way to ask, which any Vault knows, tells the same.
    let token = host.vault(&["token", "create", "--path", "secret/", "-field=token"]).ok();
    let mut command = host.command(host.bins.vault);
    command.args(["rotate-due", "--within=91d", "-format=json"]).env("VAULT_TOKEN", token.trim());
    let ran = tests::run(&mut command, "");
    let rows: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let names: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["secret"].as_str().unwrap()).collect();
    assert_eq!(names, ["secret/bad", "secret/app/new", "secret/tls"], "{}", ran.err);
}
