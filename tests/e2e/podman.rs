//! `vault podman`: what Podman's secret driver `shell` runs, with the id of a secret in the
//! environment.

use tests::{Host, Ran, World, bins, run};

fn podman(host: &Host, args: &[&str], id: &str, input: &str) -> Ran {
    run(host.command(host.bins.vault).arg("podman").args(args).env("SECRET_ID", id), input)
}

#[test]
fn podman_stores_looks_up_lists_and_deletes() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let list = |host: &Host| host.vault(&["podman", "list"]);
    let ran = list(&host);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.err);

    let value = "it's \"$x\"\nsecond line \u{2028}\n\n";
    let ran = podman(&host, &["store"], "4d5e", value);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (0, "", ""));
    let ran = podman(&host, &["store"], "4d5e", "another");
    assert!(ran.code == 2 && ran.out.is_empty(), "an id is used once: {}", ran.err);
    let _ = podman(&host, &["store"], "0abc", "").ok();
    let ran = podman(&host, &["lookup"], "4d5e", "");
    assert_eq!((ran.code, &*ran.out, &*ran.err), (0, value, ""));
    assert_eq!(podman(&host, &["lookup"], "0abc", "").ok(), "");
    assert_eq!(list(&host).ok(), "0abc\n4d5e\n");
    let _ = host.vault(&["kv", "get", "--field=value", "secret/podman/4d5e"]).ok();

    let _ = podman(&host, &["delete"], "4d5e", "").ok();
    for verb in ["lookup", "delete"] {
        let ran = podman(&host, &[verb], "4d5e", "");
        assert_eq!((ran.code, &*ran.out), (2, ""), "{verb}: {}", ran.err);
        assert!(ran.err.contains("No value found at"), "{}", ran.err);
    }
    assert_eq!(list(&host).ok(), "0abc\n");
    let _ = podman(&host, &["store"], "4d5e", "anew").ok();
    assert_eq!(podman(&host, &["lookup"], "4d5e", "").ok(), "anew");
}

#[test]
fn a_folder_of_its_own_and_ids_that_stay_in_it() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let own = ["--prefix", "secret/hosts/vps/podman/"];
    let with = |verb: &'static str| [&own[..], &[verb]].concat();
    let _ = podman(&host, &with("store"), "77", "x").ok();
    assert_eq!(podman(&host, &with("list"), "", "").ok(), "77\n");
    assert_eq!(host.vault(&["podman", "list"]).ok(), "");
    assert_eq!(host.vault(&["kv", "get", "-field=value", "secret/hosts/vps/podman/77"]).ok(), "x");
    for (id, why) in
        [("", "SECRET_ID is not set"), ("../x", ".."), ("a/b", "is a path"), ("a\u{7}", "")]
    {
        for verb in ["lookup", "store", "delete"] {
            let ran = podman(&host, &with(verb), id, "x");
            assert!(ran.code != 0 && ran.err.contains(why), "{verb} {id:?}: {}", ran.err);
        }
    }
    assert_eq!(podman(&host, &with("list"), "", "").ok(), "77\n");
}
