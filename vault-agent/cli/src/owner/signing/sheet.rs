//! The recovery kit as it is written down by hand: each secret in numbered rows of four groups of
//! four, each row with two characters that tell a mistake, and reading such rows back.

use anyhow::Result;
use shared::hash::Hash;
use zeroize::Zeroizing;

use host::hint::hinted;

/// What the lines of the two secrets begin with; behind it stand groups.
pub const PREFIXES: [&str; 2] = ["VAULT-ROOT-SECRET-1", "AGE-SECRET-KEY-1"];

/// What a page begins with.
pub const TITLE: &str = "# RECOVERY KIT ";

/// Characters in a group, and in a row of groups.
const GROUP: usize = 4;
const ROW: usize = 4 * GROUP;

/// Characters of a secret behind its name: 32 bytes and their checksum.
const LETTERS: usize = 58;

/// Letters behind a row.
const CHECK: usize = 2;

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

/// Reads what a page holds of the two secrets; everything else on it is passed over.
///
/// # Errors
/// Names each row that was mistyped.
pub fn read(page: &str) -> Result<Sheet> {
    let (mut sheet, mut wrong) = (Sheet::default(), Vec::new());
    for line in page.lines() {
        if let Err(row) = sheet.line(line) {
            sheet.pass(&row);
            wrong.push(row.to_string());
        }
    }
    if wrong.is_empty() {
        return Ok(sheet);
    }
    Err(hinted(wrong.join("; "), COMPARE))
}

/// The two secrets, as far as they have been read.
#[derive(Default)]
pub struct Sheet {
    secrets: [Secret; 2],
    /// Whose rows come next.
    at: Option<usize>,
}

impl Sheet {
    /// Takes one more line: a name, a row or a whole secret. Where no secret has begun, or one is
    /// whole, it may be anything.
    ///
    /// # Errors
    /// Names a row that was mistyped: the line counts for nothing, and the row is expected again.
    pub fn line(&mut self, line: &str) -> Result<(), WrongRow> {
        let bare = line.trim_matches(|c: char| c == '#' || c.is_whitespace());
        let mut rest = bare;
        if let Some((which, behind)) = named(bare) {
            self.secrets[which] = Secret::default();
            self.at = Some(which);
            rest = behind;
        }
        // Rows may stand apart.
        let Some(which) = self.at.filter(|_| !rest.is_empty()) else { return Ok(()) };
        let secret = &mut self.secrets[which];
        let Some(gap) = secret.gap(PREFIXES[which]) else {
            self.at = None;
            return Ok(());
        };
        let row = Row::parse(rest).ok_or(gap)?;
        secret.take(&row, PREFIXES[which])
    }

    /// Goes on behind what was mistyped.
    fn pass(&mut self, wrong: &WrongRow) {
        match (wrong, self.at) {
            (WrongRow::Mistyped { .. } | WrongRow::Length { .. }, Some(which)) => {
                let secret = &mut self.secrets[which];
                let next = LETTERS.min((secret.at / ROW + 1) * ROW);
                // It is told once, and not as missing, too.
                secret.letters[secret.at..next].fill(b'?');
                secret.at = next;
            }
            (WrongRow::Missing { .. } | WrongRow::Line { .. }, _) | (_, None) => self.at = None,
        }
    }

    /// Tells whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        PREFIXES.iter().zip(&self.secrets).all(|(prefix, secret)| secret.gap(prefix).is_none())
    }

    /// Returns a secret as one line in capitals, by the place of its name in [`PREFIXES`].
    ///
    /// # Errors
    /// Tells what of it is missing.
    pub fn secret(&self, which: usize) -> Result<Zeroizing<String>> {
        let (prefix, secret) = (PREFIXES[which], &self.secrets[which]);
        if let Some(gap) = secret.gap(prefix) {
            if secret.at > 0 || secret.in_rows {
                return Err(hinted(gap.to_string(), COMPARE));
            }
            return Err(hinted(
                format!("the kit has no line `{prefix}…`"),
                "type both secrets of the page, each below its name",
            ));
        }
        let mut line = Zeroizing::new(String::with_capacity(prefix.len() + LETTERS));
        line.push_str(prefix);
        line.extend(secret.letters.iter().copied().map(char::from));
        Ok(line)
    }
}

/// What to do about a row that is wrong.
pub const COMPARE: &str = "compare it with the page";

/// A row that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongRow {
    /// Its two letters say so.
    #[error("row {number} of `{prefix}…` was mistyped")]
    Mistyped {
        /// Counted from 1.
        number: usize,
        /// Of which secret.
        prefix: &'static str,
    },
    /// It is too short, or too long.
    #[error("row {number} of `{prefix}…` has {has} characters instead of {needs}")]
    Length {
        /// Counted from 1.
        number: usize,
        /// Of which secret.
        prefix: &'static str,
        /// Its characters.
        has: usize,
        /// Those of the row on the page.
        needs: usize,
    },
    /// Something else stands where it should be, or nothing.
    #[error("row {number} of `{prefix}…` is missing")]
    Missing {
        /// Counted from 1.
        number: usize,
        /// Of which secret.
        prefix: &'static str,
    },
    /// What is not in rows is too short, or too long.
    #[error("the line `{prefix}…` was cut or mistyped")]
    Line {
        /// Of which secret.
        prefix: &'static str,
    },
}

/// What is known of one secret behind its name.
struct Secret {
    /// 0 where nothing has been read yet.
    letters: Zeroizing<[u8; LETTERS]>,
    /// Where a row without a number goes.
    at: usize,
    /// Whether it comes in the rows of the page, and not as one line.
    in_rows: bool,
}

impl Default for Secret {
    fn default() -> Self {
        Self { letters: Zeroizing::new([0; LETTERS]), at: 0, in_rows: false }
    }
}

impl Secret {
    fn first_gap(&self) -> Option<usize> {
        self.letters.iter().position(|letter| *letter == 0)
    }

    /// Tells what is missing, if something is.
    fn gap(&self, prefix: &'static str) -> Option<WrongRow> {
        let gap = self.first_gap()?;
        Some(match self.in_rows {
            true => WrongRow::Missing { number: gap / ROW + 1, prefix },
            false => WrongRow::Line { prefix },
        })
    }

    /// Puts a row into its place.
    fn take(&mut self, row: &Row, prefix: &'static str) -> Result<(), WrongRow> {
        let Row { number, letters, check } = row;
        self.in_rows |= number.is_some() || check.is_some();
        let behind = if self.at < LETTERS { Some(self.at) } else { self.first_gap() };
        self.at = number.map(|number| (number - 1) * ROW).or(behind).unwrap_or_default();
        let (number, begun) = (self.at / ROW + 1, self.at % ROW);
        let needs = row_length(number);
        let (letters, check) = match check {
            // The two letters may stand without their brackets.
            None if begun == 0 && letters.len() == needs + CHECK => {
                self.in_rows = true;
                let (letters, check) = letters.split_at(needs);
                (letters, Some(check))
            }
            check => (letters.as_str(), check.as_ref().map(|check| check.as_str())),
        };
        let has = begun + letters.len();
        let is_row = row.number.is_some() || check.is_some();
        if is_row && (begun > 0 || has != needs) {
            self.at -= begun;
            let has = if begun > 0 { begun } else { has };
            return Err(WrongRow::Length { number, prefix, has, needs });
        }
        if self.at + letters.len() > LETTERS {
            return Err(WrongRow::Line { prefix });
        }
        if check.is_some_and(|check| check != sum(prefix, number, letters)) {
            return Err(WrongRow::Mistyped { number, prefix });
        }
        self.letters[self.at..][..letters.len()].copy_from_slice(letters.as_bytes());
        self.at += letters.len();
        Ok(())
    }
}

/// Returns the characters of a row that is on a page, by its number.
fn row_length(number: usize) -> usize {
    ROW.min(LETTERS.saturating_sub((number - 1) * ROW))
}

/// Splits a line that begins with the name of a secret, written in any way, behind it.
fn named(bare: &str) -> Option<(usize, &str)> {
    let behind = |prefix: &str| {
        let mut left = bare;
        for expected in prefix.chars().filter(char::is_ascii_alphanumeric) {
            left = left.trim_start_matches(['-', ' ']);
            let letter = left.chars().next()?;
            if !letter.eq_ignore_ascii_case(&expected) {
                return None;
            }
            left = &left[letter.len_utf8()..];
        }
        Some(left.trim_start_matches([':', '…', '.', '-', ' ']))
    };
    PREFIXES.into_iter().enumerate().find_map(|(which, prefix)| Some((which, behind(prefix)?)))
}

/// A row, or some of its groups, as it was written down.
struct Row {
    number: Option<usize>,
    /// In capitals, and in the alphabet where they can be.
    letters: Zeroizing<String>,
    check: Option<Zeroizing<String>>,
}

impl Row {
    /// Reads `2  QPZR Y9X8 …  (K7)`, `2. qpzry9x8…` or `QPZR-Y9X8`: groups of whatever length; the
    /// number and the two letters if they are there.
    fn parse(bare: &str) -> Option<Self> {
        let number = bare.chars().next().and_then(|c| c.to_digit(10)).map(|n| n as usize);
        let number = number.filter(|number| {
            let marked = bare[1..].starts_with(['.', ')', ':', '-', ' ', '\t']);
            (1..=LETTERS.div_ceil(ROW)).contains(number) && marked
        });
        let rest = match number {
            Some(_) => bare[1..].trim_start_matches(['.', ')', ':', '-']),
            None => bare,
        };
        let (mut letters, mut check) = (Zeroizing::new(String::with_capacity(bare.len())), None);
        for word in rest.split_whitespace() {
            match word.strip_prefix('(').and_then(|word| word.strip_suffix(')')) {
                Some(two) if check.is_none() => {
                    check = Some(Zeroizing::new(two.chars().map(read_as).collect()));
                }
                None if check.is_none()
                    && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') =>
                {
                    letters.extend(word.chars().filter(|c| *c != '-').map(read_as));
                }
                Some(_) | None => return None,
            }
        }
        (!letters.is_empty()).then_some(Self { number, letters, check })
    }
}

/// Returns the letter of the alphabet that somebody means who writes `letter`.
fn read_as(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | '1' => 'L',
        'B' => '8',
        other => other,
    }
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
        let (row, more) = left.split_at(left.len().min(ROW));
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# RECOVERY KIT\n\
        # VAULT-ROOT-SECRET-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS5KJZQY\n#\n\
        AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0S2AKCDE\n# age -d\n";

    #[test]
    fn rows_are_what_people_see() {
        insta::assert_snapshot!(*grouped(PAGE));
    }

    /// Returns both secrets of the page.
    fn secrets(page: &str) -> [String; 2] {
        let sheet = read(page).unwrap();
        [0, 1].map(|which| sheet.secret(which).unwrap().to_string())
    }

    fn is_row(line: &str) -> bool {
        line.starts_with(|c: char| c.is_ascii_digit())
    }

    /// Returns the rows of the page as they are without the marks of a comment, each changed.
    fn with_rows(change: impl Fn(&str) -> String) -> String {
        let sheet = grouped(PAGE);
        let lines = sheet.lines().map(|line| line.trim_start_matches(['#', ' ']));
        let lines = lines.map(|line| if is_row(line) { change(line) } else { line.to_owned() });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Splits a row into its number, its groups, and its two letters.
    fn parts(row: &str) -> (&str, &str, &str) {
        let (number, rest) = row.split_once("  ").unwrap();
        let (groups, check) = rest.rsplit_once("  ").unwrap();
        (number, groups, check)
    }

    fn fault(text: &str) -> String {
        let fault = read(text).and_then(|sheet| {
            sheet.secret(0)?;
            sheet.secret(1)
        });
        fault.unwrap_err().to_string()
    }

    #[test]
    fn rows_read_back_in_any_grouping_and_case_with_their_numbers_and_without() {
        let known = secrets(PAGE);
        assert!(PAGE.contains(&known[0]) && PAGE.contains(&known[1]));
        let bare = |row: &str| row.trim_matches(['(', ')']).to_owned();
        for text in [
            grouped(PAGE).to_string(),
            grouped(PAGE).to_lowercase().replace("#   ", "\t"),
            with_rows(|row| format!("{row}\n\n \n")),
            with_rows(|row| format!("#\n# {row}")),
            with_rows(|row| row.replacen(' ', ". ", 1)),
            with_rows(|row| row.replacen("  ", ".", 1).to_lowercase()),
            with_rows(|row| row.replacen(' ', ")", 1)),
            with_rows(|row| row.split_once("  (").unwrap().0.to_owned()),
            with_rows(|row| parts(row).1.to_owned()),
            with_rows(|row| parts(row).1.replace(' ', "").to_lowercase()),
            with_rows(|row| format!("{} {}", parts(row).1, parts(row).2)),
            with_rows(|row| format!("{} {}", parts(row).1.replace(' ', "-"), bare(parts(row).2))),
            with_rows(|row| format!("{}:{} {}", parts(row).0, parts(row).1, bare(parts(row).2))),
            with_rows(|row| parts(row).1.split(' ').collect::<Vec<_>>().join("\n")),
            with_rows(|row| parts(row).1.replace('0', "o").replace('L', "1").replace('8', "b")),
            grouped(PAGE).replace("SECRET-1", "secret 1:").replace("KEY-1", "Key 1"),
            PAGE.replace("SECRET-1", "SECRET-1 ").replace("KEY-1", "key-1\n"),
        ] {
            assert_eq!(secrets(&text), known, "{text}");
        }
    }

    #[test]
    fn numbered_rows_come_in_any_order() {
        let known = secrets(PAGE);
        let sheet = grouped(PAGE);
        let mut lines: Vec<&str> = sheet.lines().collect();
        let first = lines.iter().position(|line| line.starts_with("#   1 ")).unwrap();
        lines[first..first + 4].reverse();
        assert_eq!(secrets(&lines.join("\n")), known);
        // One without a number follows the one before it.
        let (_, groups, _) = parts(lines[first + 2].trim_start_matches(['#', ' ']));
        lines[first + 2] = groups;
        lines.swap(first + 1, first + 3);
        assert_eq!(secrets(&lines.join("\n")), known);
    }

    #[test]
    fn every_row_that_is_wrong_or_missing_is_named() {
        let [root, recovery] = PREFIXES;
        let sheet = grouped(PAGE);
        let mistyped = sheet.replacen("ZQGP", "ZQGQ", 1);
        assert_eq!(fault(&mistyped), format!("row 1 of `{root}…` was mistyped"));
        let both = mistyped.replacen("PG9S", "PG9T", 1);
        let named = format!("row 1 of `{root}…` was mistyped; row 2 of `{recovery}…` was mistyped");
        assert_eq!(fault(&both), named);
        // As well where nobody has typed the numbers.
        let unnumbered: Vec<_> = both
            .lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .map(|line| if is_row(line) { line.split_once("  ").unwrap().1 } else { line })
            .collect();
        assert_eq!(fault(&unnumbered.join("\n")), named);

        let rows: Vec<&str> = sheet.lines().collect();
        let second = rows.iter().rposition(|line| line.starts_with("#   2 ")).unwrap();
        let without = [&rows[..second], &rows[second + 1..]].concat().join("\n");
        let missing = format!("row 2 of `{recovery}…` is missing");
        assert_eq!(fault(&without), missing);
        let short = sheet.replacen("ZQGP ", "", 1);
        let length = format!("row 1 of `{root}…` has 12 characters instead of 16");
        assert_eq!(fault(&short), length);
        let swapped = sheet.replace(rows[second], &rows[second].replace("#   2 ", "#   3 "));
        assert_eq!(fault(&swapped), format!("row 3 of `{recovery}…` was mistyped; {missing}"));
        let bare = rows[second].split_once("  (").unwrap().0.replace("#   2 ", "#   3 ");
        assert_eq!(fault(&sheet.replace(rows[second], &bare)), missing);
    }

    #[test]
    fn a_row_that_was_mistyped_is_typed_again() {
        let mut sheet = Sheet::default();
        for line in with_rows(|row| row.split_once("  ").unwrap().1.to_owned()).lines() {
            if line.ends_with(')') {
                let wrong = line.replacen(&line[..2], "77", 1);
                assert!(sheet.line(&wrong).is_err(), "{wrong}");
            }
            sheet.line(line).unwrap();
        }
        assert!(sheet.is_whole());
        assert_eq!([0, 1].map(|which| sheet.secret(which).unwrap().to_string()), secrets(PAGE));
    }
}
