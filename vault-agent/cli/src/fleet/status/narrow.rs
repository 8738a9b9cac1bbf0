//! The table of a status on a terminal that is too narrow for it: fewer words, ends of paths alone,
//! and fewer columns, so that no row wraps. What is piped has it all.

use host::shown::Shown;
use host::table::{self, end, width};

const HEADER: [&str; 7] = ["MACHINE", "TARGET", "SECRET", "WANTED", "APPLIED", "HOOK", "SEEN"];
const BRIEF: [&str; 7] = ["MACHINE", "TARGET", "SECRET", "WANT", "HAS", "HOOK", "SEEN"];
const TARGET: usize = 1;
const SECRET: usize = 2;
const HOOK: usize = 5;
const SEEN: usize = 6;
/// What goes where even that is too wide: what is wrong with it stands below the table anyway.
const LEAST_WANTED: [usize; 3] = [HOOK, SEEN, SECRET];
/// What a path keeps of its end, however narrow the terminal is.
const LEAST: usize = 12;

/// Lays the table out in so many columns, if they are told.
pub(super) fn laid_out(cells: &[Vec<String>], columns: Option<usize>) -> Shown {
    let whole = table::plain(&HEADER, cells);
    let Some(columns) = columns.filter(|columns| width(&whole) > *columns) else { return whole };
    let mut cells: Vec<Vec<String>> = cells.iter().map(|row| brief(row)).collect();
    let mut kept: Vec<usize> = (0..HEADER.len()).collect();
    let mut dropped = LEAST_WANTED.into_iter();
    loop {
        let header: Vec<&str> = kept.iter().map(|column| BRIEF[*column]).collect();
        let rows: Vec<Vec<String>> = cells
            .iter()
            .map(|row| kept.iter().map(|column| row[*column].clone()).collect())
            .collect();
        let fewer = table::plain(&header, &rows);
        let excess = width(&fewer).saturating_sub(columns);
        let widest = |column: usize| {
            let cells = cells.iter().filter(|_| kept.contains(&column));
            cells.map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let (target, secret) = (widest(TARGET), widest(SECRET));
        let (column, wide, other) =
            if target >= secret { (TARGET, target, secret) } else { (SECRET, secret, target) };
        if excess == 0 {
            return fewer;
        }
        if wide <= LEAST {
            let Some(least) = dropped.next() else { return fewer };
            kept.retain(|column| *column != least);
            continue;
        }
        // The wider of the two gives way first, and both alike from there on.
        let most = (wide - excess.min(wide)).max(other.min(wide - 1)).max(LEAST);
        cells.iter_mut().for_each(|row| row[column] = end(&row[column], most));
    }
}

/// Says the same in fewer words: `3 d ago (sleeps)` is `3 d (sleeps)`.
fn brief(row: &[String]) -> Vec<String> {
    let mut row: Vec<String> = row.iter().map(|cell| Shown::from(cell).to_string()).collect();
    if let Some(seen) = row.last_mut() {
        *seen = seen.replacen(" ago", "", 1);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(target: &str, seen: &str) -> Vec<String> {
        let secret = "secret/jjeco/api-keys";
        ["thinkpad", target, secret, "v2", "v1", "failed", seen].map(str::to_owned).to_vec()
    }

    #[test]
    fn no_row_is_wider_than_the_terminal_and_a_pipe_has_it_all() {
        let sample = [cells("~/J-Jeco/.env", "3 d ago (sleeps)"), cells("~/J-Jeco/.env", "now")];
        let whole = laid_out(&sample, None);
        assert_eq!(whole, laid_out(&sample, Some(120)));
        assert!(width(&whole) > 80 && whole.contains("3 d ago (sleeps)"), "{whole}");
        let on_80 = laid_out(&sample, Some(80));
        assert!(width(&on_80) <= 80, "{on_80}");
        assert!(on_80.contains("~/J-Jeco/.env  secret/jjeco/api-keys  v2"), "{on_80}");
        assert!(on_80.contains("3 d (sleeps)"), "{on_80}");
        let long = [cells("/srv/containers/very/deep/folder/of/ghost/app/.env", "now")];
        for columns in [36, 40, 50, 57, 60, 64, 72, 80, 100] {
            let shown = laid_out(&long, Some(columns));
            assert!(width(&shown) <= columns, "{columns}: {shown}");
            assert!(shown.contains("…") && shown.contains("app/.env "), "{columns}: {shown}");
        }
        let header = |columns| laid_out(&long, Some(columns)).lines().next().unwrap().to_owned();
        assert!(header(60).contains("SEEN") && !header(50).contains("HOOK"), "{}", header(50));
        // The narrowest still says which is which.
        assert!(laid_out(&long, Some(10)).contains("…st/app/.env"));
    }
}
