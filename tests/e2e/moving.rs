//! Secrets that move: taken over from an API with all their versions, copied, and moved.

use tests::{Host, Port, World, bins};

/// A machine whose agent listens on a loopback port as well.
pub(crate) fn with_port(world: &World) -> (Host, Port) {
    let mut host = world.owner("rtx1080");
    host.stop();
    let port = Port::reserve();
    let config = format!("[api]\nlisten = \"{}\"\nauth = \"loopback\"\n", port.address());
    let file = host.state().join("agent.toml");
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    std::io::Write::write_all(
        &mut std::fs::File::create(file).unwrap(),
        format!("{old}{config}").as_bytes(),
    )
    .unwrap();
    host.start();
    (host, port)
}

fn ok(host: &Host, line: &str) -> String {
    host.vault(&line.split(' ').collect::<Vec<_>>()).ok()
}

/// The versions of a secret and what became of each.
fn history(host: &Host, path: &str) -> Vec<(u64, String)> {
    let text = ok(host, &format!("kv history -format=json {path}"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let state = |row: &serde_json::Value| row["state"].as_str().unwrap().to_owned();
    rows.iter().map(|row| (row["version"].as_u64().unwrap(), state(row))).collect()
}

fn expected(states: &[(u64, &str)]) -> Vec<(u64, String)> {
    states.iter().map(|(n, state)| (*n, (*state).to_owned())).collect()
}

#[test]
fn an_import_takes_all_versions_and_done_again_changes_nothing() {
    let world = World::new(bins!());
    let (host, port) = with_port(&world);
    let address = port.address();
    for line in [
        "kv put secret/src/a v=1",
        "kv put secret/src/a v=2",
        "kv put secret/src/a v=3 n=12",
        "kv destroy -versions=1 secret/src/a",
        "kv delete -versions=2 secret/src/a",
        "kv metadata patch -custom-metadata=team=core secret/src/a",
        "kv put secret/src/deep/b x=y",
    ] {
        ok(&host, line);
    }
    let import = format!("import vault://{address}/secret/src secret/dst");
    let out = ok(&host, &import);
    assert_eq!(
        out.trim(),
        "2 secrets: 4 versions written, 0 there already; 2 of them deleted or destroyed, without content"
    );
    let states = [(3, "current"), (2, "deleted"), (1, "destroyed")];
    assert_eq!(history(&host, "secret/dst/a"), expected(&states));
    assert_eq!(ok(&host, "kv get -field=v secret/dst/a"), "3");
    assert_eq!(ok(&host, "kv get -field=x secret/dst/deep/b"), "y");
    let metadata = ok(&host, "kv metadata get -field=custom_metadata secret/dst/a");
    assert_eq!(metadata, "map[team:core]");

    let before = ok(&host, "kv metadata get -format=json secret/dst/a");
    let again = ok(&host, &import);
    assert!(again.starts_with("2 secrets: 0 versions written, 4 there already"), "{again}");
    let data =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["data"].clone();
    assert_eq!(data(&ok(&host, "kv metadata get -format=json secret/dst/a")), data(&before));

    ok(&host, "kv put secret/src/deep/b x=new");
    ok(&host, "kv put secret/dst/deep/b x=other");
    let clash = host.vault(&import.split(' ').collect::<Vec<_>>());
    assert_eq!(clash.code, 2);
    assert!(clash.err.contains("`secret/dst/deep/b` already holds something else as version 2"));
    assert_eq!(ok(&host, "kv get -field=x secret/dst/deep/b"), "other");
}

#[test]
fn a_move_takes_the_history_along() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    for line in ["kv put secret/a v=1", "kv put secret/a v=2", "kv put secret/d/x k=v"] {
        ok(&host, line);
    }
    ok(&host, "kv mv secret/a secret/d/a");
    assert_eq!(history(&host, "secret/d/a"), expected(&[(2, "current"), (1, "")]));
    assert_eq!(host.vault(&["kv", "metadata", "get", "secret/a"]).code, 2);
    ok(&host, "kv mv secret/d/ secret/e/");
    assert_eq!(ok(&host, "kv list -r secret").lines().skip(2).collect::<Vec<_>>(), ["e/a", "e/x"]);
    ok(&host, "kv cp -all-versions secret/e/a secret/f");
    assert_eq!(ok(&host, "kv get -field=v -version=1 secret/f"), "1");
    // The place was used before: numbers go on, and the content arrives all the same.
    ok(&host, "kv mv secret/f secret/a");
    assert_eq!(ok(&host, "kv get -field=v secret/a"), "2");
    assert_eq!(history(&host, "secret/a").len(), 2);
}

#[test]
fn a_move_onto_deleted_versions_loses_nothing() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    for line in ["kv put secret/a v=keep", "kv put secret/a v=2"] {
        ok(&host, line);
    }
    for mark in ["delete", "destroy"] {
        let to = format!("secret/{mark}");
        for line in [format!("kv put {to} v=x"), format!("kv put {to} v=2")] {
            ok(&host, &line);
        }
        ok(&host, &format!("kv {mark} -versions=1 {to}"));
        let run = host.vault(&["kv", "mv", "secret/a", &to]);
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.contains("version 1 of"), "{}", run.err);
        assert_eq!(ok(&host, "kv get -field=v -version=1 secret/a"), "keep");
    }
    // One that has dropped the version by its own limit.
    ok(&host, "kv metadata put -max-versions 2 secret/pruned");
    for v in ["9", "8", "7", "2"] {
        ok(&host, &format!("kv put secret/pruned v={v}"));
    }
    for verb in [&["mv"][..], &["cp", "-all-versions"]] {
        let run = host.vault(&[&["kv"], verb, &["secret/a", "secret/pruned"]].concat());
        assert_eq!(run.code, 2, "{}", run.err);
    }
    assert_eq!(ok(&host, "kv get -field=v -version=1 secret/a"), "keep");
}
