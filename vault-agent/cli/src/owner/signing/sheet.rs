//! The recovery kit as it is written down by hand: each secret in numbered rows of four groups of
//! four, each row with two characters that tell a mistake, and reading such rows back.

use anyhow::Result;
use shared::hash::Hash;
use zeroize::Zeroizing;

use host::hint::hinted;

/// What the lines of the two secrets begin with; behind it stand groups.
pub const PREFIXES: [&str; 2] = ["VAULT-ROOT-SECRET-1", "AGE-SECRET-KEY-1"];

/// Characters in a group, and groups in a row.
const GROUP: usize = 4;
const GROUPS: usize = 4;

/// The alphabet of Bech32, in which no two characters look alike.
const ALPHABET: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

/// What stands below the last row.
const NOTE: &str = "
#
# Of each secret age and other programs want one line: the name above the rows
# and all groups, without spaces, without the numbers in front, and without the
# two letters behind, which tell a mistake in their row.";

/// Returns the page with its two secret lines in rows.
pub fn grouped(page: &str) -> Zeroizing<String> {
    let mut sheet = Zeroizing::new(String::with_capacity(2 * page.len() + 1024));
    for line in page.lines() {
        match secret(line) {
            Some((prefix, rest)) => push_rows(&mut sheet, prefix, rest),
            None => sheet.push_str(line),
        }
        sheet.push('\n');
    }
    sheet
}

/// Returns the page with its rows joined to lines again; a page without rows as it is.
///
/// # Errors
/// Names the row that was mistyped or left out.
pub fn joined(page: &str) -> Result<Zeroizing<String>> {
    let mut whole = Zeroizing::new(String::with_capacity(page.len() + 1));
    let mut rows: Option<(&str, usize)> = None;
    for line in page.lines() {
        let bare = line.trim_start_matches(['#', ' ', '\t']).trim_end();
        if let Some((prefix, count)) = &mut rows
            && let Some((number, text, check)) = row(bare)
        {
            *count += 1;
            if number != *count {
                return Err(wrong(prefix, *count, "is missing"));
            }
            if check.is_some_and(|check| !check.eq_ignore_ascii_case(&sum(prefix, number, &text))) {
                return Err(wrong(prefix, number, "was mistyped"));
            }
            whole.push_str(&text);
            continue;
        }
        // Rows may stand apart.
        if rows.is_some() && bare.is_empty() {
            continue;
        }
        whole.push('\n');
        let prefix = PREFIXES.into_iter().find(|prefix| bare.eq_ignore_ascii_case(prefix));
        rows = prefix.map(|prefix| (prefix, 0));
        whole.push_str(if prefix.is_some() { bare } else { line });
    }
    whole.push('\n');
    Ok(whole)
}

/// Splits a line that holds a secret, behind its prefix.
fn secret(line: &str) -> Option<(&'static str, &str)> {
    let bare = line.trim_start_matches(['#', ' ']);
    let split = |prefix: &'static str| Some((prefix, bare.strip_prefix(prefix)?));
    let found = PREFIXES.into_iter().find_map(split);
    found.filter(|(_, rest)| rest.len() > GROUP && rest.bytes().all(|c| c.is_ascii_alphanumeric()))
}

fn push_rows(sheet: &mut String, prefix: &str, rest: &str) {
    sheet.push_str("#   ");
    sheet.push_str(prefix);
    let mut left = rest;
    for number in 1.. {
        let (row, more) = left.split_at(left.len().min(GROUP * GROUPS));
        sheet.push_str(&format!("\n#   {number} "));
        let mut groups = row;
        while !groups.is_empty() {
            let (group, others) = groups.split_at(groups.len().min(GROUP));
            sheet.push(' ');
            sheet.push_str(group);
            groups = others;
        }
        sheet.push_str(&format!("  ({})", sum(prefix, number, row)));
        left = more;
        if left.is_empty() {
            break;
        }
    }
    if prefix == PREFIXES[1] {
        sheet.push_str(NOTE);
    }
}

/// Reads `2  QPZR Y9X8 …  (K7)`, or `2. qpzry9x8…`: the number, the groups, of whatever length, as
/// one text, and the check if it is there.
fn row(bare: &str) -> Option<(usize, Zeroizing<String>, Option<&str>)> {
    let digits = bare.find(|c: char| !c.is_ascii_digit())?;
    let number = bare[..digits].parse().ok()?;
    let rest = &bare[digits..];
    let marked = rest.trim_start_matches(['.', ')', ':', '-']);
    if marked.len() == rest.len() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let (mut text, mut check) = (Zeroizing::new(String::with_capacity(bare.len())), None);
    for word in marked.split_whitespace() {
        match word.strip_prefix('(').and_then(|word| word.strip_suffix(')')) {
            Some(two) if check.is_none() => check = Some(two),
            None if check.is_none()
                && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') =>
            {
                let letters = word.bytes().filter(|c| *c != b'-').map(char::from);
                text.extend(letters.map(|c| c.to_ascii_uppercase()));
            }
            Some(_) | None => return None,
        }
    }
    (!text.is_empty()).then_some((number, text, check))
}

/// Returns two characters that depend on every character of a row, and on which row it is.
fn sum(prefix: &str, number: usize, text: &str) -> String {
    let hash = Hash::of(&[
        prefix.as_bytes(),
        &[b'\0', u8::try_from(number).unwrap_or(0)],
        text.as_bytes(),
    ]);
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte % 32)]);
    let [first, second, ..] = *hash.as_bytes();
    [letter(first), letter(second)].iter().collect()
}

fn wrong(prefix: &str, number: usize, what: &str) -> anyhow::Error {
    hinted(format!("row {number} of `{prefix}…` {what}"), "compare it with the page")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# RECOVERY KIT\n\
        # VAULT-ROOT-SECRET-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS5KJZQY\n#\n\
        AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0S2ABCDE\n# age -d\n";

    #[test]
    fn rows_are_what_people_see() {
        insta::assert_snapshot!(*grouped(PAGE));
    }

    #[test]
    fn rows_read_back_as_lines_however_they_were_typed() {
        let sheet = grouped(PAGE);
        let lower = Zeroizing::new(sheet.to_lowercase().replace("#   ", "\t"));
        for text in [&sheet, &lower] {
            let whole = joined(text).unwrap();
            for line in PAGE.lines().filter(|line| line.contains("-1Q")) {
                let line = line.trim_start_matches("# ");
                let mut lines = whole.lines();
                assert!(lines.any(|it| it.eq_ignore_ascii_case(line)), "{line} in {}", *whole);
            }
        }
        let plain = joined(PAGE).unwrap();
        assert_eq!(plain.trim(), PAGE.trim());
    }

    #[test]
    fn rows_read_back_with_other_numbers_groups_and_blank_lines() {
        let sheet = grouped(PAGE);
        let lines = || sheet.lines().map(|line| line.trim_start_matches(['#', ' ']));
        let is_row = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
        let change = |row: &dyn Fn(&str) -> String| {
            let change = |line: &str| if is_row(line) { row(line) } else { line.to_owned() };
            lines().map(change).collect::<Vec<_>>().join("\n")
        };
        let joined_groups = |line: &str| {
            let (number, rest) = line.split_once(' ').unwrap();
            let (groups, check) = rest.rsplit_once("  ").unwrap();
            format!("{number} {} {check}", groups.replace(' ', ""))
        };
        for text in [
            change(&|line| format!("{line}\n\n \n")),
            change(&|line| format!("#\n# {line}")),
            change(&|line| line.replacen(' ', ". ", 1)),
            change(&|line| line.replacen("  ", ".", 1).to_lowercase()),
            change(&|line| line.replacen(' ', ")", 1)),
            change(&|line| line.split_once("  (").unwrap().0.to_owned()),
            change(&|line| joined_groups(line)),
            change(&|line| line.replacen("  ", " ", 1).replace(' ', "  ")),
            change(&|line| {
                let (row, check) = line.rsplit_once("  ").unwrap();
                let (number, groups) = row.split_once("  ").unwrap();
                format!("{number}: {}  {check}", groups.replace(' ', "-"))
            }),
        ] {
            let whole = joined(&text).unwrap();
            for line in PAGE.lines().filter(|line| line.contains("-1Q")) {
                let line = line.trim_start_matches("# ");
                let mut lines = whole.lines();
                assert!(lines.any(|it| it.eq_ignore_ascii_case(line)), "{line} in {text}");
            }
        }
    }

    #[test]
    fn a_row_that_is_wrong_or_missing_is_named() {
        let sheet = grouped(PAGE);
        let fault = |text: String| joined(&text).unwrap_err().to_string();
        let mistyped = sheet.replacen("ZQGP", "ZQGQ", 1);
        assert_eq!(fault(mistyped), "row 1 of `VAULT-ROOT-SECRET-1…` was mistyped");
        let rows: Vec<&str> = sheet.lines().collect();
        let second = rows.iter().rposition(|line| line.starts_with("#   2 ")).unwrap();
        let without = [&rows[..second], &rows[second + 1..]].concat().join("\n");
        assert_eq!(fault(without), "row 2 of `AGE-SECRET-KEY-1…` is missing");
        let swapped = rows[second].replace("#   2 ", "#   3 ");
        let text = sheet.replace(rows[second], &swapped);
        assert_eq!(fault(text), "row 2 of `AGE-SECRET-KEY-1…` is missing");
    }
}
