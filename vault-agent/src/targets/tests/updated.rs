//! `target add --update`: what the same line says another time is taken, and nothing else changes.

use super::*;

const HOOK: &str = "[[target]]\npath = \"ROOT/a\"\nsecrets = [\"secret/a\"]\nmode = \"0640\"\n\
                    on_change = { command = [\"old\"], timeout = \"5m\" } # mine\n";

fn update(world: &World, more: &[&str]) -> String {
    world.run(&[&["add", "ROOT/a", "secret/a", "--update"], more].concat())
}

#[test]
fn the_hook_is_taken_and_the_rest_stays() {
    let world = World::new("");
    let text = HOOK.replace("ROOT", world.root.to_str().unwrap());
    files::write_private(&world.config, text.as_bytes()).unwrap();
    for same in [&[][..], &["--on-change", "old"]] {
        assert_eq!(update(&world, same), "");
        assert_eq!(world.text(), HOOK);
    }
    assert_eq!(update(&world, &["--on-change", "new  one"]), "");
    assert!(world.text().contains("on_change = [\"new\", \"one\"]\n"), "{}", world.text());
    assert!(world.text().contains("mode = \"0640\""), "{}", world.text());
    update(&world, &["--on-change", "a && b"]);
    assert!(world.text().contains("on_change = \"a && b\"\n"), "{}", world.text());
    let refused = world.run(&["add", "ROOT/a", "secret/b", "--update"]);
    assert!(refused.contains("is a target with other secrets already"), "{refused}");
    // A file that is no target yet is added.
    world.run(&["add", "ROOT/b", "secret/b", "--update"]);
    assert!(world.text().contains("ROOT/b"), "{}", world.text());
}

#[test]
fn a_file_that_was_held_gets_the_choice_and_one_that_was_written_keeps_its_layout() {
    let world = World::new("");
    let file = world.root.join("a");
    world.run(&["add", "ROOT/a", "secret/a"]);
    files::write_private(&file, b"MINE=1\n").unwrap();
    assert_eq!(update(&world, &["--block"]), "");
    assert!(world.text().contains("layout = \"block\""), "{}", world.text());
    let refused = update(&world, &["--replace"]);
    assert!(refused.contains("has the vault's lines in a block already"), "{refused}");
    let whole = World::new("");
    whole.run(&["add", "ROOT/a", "secret/a"]);
    files::write_private(&whole.root.join("a"), b"A=1\n").unwrap();
    let written = Written::new(&whole.root.join("state"));
    written.note(&whole.root.join("a"), None, b"A=1\n", Access::PRIVATE).unwrap();
    let before = whole.text();
    let refused = update(&whole, &["--block"]);
    assert!(refused.contains("is kept whole already, and stays so"), "{refused}");
    assert_eq!(whole.text(), before);
    assert!(!update(&whole, &["--replace"]).contains("error"));
    assert!(whole.text().contains("existing = \"replace\""), "{}", whole.text());
}
