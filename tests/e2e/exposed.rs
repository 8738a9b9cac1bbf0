//! A host is stolen: it is removed, and every key that it could read has a line until the key has
//! another value.

use serde_json::Value;
use tests::{Host, Ran, World, bins, watch};

const APP: &str = "secret/jjeco/app";

/// Returns the line of a key.
fn line(ran: &Ran, secret: &str, key: &str) -> String {
    let is_it = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&secret) && words.get(1) == Some(&key)
    };
    let found = ran.out.lines().find(is_it);
    found.unwrap_or_else(|| panic!("no {key} of {secret} in:\n{}{}", ran.out, ran.err)).to_owned()
}

fn exposed(host: &Host, machine: &str) -> Ran {
    host.vault(&["machine", "exposed", machine])
}

fn reads(host: &Host, secret: &str) {
    watch::poll("it reads", || (host.vault(&["kv", "get", secret]).code == 0).then_some(()));
}

#[test]
fn each_key_of_a_stolen_host_is_listed_until_it_has_another_value() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["kv", "put", APP, "A=1", "B=2", "C=3"]).ok();
    let _ = rtx.vault(&["kv", "put", "secret/jjeco/unread", "D=4"]).ok();
    let _ = rtx.vault(&["kv", "put", "secret/home/other", "E=5"]).ok();
    let issuer = "-custom-metadata=issuer=openai";
    let _ = rtx.vault(&["kv", "metadata", "put", issuer, APP]).ok();
    reads(&vps, APP);
    let _ = rtx.vault(&["kv", "patch", APP, "C=changed-before"]).ok();

    // Of an active machine, too: all of it is in use.
    let before = exposed(&rtx, "vps");
    assert_eq!(before.code, 2, "{}", before.err);
    assert!(before.err.contains("`vps` (number 2) is a machine of this vault"), "{}", before.err);
    assert!(!before.out.contains("secret/home/other"), "{}", before.out);

    let removed = rtx.vault(&["machine", "remove", "vps", "--reason", "stolen", "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(removed.err.contains("`vault machine exposed vps`"), "{}", removed.err);
    let all = exposed(&rtx, "vps");
    assert_eq!(all.code, 2, "{}", all.err);
    let standing = "`vps` (number 2) was removed by admin:jonas in entry ";
    assert!(all.err.contains(standing) && all.err.contains(": stolen\n"), "{}", all.err);
    for key in ["A", "B", "C"] {
        let line = line(&all, APP, key);
        assert!(line.contains("still in use") && line.contains("v1-v2"), "{line}");
        assert!(line.contains("openai"), "{line}");
    }
    assert!(line(&all, APP, "A").contains(" v1 20") || line(&all, APP, "A").contains(" v2 20"));
    assert!(all.err.contains("4 of 4 keys are still in use"), "{}", all.err);

    // One of the keys has a new value: the others of its secret are in use.
    let _ = rtx.vault(&["kv", "patch", APP, "A=new"]).ok();
    let one = exposed(&rtx, "vps");
    assert!(line(&one, APP, "A").contains("changed in v3"), "{}", one.out);
    assert!(line(&one, APP, "B").contains("still in use"), "{}", one.out);
    assert!(one.err.contains("3 of 4 keys are still in use"), "{}", one.err);

    // A value of before that comes back is in use again, also the one that C had at first.
    let _ = rtx.vault(&["kv", "patch", APP, "A=1", "B=new", "C=3"]).ok();
    let back = exposed(&rtx, "vps");
    assert!(line(&back, APP, "A").contains("still in use"), "{}", back.out);
    assert!(line(&back, APP, "B").contains("changed in v4"), "{}", back.out);
    assert!(line(&back, APP, "C").contains("still in use"), "{}", back.out);

    let _ = rtx.vault(&["kv", "put", APP, "A=other", "B=new"]).ok();
    let _ = rtx.vault(&["kv", "delete", "secret/jjeco/unread"]).ok();
    let none = exposed(&rtx, "vps");
    assert_eq!(none.code, 0, "{}{}", none.out, none.err);
    assert!(line(&none, APP, "C").contains("gone since v5"), "{}", none.out);
    assert!(none.err.contains("none of its keys is in use any more"), "{}", none.err);
    let json = rtx.vault(&["machine", "exposed", "vps", "-format=json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["left"], 0);
    assert_eq!(json["removed"]["reason"], "stolen");
    let states: Vec<_> = json["keys"].as_array().unwrap().iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["changed", "changed", "gone", "deleted"]);
}

#[test]
fn a_host_that_comes_back_under_its_name_is_another_machine_and_a_renamed_one_is_the_same() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", APP, "A=1"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    reads(&vps, APP);
    let _ = rtx.vault(&["machine", "remove", "vps", "--reason", "stolen", "--yes"]).ok();
    let mut again = world.host("again");
    again.name = "vps".to_owned();
    world.enrol(&rtx, &again, &["secret/other/"]);
    again.start();

    let new = exposed(&rtx, "vps");
    assert_eq!((new.code, new.out.as_str()), (0, ""), "{}", new.err);
    assert!(new.err.contains("nothing was ever encrypted to it"), "{}", new.err);
    assert!(new.err.contains("`vault machine exposed 2`"), "{}", new.err);
    let old = exposed(&rtx, "2");
    assert!(line(&old, APP, "A").contains("still in use"), "{}", old.out);
    let nobody = exposed(&rtx, "nas");
    assert_eq!(nobody.code, 2);
    assert!(nobody.err.contains("E_MISSING: machine `nas`"), "{}", nobody.err);

    // Another name, and all that was is still its own.
    let _ = rtx.vault(&["access", "set", "vps", "--read", "secret/jjeco/", "--yes"]).ok();
    reads(&again, APP);
    let renamed = rtx.vault(&["machine", "rename", "vps", "web", "--yes"]);
    assert_eq!(renamed.code, 0, "{}", renamed.err);
    let twice = rtx.vault(&["machine", "rename", "vps", "web", "--yes"]);
    assert_eq!(twice.code, 0, "{}", twice.err);
    let taken = rtx.vault(&["machine", "rename", "web", "rtx1080", "--yes"]);
    assert!(taken.code == 2 && taken.err.contains("E_EXISTS"), "{}", taken.err);
    let web = exposed(&rtx, "web");
    assert!(web.err.contains("it was called `vps` before"), "{}", web.err);
    let read = line(&web, APP, "A");
    assert!(read.contains("still in use") && read.contains(" v1 20"), "{read}");
    reads(&again, APP);
    let listed = rtx.vault(&["machine", "list", "--all"]).ok();
    assert!(listed.contains("web ") && listed.contains("vps "), "{listed}");
    let told = rtx.vault(&["log"]).ok();
    assert!(told.contains("renamed vps to web"), "{told}");
    watch::until(&again.state().join("pins.json"), |text| text.contains("\"web\""));
    watch::poll("the fleet knows it by its new name", || {
        let status = rtx.vault(&["status", "-format=json"]).out;
        status.contains("\"web\"").then_some(())
    });
}

#[test]
fn a_value_that_was_copied_under_another_key_is_in_use_there() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["kv", "put", APP, "TOKEN=sk-0123456789", "DEBUG=true"]).ok();
    let _ = rtx.vault(&["kv", "put", "secret/home/bot", "BOT=sk-0123456789", "ON=true"]).ok();
    reads(&vps, APP);
    let _ = rtx.vault(&["machine", "remove", "vps", "--yes"]).ok();
    let both = exposed(&rtx, "vps");
    let place = "still in use, and in secret/home/bot BOT";
    assert!(line(&both, APP, "TOKEN").contains(place), "{}", both.out);

    let _ = rtx.vault(&["kv", "put", APP, "TOKEN=sk-9876543210", "DEBUG=false"]).ok();
    let copied = exposed(&rtx, "vps");
    assert_eq!(copied.code, 2, "{}", copied.err);
    let place = "still in use in secret/home/bot BOT";
    assert!(line(&copied, APP, "TOKEN").contains(place), "{}", copied.out);
    assert!(line(&copied, APP, "DEBUG").contains("changed in v2"), "{}", copied.out);
    let json = rtx.vault(&["machine", "exposed", "vps", "-format=json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let token = json["keys"].as_array().unwrap().iter().find(|it| it["key"] == "TOKEN").unwrap();
    assert_eq!((&token["state"], &json["unsearched"]), (&"copied".into(), &0.into()));
    assert_eq!(token["copies"][0]["path"], "secret/home/bot");

    let _ = rtx.vault(&["kv", "patch", "secret/home/bot", "BOT=sk-9876543210"]).ok();
    let none = exposed(&rtx, "vps");
    assert_eq!(none.code, 0, "{}{}", none.out, none.err);
}
