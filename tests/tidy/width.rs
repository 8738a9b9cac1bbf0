//! How wide text may be: comments in code, prose on pages, and at all.

use crate::book::read;
use crate::tree::{File, files};
use crate::{check, pass};

/// Columns that a line of text may have.
const COLUMNS: usize = 100;
/// Columns that no line may have more of, whatever it is.
const MOST: usize = 140;
/// Pages beside the book.
const PAGES: [&str; 4] = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

/// Returns the lines of a text that are too wide and could be wrapped: no code block, table,
/// heading or address, and no single word.
fn too_wide<'a>(path: &str, lines: impl Iterator<Item = (usize, &'a str, &'a str)>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut block = false;
    for (number, line, prose) in lines {
        let prose = prose.trim();
        block ^= prose.starts_with("```");
        let exempt = block || prose.starts_with(['|', '#']) || prose.contains("://");
        let columns = line.chars().count();
        if columns > COLUMNS && !exempt && prose.contains(' ') {
            faults.push(format!("{path}:{number}: {columns} columns, {COLUMNS} at most"));
        }
    }
    faults
}

fn wide_comments(file: &File) -> Vec<String> {
    let numbered =
        file.text.lines().enumerate().map(|(at, line)| (at + 1, line, line.trim_start()));
    let comments = numbered.filter(|(_, _, text)| text.starts_with("//"));
    too_wide(
        &file.path,
        comments.map(|(number, line, text)| {
            (number, line, text.trim_start_matches('/').trim_start_matches('!'))
        }),
    )
}

fn wide_prose(page: &File) -> Vec<String> {
    too_wide(&page.path, page.text.lines().enumerate().map(|(at, line)| (at + 1, line, line)))
}

fn past_the_end(file: &File) -> Vec<String> {
    let wide = file.text.lines().enumerate().map(|(at, line)| (at + 1, line.chars().count()));
    let wide = wide.filter(|(_, columns)| *columns > MOST);
    wide.map(|(at, columns)| format!("{}:{at}: {columns} columns, {MOST} at most", file.path))
        .collect()
}

/// Reads the pages of the book and those beside it.
fn pages() -> Vec<File> {
    let mut pages = files(".md");
    pages.extend(PAGES.map(|path| File { path: path.to_owned(), text: read(path) }));
    pages
}

#[test]
fn comments_are_wrapped() {
    pass(&files(".rs").iter().flat_map(wide_comments).collect::<Vec<_>>());

    let wide = "a ".repeat(50);
    let text = format!(
        "//! {wide}\n/// | {wide} |\n/// ```text\n/// {wide}\n/// ```\n    // {wide}\n\
         // see https://example.com/{wide}\n//{}\nlet a = \"{wide}\"; // b\n// é{}\n",
        "x".repeat(120),
        "é ".repeat(48),
    );
    check(
        &wide_comments(&File::sample("a.rs", &text)),
        &["a.rs:1: 104 columns, 100 at most", "a.rs:6: 107 columns, 100 at most"],
    );
}

#[test]
fn prose_is_wrapped() {
    pass(&pages().iter().flat_map(wide_prose).collect::<Vec<_>>());

    let wide = "a ".repeat(51);
    let text = format!("# {wide}\n{wide}\n```sh\n{wide}\n```\n| {wide} |\n* <https://a> {wide}\n");
    check(&wide_prose(&File::sample("a.md", &text)), &["a.md:2: 102 columns, 100 at most"]);
}

#[test]
fn no_line_of_code_or_page_is_too_wide_to_read() {
    pass(&files(".rs").iter().chain(&pages()).flat_map(past_the_end).collect::<Vec<_>>());

    let text = format!("| {} |\n{}\n{}\n", "a ".repeat(70), "é".repeat(140), "é".repeat(141));
    check(
        &past_the_end(&File::sample("a.md", &text)),
        &["a.md:1: 144 columns, 140 at most", "a.md:3: 141 columns, 140 at most"],
    );
}
