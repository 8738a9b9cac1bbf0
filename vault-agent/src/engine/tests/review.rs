//! What a review asks: entries in words, and which secrets hold a key.

use shared::grant::Grants;
use shared::keys::VerifyKey;
use shared::log::{Access, Op};

use super::world::{Machine, World, name, path};
use machine::local::{EntriesQuery, Holder};

async fn told(machine: &Machine, query: EntriesQuery) -> Vec<(u64, String, bool)> {
    let told = machine.engine.entries(query).await.unwrap();
    let line = |entry: machine::local::EntryTold| {
        let what: Vec<String> = entry.ops.into_iter().map(|op| op.what).collect();
        (entry.seq, what.join("; "), entry.key.is_some())
    };
    told.entries.into_iter().map(line).collect()
}

#[tokio::test]
async fn entries_are_told_with_the_names_of_their_time() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.machine("vps", &["secret/vps/"], &[]).await;
    home.until_caught_up(&world).await;
    let number = world.number("vps");
    let access = |read: &[&str], write: &[&str]| {
        let was = world.server.data().state.was_access(number);
        let (read, write) = (Grants::parse(read).unwrap(), Grants::parse(write).unwrap());
        Op::AccessSet(Access { number, was, read, write })
    };
    let first = world.server.data().state.seq() + 1;
    world.act(vec![access(&["secret/vps/", "secret/ghost/"], &[])]);
    world.act(vec![access(&["secret/ghost/"], &["secret/ghost/"])]);
    world.put("secret/ghost/a", "{}");
    world.act(vec![Op::MachineRename { number, to: name("edge") }]);
    world.act(vec![Op::MachineRemove { number, reason: "stolen".parse().unwrap() }]);
    home.until_caught_up(&world).await;
    let expected = [
        (first, "gave vps secret/ghost/"),
        (first + 1, "took secret/vps/ from vps; let vps write secret/ghost/"),
        (first + 2, "wrote secret/ghost/a v1"),
        (first + 3, "renamed vps to edge"),
        (first + 4, "removed edge: stolen"),
    ];
    let removed = home.engine.removed();
    let [gone] = &removed[..] else { panic!("{removed:?}") };
    let why = (gone.number, gone.entry, gone.reason.as_str(), gone.goes_on);
    assert_eq!(why, (number, first + 4, "stolen", None));
    let limit = EntriesQuery { limit: Some(5), ..EntriesQuery::default() };
    let found = told(&home, limit).await;
    let lines: Vec<(u64, &str)> = found.iter().map(|(n, what, _)| (*n, what.as_str())).collect();
    assert_eq!(lines, expected);
    assert!(found.iter().all(|(.., verifies)| *verifies), "{found:?}");
    let only = format!("{},{},999,x", first + 3, first + 1);
    let some = EntriesQuery { only: Some(only), ..EntriesQuery::default() };
    let some: Vec<u64> = told(&home, some).await.into_iter().map(|(n, ..)| n).collect();
    assert_eq!(some, [first + 1, first + 3]);
    let genesis = EntriesQuery { only: Some("0".to_owned()), ..EntriesQuery::default() };
    let genesis = home.engine.entries(genesis).await.unwrap();
    assert!(genesis.entries[0].ops[0].what.starts_with("made the vault"), "{genesis:?}");
    let root: Option<&VerifyKey> = genesis.entries[0].key.as_ref();
    assert!(root.is_some() && genesis.last == first + 4);
}

#[tokio::test]
async fn a_key_is_found_in_every_version_that_lies_here() {
    let world = World::new().await;
    let home = world.machine("home", &["secret/"], &["*"]).await;
    world.put("secret/a", r#"{"OPENAI_API_KEY":"1","B":"2"}"#);
    home.until_content("secret/a", r#"{"OPENAI_API_KEY":"1","B":"2"}"#).await;
    world.put("secret/a", r#"{"B":"3"}"#);
    world.put("secret/b", r#"{"OPENAI_API_KEY":"1"}"#);
    home.until_content("secret/a", r#"{"B":"3"}"#).await;
    home.until_content("secret/b", r#"{"OPENAI_API_KEY":"1"}"#).await;
    let before = world.server.data().fetched.len();
    let found = home.engine.holders("OPENAI_API_KEY").await.unwrap();
    let holder = |at: &str, holds: &[u64], lacks: &[u64]| Holder {
        path: path(at),
        holds: holds.to_vec(),
        lacks: lacks.to_vec(),
    };
    // The first version of `a` is still in memory.
    assert_eq!(found.secrets, [holder("secret/a", &[1], &[2]), holder("secret/b", &[1], &[])]);
    assert_eq!((found.searched, found.unread, found.earlier), (2, 0, 0));
    assert_eq!(home.engine.holders("*API*").await.unwrap().secrets, found.secrets);
    let none = home.engine.holders("openai").await.unwrap();
    assert!(none.secrets.is_empty());
    assert_eq!(none.alike, ["OPENAI_API_KEY"]);
    assert_eq!(world.server.data().fetched.len(), before, "the server is not asked");
}
