//! The recovery kit as a page to print: one HTML file, which needs nothing else and runs nothing,
//! with the rows of `sheet` and a QR code; and the text of such a page once more.

use std::fmt::Write as _;

use qrcodegen_no_heap::{QrCode, QrCodeEcc, Version};
use zeroize::Zeroizing;

use super::sheet;

/// Largest code that is made: 81 modules a side, which a telephone reads off paper.
const LARGEST: Version = Version::new(16);
/// Blocks of the sheet that stand beside the code: about its height.
const BESIDE: usize = 5;
/// Light modules around a code.
const QUIET: i32 = 4;
/// Bytes of the page that are not of the kit, at most.
const FRAME: usize = 4 << 10;
/// Bytes of a run of dark modules, at most: `M84 84h81v1h-81z`.
const RUN: usize = 16;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" \
content=\"default-src 'none'; style-src 'unsafe-inline'\">
<title>Recovery kit</title>
<style>
@page { size: A4; margin: 15mm; }
body { font: 10pt/1.3 sans-serif; color: #000; background: #fff; width: 180mm; margin: 0 auto; }
header { display: flex; justify-content: space-between; gap: 6mm; }
h1 { font-size: 14pt; margin: 0 0 4mm; }
p { margin: 0 0 2mm; }
pre { font: 10pt/1.35 monospace; margin: 0 0 3mm; break-inside: avoid; }
figure { margin: 0; }
svg { display: block; width: 62mm; height: 62mm; }
figcaption { font-size: 8.5pt; text-align: center; }
</style>
</head>
<body>
";

const CAPTION: &str = "<figcaption>Both secrets, for a scanner:<br>
its text is a kit file, too.</figcaption>
";

/// Returns the page that says what `sheet` says, a kit in rows, with `code` as a QR code.
///
/// # Panics
/// Never: a kit fits the largest code.
pub fn html(sheet: &str, code: &str) -> Zeroizing<String> {
    let figure = svg(code);
    let mut page = Zeroizing::new(String::with_capacity(FRAME + 2 * sheet.len() + figure.len()));
    let room = page.capacity();
    page.push_str(HEAD);
    page.push_str("<header>\n<div>\n");
    let mut blocks = sheet.trim().split("\n#\n");
    blocks.by_ref().take(BESIDE).for_each(|block| push_block(&mut page, block));
    page.push_str("</div>\n<figure>\n");
    page.push_str(&figure);
    page.push_str(CAPTION);
    page.push_str("</figure>\n</header>\n");
    blocks.for_each(|block| push_block(&mut page, block));
    page.push_str("</body>\n</html>\n");
    debug_assert!(page.capacity() == room, "growing would leave copies behind");
    page
}

/// Adds a block of a sheet: its title, something in columns, or a paragraph. Nothing of a kit is
/// more than text to HTML: no `<`, no `&`.
fn push_block(page: &mut String, block: &str) {
    let (start, end) = if block.starts_with(sheet::TITLE) {
        ("<h1>", "</h1>\n")
    } else if block.contains("  ") {
        ("<pre>", "</pre>\n")
    } else {
        ("<p>", "</p>\n")
    };
    page.push_str(start);
    for (number, line) in block.lines().enumerate() {
        page.push_str(if number > 0 { "\n" } else { "" });
        page.push_str(line.strip_prefix("# ").unwrap_or(line));
    }
    page.push_str(end);
}

/// Returns the text of a page of [`html`]; another text as it is.
pub fn text(page: &str) -> Zeroizing<String> {
    let is_html = page.trim_start().get(..9).is_some_and(|it| it.eq_ignore_ascii_case("<!doctype"));
    let mut text = Zeroizing::new(String::with_capacity(page.len()));
    if !is_html {
        text.push_str(page);
        return text;
    }
    for part in page.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, behind)| behind));
    }
    text
}

/// Draws a QR code.
fn svg(code: &str) -> Zeroizing<String> {
    let length = LARGEST.buffer_len();
    let mut data = Zeroizing::new(vec![0; length]);
    let mut modules = Zeroizing::new(vec![0; length]);
    data[..code.len()].copy_from_slice(code.as_bytes());
    let (level, least) = (QrCodeEcc::Medium, Version::new(1));
    let size = code.len();
    let code =
        QrCode::encode_binary(&mut data, size, &mut modules, level, least, LARGEST, None, true)
            .expect("a kit fits the largest code");
    let side = code.size();
    let runs = usize::try_from(side * side / 2).unwrap_or_default();
    let mut svg = Zeroizing::new(String::with_capacity(FRAME + RUN * runs));
    let room = svg.capacity();
    let whole = side + 2 * QUIET;
    let _ = write!(
        *svg,
        "<svg viewBox=\"0 0 {whole} {whole}\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<path d=\""
    );
    for y in 0..side {
        let mut x = 0;
        while x < side {
            let dark = (x..side).take_while(|x| code.get_module(*x, y)).count();
            let dark = i32::try_from(dark).unwrap_or_default();
            if dark > 0 {
                let (left, top) = (x + QUIET, y + QUIET);
                let _ = write!(*svg, "M{left} {top}h{dark}v1h-{dark}z");
            }
            x += dark + 1;
        }
    }
    svg.push_str("\"/>\n</svg>\n");
    debug_assert!(svg.capacity() == room, "growing would leave copies behind");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHEET: &str = "# RECOVERY KIT of the vault `home`\n#\n# vault id   12\n#            34\n\
        #\n# Put this page where\n# your passport is.\n#\n#   AGE-SECRET-KEY-1\n\
        #   1  QPZR Y9X8  (K7)\n";

    #[test]
    fn a_page_is_what_browsers_get_and_reads_back() {
        let page = html(SHEET, "# vault id 1234\n");
        let (before, rest) = page.split_once("<path d=\"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        insta::assert_snapshot!(format!("{before}<path d=\"…\"{after}"));
        let read = text(&page);
        let lines: Vec<&str> =
            SHEET.lines().map(|line| line.trim_start_matches(['#', ' '])).collect();
        for line in lines.iter().filter(|line| !line.is_empty()) {
            assert!(read.lines().any(|it| it.trim() == *line), "{line} in {}", *read);
        }
        assert_eq!(*text(SHEET), SHEET);
        assert_eq!(*text("a < b"), "a < b");
    }

    #[test]
    fn a_page_fetches_nothing_and_runs_nothing() {
        let page = html(SHEET, &"x".repeat(256));
        for foreign in ["<script", "<link", "<img", "://", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
