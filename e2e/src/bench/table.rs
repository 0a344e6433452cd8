//! How figures are shown: rows of text go in, aligned lines come out.

use std::fmt;

/// A table whose first column is left-aligned and whose others are right-aligned, as figures are read.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn with_head(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&title| title.to_owned()).collect()],
        }
    }

    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                match column {
                    0 => write!(formatter, "{cell:<width$}")?,
                    _ => write!(formatter, "  {cell:>width$}")?,
                }
            }
            writeln!(formatter)?;
            if number == 0 {
                let line = widths.iter().map(|width| "-".repeat(*width));
                writeln!(formatter, "{}", line.collect::<Vec<_>>().join("  "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn names_stand_left_and_figures_right() {
        let mut table = Table::with_head(&["what", "n"]);
        table.push(vec!["a longer name".into(), "12".into()]);
        assert_eq!(
            table.to_string(),
            "what            n\n-------------  --\na longer name  12\n"
        );
    }
}
