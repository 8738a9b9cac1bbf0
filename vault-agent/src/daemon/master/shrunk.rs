//! Tells a save that is the rest of a file from an edit: pure. A disk that is full, an editor that
//! dies and a copy that breaks off leave a file that is still one, with most of it gone.

use super::text::View;

/// How many names are shown of those that are gone.
const SHOWN: usize = 3;

/// Returns what a file has lost since file and vault both held `before`, in words that follow its
/// name: more than half of the keys, or of what they hold, or, as it `was_whole`, the end of its
/// last line.
pub(super) fn shrunk(before: &View, now: &View, is_whole: bool, was_whole: bool) -> Option<String> {
    let all: Vec<&String> = before.keys().collect();
    let gone = |name: &&&String| !now.contains_key(**name);
    let lost: Vec<&String> = all.iter().filter(gone).copied().collect();
    if lost.len() * 2 > all.len() {
        return Some(format!("has lost {} of {} keys: {}", lost.len(), all.len(), shown(&lost)));
    }
    // What fills in a template from variables that are not set leaves the names alone.
    let held =
        |view: &View, name: &String| view.get(name).is_some_and(|it| !it.expose().is_empty());
    let full: Vec<&String> = all.into_iter().filter(|name| held(before, name)).collect();
    let lost: Vec<&String> = full.iter().filter(|name| !held(now, name)).copied().collect();
    if lost.len() * 2 > full.len() {
        return Some(format!("has lost {} of {} values: {}", lost.len(), full.len(), shown(&lost)));
    }
    (was_whole && !is_whole).then(|| "ends in the middle of a line".to_owned())
}

fn shown(names: &[&String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(names: &str) -> View {
        // One in small letters is empty.
        let value = |name: char| if name.is_lowercase() { &b""[..] } else { b"x" };
        names.chars().map(|it| (it.to_uppercase().to_string(), value(it).into())).collect()
    }

    fn check(before: &str, now: &str, [is_whole, was_whole]: [bool; 2], expected: Option<&str>) {
        let found = shrunk(&view(before), &view(now), is_whole, was_whole);
        assert_eq!(found.as_deref(), expected, "{before} {now}");
    }

    #[test]
    fn more_than_half_of_the_keys_is_too_many() {
        let whole = [true; 2];
        check("ABCD", "AB", whole, None);
        check("ABCD", "A", whole, Some("has lost 3 of 4 keys: `B`, `C`, `D`"));
        check("ABCDEF", "F", whole, Some("has lost 5 of 6 keys: `A`, `B`, `C` and 2 more"));
        check("ABC", "XYZ", whole, Some("has lost 3 of 3 keys: `A`, `B`, `C`"));
        check("AB", "AX", whole, None);
        check("", "A", whole, None);
    }

    #[test]
    fn more_than_half_of_the_values_is_too_many() {
        let whole = [true; 2];
        check("ABCD", "ABcd", whole, None);
        check("ABCD", "Abcd", whole, Some("has lost 3 of 4 values: `B`, `C`, `D`"));
        // Some of the keys, and what some others held.
        check("ABCD", "Ac", whole, Some("has lost 3 of 4 values: `B`, `C`, `D`"));
        check("Abcd", "abcd", whole, Some("has lost 1 of 1 values: `A`"));
        check("abcd", "abcd", whole, None);
        check("abcd", "ABcd", whole, None);
    }

    #[test]
    fn a_last_line_that_lost_its_end_is_half_a_line() {
        let cut = Some("ends in the middle of a line");
        check("AB", "AB", [false, true], cut);
        check("AB", "AB", [false, false], None);
        check("AB", "AB", [true, false], None);
        check("", "A", [false, true], cut);
    }
}
