//! Columns of text. Widths count characters, as Go's tables do. What a cell says is the command's;
//! that it stays in its cell is decided here.

use crate::shown::Shown;

/// Lays rows out under a header in capitals, without dashes.
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> Shown {
    let mut all = vec![header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    all.extend(rows.iter().cloned());
    columns(&all, "  ")
}

/// Lays rows out in columns joined by `glue`, the last one unpadded; a line end after each row but
/// the last.
pub fn columns(rows: &[Vec<String>], glue: &str) -> Shown {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    laid_out(rows, &mut widths, glue)
}

/// Returns how wide the widest line is.
pub fn width(table: &Shown) -> usize {
    table.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

/// Keeps the beginning of a text that is longer than `most` characters.
pub fn start(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Keeps the end of a text that is longer than `most` characters: of a path it says most.
pub fn end(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count + 1 - most.max(1)).collect();
    format!("…{kept}")
}

/// A table whose rows come by and by: columns grow when a wider cell comes.
pub struct Growing {
    header: Option<Vec<String>>,
    widths: Vec<usize>,
}

impl Growing {
    /// Starts a table; the header comes with the first rows.
    pub fn new(header: &[&str]) -> Self {
        let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { widths: vec![0; header.len()], header: Some(header) }
    }

    /// Lays the next rows out, aligned with each other; `None` for none.
    pub fn rows(&mut self, next: Vec<Vec<String>>) -> Option<Shown> {
        if next.is_empty() {
            return None;
        }
        let rows: Vec<_> = self.header.take().into_iter().chain(next).collect();
        Some(laid_out(&rows, &mut self.widths, "  "))
    }
}

fn laid_out(rows: &[Vec<String>], widths: &mut [usize], glue: &str) -> Shown {
    let rows: Vec<Vec<Shown>> =
        rows.iter().map(|row| row.iter().map(Shown::from).collect()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if n + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[n] - cell.chars().count()));
                line.push_str(glue);
            }
        }
        lines.push(line);
    }
    Shown::lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_come_together_are_aligned_with_those_before() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut table = Growing::new(&["OP", "PATH"]);
        assert_eq!(table.rows(Vec::new()), None);
        let first = table.rows(vec![row(["put", "secret/a"]), row(["local_read", "b"])]);
        insta::assert_snapshot!(first.unwrap(), @r"
        OP          PATH
        put         secret/a
        local_read  b
        ");
        assert_eq!(table.rows(vec![row(["put", "c"])]).unwrap(), "put         c");
    }

    #[test]
    fn a_cell_forges_no_row() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["/a\u{1b}[2K\r\nvps  /b", "ok"]), row(["/c\u{202E}\u{9b}", "ok"])];
        insta::assert_snapshot!(plain(&["TARGET", "HOOK"], &rows), @r"
        TARGET                  HOOK
        /a\u001b[2K\r\nvps  /b  ok
        /c\u202e\u009b          ok
        ");
    }
}
