//! Markdown tables, and figures as a person reads them.

use std::fmt;

/// A Markdown table whose columns stand below one another in plain text too.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Whether it has headings alone.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        self.rows.push(cells.into_iter().collect());
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let widths = self.rows.iter().map(|row| cell(row, column).chars().count());
                widths.max().unwrap_or(0).max(3)
            })
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let text = cell(row, column);
                // The first column has names, the others have figures.
                match column {
                    0 => write!(f, "| {text:<width$} ")?,
                    _ => write!(f, "| {text:>width$} ")?,
                }
            }
            writeln!(f, "|")?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let colon = if column == 0 { "-" } else { ":" };
                    write!(f, "| {}{colon} ", "-".repeat(width - 1))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// A duration.
pub fn ns(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// So many each second.
pub fn rate(per_second: f64) -> String {
    match per_second {
        1e6.. => format!("{:.2} M", per_second / 1e6),
        1e4.. => format!("{:.0} k", per_second / 1e3),
        1e3.. => format!("{:.1} k", per_second / 1e3),
        _ => format!("{per_second:.0}"),
    }
}

/// Memory.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// One figure by another, where both are there.
pub fn ratio(figure: f64, to: f64) -> String {
    if to > 0.0 { format!("{:.2}", figure / to) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_units() {
        assert_eq!(
            [ns(999), ns(1_000), ns(2_600_000), ns(1_500_000_000)],
            ["999 ns", "1.0 µs", "2.6 ms", "1.5 s"]
        );
        assert_eq!(
            [rate(3_680_000.0), rate(962_000.0), rate(9_010.0), rate(12.4)],
            ["3.68 M", "962 k", "9.0 k", "12"]
        );
        assert_eq!([ratio(3.0, 2.0), ratio(3.0, 0.0)], ["1.50", "-"]);
    }

    #[test]
    fn columns_stand_below_one_another() {
        let mut table = Table::new(&["engine", "p50"]);
        table.row(["a".into(), "7.3 µs".into()]).row(["longer".into(), "30 ns".into()]);
        let expected = "| engine |    p50 |\n| ------ | -----: |\n| a      | 7.3 µs |\n| longer |  30 ns |\n";
        assert_eq!(table.to_string(), expected);
    }
}
