//! The page on the ways back: each story leads to a page of the guide and to tests that exist.

use crate::book::{listed, read};
use crate::tree::{File, files};
use crate::{check, pass};

const PAGE: &str = "docs/src/design/ways-back.md";

/// Returns what the stories of a page lack, and the tests that they name and nobody has.
fn untold(page: &str, tests: &[(String, String)]) -> Vec<String> {
    let items = listed(page);
    let stories = items.iter().filter_map(|item| item.strip_prefix("* "));
    stories.flat_map(|story| faults(story, tests)).collect()
}

fn faults(story: &str, tests: &[(String, String)]) -> Vec<String> {
    let name = story.split("**").nth(1).unwrap_or(story);
    let named: Vec<&str> = story.split('`').filter(|word| word.contains("::")).collect();
    let mut faults = Vec::new();
    if !story.contains("](../guide/") {
        faults.push(format!("{name} leads to no page of the guide"));
    }
    if named.is_empty() {
        faults.push(format!("{name} names no test"));
    }
    let is_there = |word: &str| tests.iter().any(|(home, test)| word == format!("{home}::{test}"));
    let absent = named.into_iter().filter(|word| !is_there(word));
    faults.extend(absent.map(|word| format!("{name} there is no test `{word}`")));
    faults
}

/// Returns the tests of a file, each with the word that stands before it on the page: the file's
/// name, or for a suite in Python that of its folder.
fn tests_of(file: &File) -> Vec<(String, String)> {
    let mut path = file.path.rsplit('/');
    let name = path.next().unwrap_or_default();
    let (home, mark, word) = match name.strip_suffix(".rs") {
        Some(name) => (name, "#[test]", "fn "),
        None => (path.next().unwrap_or_default(), "@check", "def "),
    };
    let lines: Vec<&str> = file.text.lines().collect();
    let marked = lines.windows(2).filter(|pair| pair[0] == mark);
    let names = marked.filter_map(|pair| pair[1].strip_prefix(word)?.split('(').next());
    names.map(|test| (home.to_owned(), test.to_owned())).collect()
}

#[test]
fn every_way_back_is_a_page_and_a_test() {
    let homes = ["tests/e2e/", "tests/interop/", "tests/packages/"];
    let mut all = files(".rs");
    all.extend(files(".py"));
    all.retain(|file| homes.iter().any(|home| file.path.starts_with(home)));
    let tests: Vec<_> = all.iter().flat_map(tests_of).collect();
    let page = read(PAGE);
    assert!(page.matches("\n* **").count() >= 15, "stories are told");
    pass(&untold(&page, &tests));
}

#[test]
fn a_story_without_a_page_or_a_test_is_found() {
    let rust =
        File::sample("tests/e2e/a.rs", "#[test]\nfn b() {\n}\nfn c() {}\n#[test]\nfn d() {}");
    let suite = File::sample("tests/interop/e/f.py", "@check\ndef g():\n    pass\n\ndef h():\n");
    let tests: Vec<_> = [rust, suite].iter().flat_map(tests_of).collect();
    let page = "# T\n* **One.** [Way](../guide/x.md): `a::b`,\n  `a::d`, `e::g`.\n\
                * **Two.** `a::b`\n* **Three.** [Way](../guide/x.md)\n\
                * **Four.** [Way](../guide/x.md): `a::c`, `e::h`, `f::g`.\n\nThe end.\n";
    check(
        &untold(page, &tests),
        &[
            "Two. leads to no page of the guide",
            "Three. names no test",
            "Four. there is no test `a::c`",
            "Four. there is no test `e::h`",
            "Four. there is no test `f::g`",
        ],
    );
}
