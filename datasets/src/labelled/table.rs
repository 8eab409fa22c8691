//! Tables of texts and labels.

use crate::labelled::classes::Builder;
use crate::report::{ReadReport, shown};
use crate::table::Table;

/// Columns of a table.
const COLUMNS: [&str; 2] = ["text", "label"];
/// Maximum bytes of a label. Longer ones are probably texts.
const MAX_LABEL: usize = 256;

/// Adds the texts of a table, or returns a description of the problem.
pub(super) fn read(text: &str, texts: &mut Builder, report: &mut ReadReport) -> Result<(), String> {
    let table = Table::new(text, &COLUMNS)?;
    if table.separator() != "`,`" {
        report.note(format!("fields end at {}", table.separator()));
    }
    let [text_column, label_column] = columns(&table)?;
    let n_before = texts.len();
    for record in table.records() {
        let record = record?;
        let label = record.fields[label_column].trim();
        if label.is_empty() || label.len() > MAX_LABEL {
            let line = record.line;
            return Err(match label.len() {
                0 => format!("the record in line {line} has no label"),
                n => format!(
                    "the label in line {line} has {n} bytes, and at most {MAX_LABEL} are allowed: `{}`",
                    shown(label)
                ),
            });
        }
        texts.push(&record.fields[text_column], label);
    }
    match texts.len() == n_before {
        true => Err("it has no record after its first line".to_owned()),
        false => Ok(()),
    }
}

/// Indices of the columns.
fn columns(table: &Table) -> Result<[usize; 2], String> {
    let index = |column: &str| {
        table.column(column).ok_or_else(|| {
            let names: Vec<String> = table.columns().take(20).map(shown).collect();
            format!(
                "its first line names no column `{column}`, but {}; fields may end at tabs, `,`, `;` or `|`",
                names.join(", ")
            )
        })
    };
    Ok([index(COLUMNS[0])?, index(COLUMNS[1])?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts with their labels.
    type Records = Vec<(String, String)>;

    /// The records of a table, and the notes.
    fn table(text: &str) -> Result<(Records, Vec<String>), String> {
        let (mut texts, mut report) = (Builder::default(), ReadReport::default());
        read(text, &mut texts, &mut report)?;
        let texts = texts.build(report).map_err(|error| error.to_string())?;
        let read = texts
            .iter()
            .map(|(text, class)| (text.to_owned(), texts.classes()[class].clone()));
        Ok((read.collect(), texts.report().notes))
    }

    fn records(text: &str) -> Records {
        table(text).expect("it is a table").0
    }

    fn expected<const N: usize>(records: [(&str, &str); N]) -> Records {
        records
            .map(|(text, label)| (text.to_owned(), label.to_owned()))
            .to_vec()
    }

    #[test]
    fn separators_are_distinguished() {
        let tabs = "label\tother\ttext\nx\t1\ta \"quote, here\ny\t\tz\n";
        assert_eq!(
            records(tabs),
            expected([("a \"quote, here", "x"), ("z", "y")])
        );
        let commas = "Text,LABEL\r\n\"two\nlines, \"\"quoted\"\"\",x\r\n5\" disk,y\r\n";
        assert_eq!(
            records(commas),
            expected([("two\nlines, \"quoted\"", "x"), ("5\" disk", "y")])
        );
        for (text, note) in [
            (
                "text;label\na, b;x\n\"c; d\";y\n",
                Some("fields end at `;`"),
            ),
            (
                "sep=;\ntext;label\na, b;x\n\"c; d\";y\n",
                Some("fields end at `;`"),
            ),
            (
                "\"sep=|\"\r\ntext|label\r\na, b|x\r\nc; d|y\r\n",
                Some("fields end at `|`"),
            ),
            (
                "sep=\t\ntext\tlabel\na, b\tx\nc; d\ty\n",
                Some("fields end at tabs"),
            ),
            ("sep=,\n\"text\", \"label\"\n\"a, b\",x\nc; d,y\n", None),
        ] {
            let (read, notes) = table(text).expect("it is a table");
            assert_eq!(read, expected([("a, b", "x"), ("c; d", "y")]), "{text}");
            assert_eq!(notes.first().map(String::as_str), note);
        }
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named() {
        let long = format!("text,label\nx,{}\n", "y".repeat(MAX_LABEL + 1));
        for (table, found) in [
            ("a,b\nx,y\n", "no column `text`, but a, b"),
            ("text,b\nx,y\n", "no column `label`, but text, b"),
            ("text,label\nx,y\nz, \n", "line 3 has no label"),
            ("text,label\nx,y\nz\n", "line 3 has 1 fields"),
            ("sep=,\ntext,label\nx,y\nz\n", "line 4 has 1 fields"),
            ("text,label\n", "no record"),
            ("", "no column `text`"),
            (&long, "line 2 has 257 bytes"),
        ] {
            let error = super::tests::table(table).expect_err("something is wrong");
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn open_quotes_are_named_by_their_line() {
        let unclosed = "the quote that opens in line 3 is not closed";
        let continues =
            "the quote that opens in line 3 is closed in line 5, but the field continues";
        for (table, found) in [
            ("text,label\na,x\n\"b,x\nc,y\n", unclosed),
            ("text,label\n\"a\nb\",x\n\"", "line 4 is not closed"),
            ("sep=,\ntext,label\n\"b,x\n", unclosed),
            ("text,label\na,x\n\"b,x\nc,y\n\"d, e\",y\n", continues),
            ("label,text\nx,a\nx,\"b\ny,c\ny,\"d, e\"\n", continues),
            (
                "text,label\na,x\n\"say \\\"b\\\"\",y\n",
                "line 3 is closed in line 3",
            ),
        ] {
            let error = super::tests::table(table).expect_err("a quote is open");
            assert!(error.contains(found), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(text in "(text,label\n|sep=;\ntext;label\n)?([a\",;\r\n\t|é]{0,40})") {
            let _ = table(&text);
        }

        #[test]
        fn written_tables_are_read(records in prop::collection::vec(("[a\",\n é]{0,8}", "[b\"é]{1,3}"), 1..8)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(COLUMNS).expect("memory");
            for (text, label) in &records {
                writer.write_record([text, label]).expect("memory");
            }
            let text = String::from_utf8(writer.into_inner().expect("memory")).expect("UTF-8");
            if let Ok((read, _)) = table(&text) {
                prop_assert_eq!(read, records);
            } else {
                // Only labels that are nearly all different are refused, and there are few records
                // here.
                prop_assert!(false, "{}", text);
            }
        }
    }
}
