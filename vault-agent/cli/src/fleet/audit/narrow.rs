//! Rows of records on a terminal that is too narrow for them: times to the minute or the day,
//! processes without their number, and cut ends, so that no row wraps. What is piped has it all.

use host::shown::Shown;
use host::table;
use shared::time::Time;

/// What WHO keeps, and what WHAT keeps, however narrow the terminal is.
const LEAST: [usize; 2] = ["agent 10.8.0.100".len(), 12];
/// Between two columns.
const GLUE: usize = 2;
const TIME: usize = 0;
const MACHINE: usize = 1;
const WHO: usize = 2;
const WHAT: usize = 3;

/// How wide the columns of a table are that grows, so far.
#[derive(Default)]
pub struct Narrow {
    /// Of all but the last, with their header.
    widths: [usize; WHAT],
    /// Whether rows had to give way: all that follow do.
    is_brief: bool,
}

impl Narrow {
    /// Makes the next rows fit into so many columns, if they are told; `now` tells which year goes
    /// without saying.
    pub fn fit(&mut self, rows: &mut [Vec<String>], columns: Option<usize>, now: Time) {
        let Some(columns) = columns else { return };
        for cell in rows.iter_mut().flatten() {
            *cell = Shown::from(&*cell).to_string();
        }
        let before = self.widths;
        self.grow(rows);
        let all: usize = self.widths.iter().map(|width| width + GLUE).sum();
        if !self.is_brief && all + widest(rows, WHAT) <= columns {
            return;
        }
        (self.is_brief, self.widths) = (true, before);
        rows.iter_mut().for_each(|row| brief(row, now));
        let wanted = widest(rows, WHO);
        let others = self.widths[TIME].max(widest(rows, TIME))
            + self.widths[MACHINE].max(widest(rows, MACHINE))
            + 3 * GLUE;
        let room = columns.saturating_sub(others + widest(rows, WHAT)).max(LEAST[0]);
        let who = wanted.min(room).max(self.widths[WHO]);
        rows.iter_mut().for_each(|row| row[WHO] = table::start(&row[WHO], who));
        self.grow(rows);
        let all: usize = self.widths.iter().map(|width| width + GLUE).sum();
        let what = columns.saturating_sub(all).max(LEAST[1]);
        rows.iter_mut().for_each(|row| row[WHAT] = table::start(&row[WHAT], what));
    }

    fn grow(&mut self, rows: &[Vec<String>]) {
        for (column, width) in self.widths.iter_mut().enumerate() {
            *width = widest(rows, column).max(*width);
        }
    }
}

fn widest(rows: &[Vec<String>], column: usize) -> usize {
    rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
}

/// Shortens a time: `2026-11-23T20:00:05Z` is `11-23T20:00Z` in its year, and `2026-11-23`
/// afterwards.
pub fn moment(time: &str, now: Time) -> String {
    let (date, clock) = time.split_once('T').unwrap_or((time, ""));
    let year = now.to_string().chars().take("2026-".len()).collect::<String>();
    match (date.strip_prefix(&year), clock.get(..5)) {
        (Some(day), Some(minute)) => format!("{day}T{minute}Z"),
        (Some(_), None) | (None, _) => date.to_owned(),
    }
}

/// Says the same in fewer words.
fn brief(row: &mut [String], now: Time) {
    row[TIME] = moment(&row[TIME], now);
    let who = &row[WHO];
    // The number of a process says nothing once it has ended.
    let numbered = who.find('[').zip(who.find(']')).filter(|(open, close)| {
        open < close && who[open + 1..*close].bytes().all(|byte| byte.is_ascii_digit())
    });
    if let Some((open, close)) = numbered {
        row[WHO] = format!("{}{}", &who[..open], &who[close + 1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::HEADER;
    use super::*;

    const COPY: [&str; 4] = [
        "2026-11-23T20:00:00Z",
        "vps",
        "agent 10.8.0.2",
        "read secret/jjeco/api-keys v2 (delivered)",
    ];
    const READ: [&str; 4] = [
        "2026-11-23T20:00:05Z",
        "rtx1080",
        "python3[81213] jonas in ghost.service",
        "read secret/jjeco/api-keys v2",
    ];
    const OLD: [&str; 4] = ["2025-12-31T20:00:05Z", "thinkpad", "vault[7] jonas", "wrote a v2"];

    fn fitted(batches: &[&[[&str; 4]]], columns: Option<usize>) -> Vec<String> {
        let now = Time::from_micros(1_795_464_000_000_000);
        let (mut narrow, mut table) = (Narrow::default(), table::Growing::new(&HEADER));
        let mut lines = Vec::new();
        for batch in batches {
            let mut rows: Vec<Vec<String>> =
                batch.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
            narrow.fit(&mut rows, columns, now);
            lines.extend(table.rows(rows).unwrap().lines().map(str::to_owned));
        }
        lines
    }

    #[test]
    fn no_row_wraps_and_a_pipe_has_it_all() {
        let all = [COPY, READ, OLD];
        let whole = fitted(&[&all], None);
        assert!(whole[2].contains("python3[81213] jonas in ghost.service  read"), "{whole:?}");
        assert_eq!(fitted(&[&all], Some(140)), whole);
        for columns in [60, 70, 80, 100, 108] {
            for batches in [&[&all[..]][..], &[&all[..1], &all[1..2], &all[2..]]] {
                let lines = fitted(batches, Some(columns));
                for line in &lines[batches.len() - 1..] {
                    assert!(line.chars().count() <= columns, "{columns}: {lines:#?}");
                }
            }
        }
        insta::assert_snapshot!(fitted(&[&all], Some(80)).join("\n"), @r"
        TIME          MACHINE   WHO               WHAT
        11-23T20:00Z  vps       agent 10.8.0.2    read secret/jjeco/api-keys v2 (delive…
        11-23T20:00Z  rtx1080   python3 jonas i…  read secret/jjeco/api-keys v2
        2025-12-31    thinkpad  vault jonas       wrote a v2
        ");
    }
}
