//! Tables, in Markdown, HTML and CSV.

use std::iter;

use reformer_train::report::escape;

/// Rows of text below column names.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: vec![],
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have a cell for each column.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// In Markdown; columns of numbers are aligned to the right.
    pub(crate) fn markdown(&self) -> String {
        let is_number = |cell: &str| {
            let cell = cell.trim_start_matches('>').replace([' ', ',', '%'], "");
            cell.is_empty() || cell == "-" || cell.parse::<f64>().is_ok()
        };
        let rule = |column: usize| {
            let mut cells = self.rows.iter().map(|row| &row[column]);
            if cells.all(|cell| is_number(cell)) {
                "---:"
            } else {
                "---"
            }
        };
        let rules: Vec<&str> = (0..self.columns.len()).map(rule).collect();
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.columns.iter().map(String::as_str).collect());
        text += &format!("|{}|\n", rules.join("|"));
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str).collect());
        }
        text
    }

    /// In HTML.
    pub(crate) fn html(&self) -> String {
        let line = |tag: &str, cells: &[String]| {
            let cells = cells
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let rows = self.rows.iter().map(|row| line("td", row));
        let rows: String = rows.collect();
        format!("<table>\n{}{rows}</table>", line("th", &self.columns))
    }

    /// As CSV.
    pub(crate) fn csv(&self) -> String {
        csv_text(iter::once(&self.columns).chain(&self.rows))
    }
}

/// A number with this many decimals, or a dash where there is none.
pub(crate) fn cell(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Rows of cells as CSV (RFC 4180).
///
/// # Panics
/// If a row has not as many cells as the first.
pub(super) fn csv_text<R: IntoIterator<Item: AsRef<[u8]>>>(
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .write_record(row)
            .expect("rows of one length, written to memory");
    }
    let bytes = writer.into_inner().expect("memory takes everything");
    String::from_utf8(bytes).expect("cells are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_every_cell() {
        let mut table = Table::new(["model", "bits"]);
        table.row(["LSH, 4 rounds", "2.5"]);
        table.row(["a \"full\" one", "-"]);
        assert_eq!(
            table.markdown(),
            "| model | bits |\n|---|---:|\n| LSH, 4 rounds | 2.5 |\n| a \"full\" one | - |\n"
        );
        assert_eq!(
            table.csv(),
            "model,bits\n\"LSH, 4 rounds\",2.5\n\"a \"\"full\"\" one\",-\n"
        );
    }
}
