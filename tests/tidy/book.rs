//! The book is whole: every route and every code stands in the reference, every page in the table
//! of contents, and every link leads to a file and a heading that exist.

use shared::error::Code;
use shared::wire::v1::ROUTES;

use crate::tree::{File, files, root};
use crate::{check, pass};

/// Reads a page by its path from the root.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn missing_routes(routes: &[&str], reference: &str) -> Vec<String> {
    let documented = |route: &str| {
        [' ', '`'].map(|before| format!("{before}{route}")).iter().any(|shown| {
            reference
                .match_indices(shown.as_str())
                .any(|(at, _)| reference[at + shown.len()..].starts_with(['`', '?', ' ', '[', '<']))
        })
    };
    let absent = routes.iter().filter(|route| !documented(route));
    absent.map(|route| format!("`{route}`: not in reference/http-api.md")).collect()
}

/// The list must say what the programs say: code, sentence and hint, in one item, however wrapped.
fn missing_codes(items: &[String], reference: &str) -> Vec<String> {
    let found = listed(reference);
    let absent = items.iter().filter(|item| !found.contains(item));
    absent.map(|item| format!("reference/errors.md lacks the item\n    {item}")).collect()
}

/// Returns the items of the lists of a page, each on one line.
pub fn listed(page: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in page.lines() {
        match (line.strip_prefix("  "), items.last_mut()) {
            (Some(more), Some(item)) => *item += &format!(" {more}"),
            _ => items.push(line.to_owned()),
        }
    }
    items
}

/// Returns the codes that a source file spells out beside the shared ones: the agent's own alarms.
fn own_codes(file: &File) -> Vec<String> {
    let (code, _tests) = file.text.split_once("#[cfg(test)]").unwrap_or((&file.text, ""));
    let spelled = code.split('"').filter(|text| {
        let name = text.strip_prefix("E_").unwrap_or_default();
        name.ends_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(is_part_of_code)
    });
    spelled.map(str::to_owned).collect()
}

fn is_part_of_code(c: char) -> bool {
    c.is_ascii_uppercase() || c == '_'
}

/// Returns the codes that a page names and no program knows.
fn dead_codes(page: &File, known: &[&str]) -> Vec<String> {
    let named = page.text.match_indices("`E_").map(|(at, _)| {
        let rest = &page.text[at + 1..];
        &rest[..rest.find(|c| !is_part_of_code(c)).unwrap_or(rest.len())]
    });
    let dead = named.filter(|code| !known.contains(code) && *code != "E_" && *code != "E_BLOB_");
    dead.map(|code| format!("{}: there is no code `{code}`", page.path)).collect()
}

fn unlisted(pages: &[&str], contents: &str) -> Vec<String> {
    let absent = pages.iter().filter(|page| !contents.contains(&format!("({page})")));
    absent.map(|page| format!("{page}: not in SUMMARY.md")).collect()
}

/// Returns the targets of the links in a text: `](target)`, outside of code blocks.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        let mut rest = line;
        while let (false, Some(at)) = (code, rest.find("](")) {
            rest = &rest[at + 2..];
            found.push(rest.split(')').next().unwrap_or_default());
        }
    }
    found
}

/// Returns the anchors that mdBook gives a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug = heading.trim().to_lowercase();
        let kept = slug.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// Joins a link to the folder of the page that it stands on.
fn resolve(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn broken_links(page: &File, load: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for link in links(&page.text).into_iter().filter(|link| !link.contains("://")) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
        match load(&path) {
            None => faults.push(format!("{}: `{link}` leads nowhere", page.path)),
            Some(text) if !anchor.is_empty() && !anchors(&text).iter().any(|a| a == anchor) => {
                faults.push(format!("{}: `{link}`: no such heading", page.path));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Returns the files and folders that a page names and nobody has: `a/b.rs`, `a/`.
fn dead_names(page: &File, paths: &[&str]) -> Vec<String> {
    let spoken = page.text.split('`').skip(1).step_by(2);
    let names = spoken.filter(|name| name.ends_with(".rs") || name.ends_with('/'));
    let is_there = |name: &str| {
        let inside = format!("/{name}");
        paths
            .iter()
            .any(|path| path.starts_with(name) || path.ends_with(&inside) || path.contains(&inside))
    };
    let dead = names.filter(|name| !is_there(name));
    dead.map(|name| format!("{}: there is no `{name}`", page.path)).collect()
}

/// Returns the programs' sources, without the files that hold tests only.
fn sources() -> Vec<File> {
    let tests = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let own = |path: &str| path.starts_with("vault-") || path.starts_with("shared/host/");
    let programs = files(".rs").into_iter().filter(|file| own(&file.path));
    programs.filter(|file| !tests(&file.path)).collect()
}

#[test]
fn every_route_is_in_the_reference() {
    pass(&missing_routes(ROUTES, &read("docs/src/reference/http-api.md")));

    let reference = "### `GET /v1/log?after=N`\n`/v1/blob/<hash>`, `POST /v1/reports`\n";
    check(
        &missing_routes(&["/v1/log", "/v1/blob/", "/v1/report"], reference),
        &["`/v1/report`: not in reference/http-api.md"],
    );
}

#[test]
fn every_code_is_in_the_reference() {
    let item = |code: &Code| {
        let (sentence, hint) = (code.sentence(), code.hint());
        format!("* `{code}`: {sentence}. *What to do:* {hint}.")
    };
    let items: Vec<String> = Code::ALL.iter().map(item).collect();
    let reference = read("docs/src/reference/errors.md");
    pass(&missing_codes(&items, &reference));
    let own = sources().into_iter().flat_map(|file| own_codes(&file));
    let absent = own.filter(|code| !reference.contains(&format!("* `{code}`: ")));
    pass(&absent.map(|code| format!("`{code}`: not in reference/errors.md")).collect::<Vec<_>>());

    let sample = File::sample("a.rs", r#"f("E_WATCH", "E_BLOB_", "E_x") #[cfg(test)] g("E_A")"#);
    check(&own_codes(&sample), &["E_WATCH"]);

    let item = "* `E_SEQ`: a. *What to do:* b.".to_owned();
    check(
        &missing_codes(std::slice::from_ref(&item), "* `E_SEQ`: a. *What to do:* c.\n"),
        &["reference/errors.md lacks the item\n    * `E_SEQ`: a. *What to do:* b."],
    );
    let wrapped = "* `E_SEQ`: a. *What\n  to do:* b.\n";
    check(&missing_codes(std::slice::from_ref(&item), wrapped), &[]);
}

#[test]
fn every_code_in_the_book_exists() {
    let own: Vec<String> = sources().iter().flat_map(own_codes).collect();
    let mut known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    known.extend(own.iter().map(String::as_str));
    pass(&files(".md").iter().flat_map(|page| dead_codes(page, &known)).collect::<Vec<_>>());

    let page = File::sample("a.md", "`E_SEQ: x`, `E_SEX`, `E_BLOB_…`, every `E_…` code");
    check(&dead_codes(&page, &["E_SEQ"]), &["a.md: there is no code `E_SEX`"]);
}

#[test]
fn every_page_is_in_the_contents() {
    let pages = files(".md");
    let pages: Vec<&str> = pages
        .iter()
        .filter_map(|page| page.path.strip_prefix("docs/src/"))
        .filter(|page| *page != "SUMMARY.md")
        .collect();
    pass(&unlisted(&pages, &read("docs/src/SUMMARY.md")));

    check(&unlisted(&["a.md", "b.md"], "[A](a.md)"), &["b.md: not in SUMMARY.md"]);
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = files(".md");
    for path in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        pages.push(File { path: path.to_owned(), text: read(path) });
    }
    let load = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    pass(&pages.iter().flat_map(|page| broken_links(page, load)).collect::<Vec<_>>());

    let page = File::sample(
        "docs/src/a/b.md",
        "# B: one `x`\n[1](../c.md) [2](#b-one-x) [3](#two) [4](https://x/y)\n```\n[5](z)\n```\n",
    );
    let known = |path: &str| (path == page.path).then(|| page.text.clone());
    check(
        &broken_links(&page, known),
        &["docs/src/a/b.md: `../c.md` leads nowhere", "docs/src/a/b.md: `#two`: no such heading"],
    );
}

#[test]
fn the_architecture_names_files_that_are_there() {
    let path = "docs/src/dev/architecture.md";
    let page = File { path: path.to_owned(), text: read(path) };
    assert!(page.text.matches(".rs`").count() > 30, "files are named");
    let all = files(".rs");
    let paths: Vec<&str> = all.iter().map(|file| file.path.as_str()).collect();
    pass(&dead_names(&page, &paths));

    let page = File::sample("a.md", "`b/c.rs` `c.rs` `a/b/` `b.rs` `d/` c.rs `x.toml`");
    check(
        &dead_names(&page, &["a/b/c.rs"]),
        &["a.md: there is no `b.rs`", "a.md: there is no `d/`"],
    );
}
