//! Tells a save that is the rest of a file from an edit: pure. A disk that is full, an editor that
//! dies and a copy that breaks off leave a file that is still one, with most of it gone.

use super::text::View;

/// How many names are shown of those that are gone.
const SHOWN: usize = 3;

/// Returns what a file has lost since file and vault both held `before`, in words that follow its
/// name: more than half of the keys, or, as it `was_whole`, the end of its last line.
pub(super) fn shrunk(before: &View, now: &View, is_whole: bool, was_whole: bool) -> Option<String> {
    let lost: Vec<&String> = before.keys().filter(|name| !now.contains_key(*name)).collect();
    if lost.len() * 2 > before.len() {
        let names: Vec<String> = lost.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = match lost.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (gone, all) = (lost.len(), before.len());
        return Some(format!("has lost {gone} of {all} keys: {}{more}", names.join(", ")));
    }
    (was_whole && !is_whole).then(|| "ends in the middle of a line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(names: &str) -> View {
        names.chars().map(|name| (name.to_string(), (&b"x"[..]).into())).collect()
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
    fn a_last_line_that_lost_its_end_is_half_a_line() {
        let cut = Some("ends in the middle of a line");
        check("AB", "AB", [false, true], cut);
        check("AB", "AB", [false, false], None);
        check("AB", "AB", [true, false], None);
        check("", "A", [false, true], cut);
    }
}
