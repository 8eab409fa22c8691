//! Tables of texts and labels.

use csv::{ReaderBuilder, StringRecord};

use crate::labelled::classes::Builder;
use crate::report::{ReadReport, shown};

/// Columns of a table.
const COLUMNS: [&str; 2] = ["text", "label"];
/// What may stand between fields. Where several would do, the first is it.
const SEPARATORS: [char; 4] = ['\t', ',', ';', '|'];
/// Bytes of a label. Longer ones are texts.
const MAX_LABEL: usize = 256;

/// Adds the texts of a table, or tells what is wrong with it.
pub(super) fn read(text: &str, texts: &mut Builder, report: &mut ReadReport) -> Result<(), String> {
    let (separator, text, first_line) = separator(text);
    if separator != ',' {
        report.note(format!("fields end at {}", name(separator)));
    }
    // In tables with tabs quotes mean nothing.
    let has_quotes = separator != '\t';
    if has_quotes {
        check_quotes(text, separator, first_line)?;
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(separator as u8)
        .quoting(has_quotes)
        .from_reader(text.as_bytes());
    let line = |position: Option<&csv::Position>| {
        position.map_or(0, csv::Position::line) as usize + first_line - 1
    };
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let [text_column, label_column] = columns(&header)?;
    let n_before = texts.len();
    for record in reader.records() {
        let record = record.map_err(|error| match error.kind() {
            csv::ErrorKind::UnequalLengths {
                pos,
                expected_len,
                len,
            } => format!(
                "the record in line {} has {len} fields, but its first line has {expected_len}",
                line(pos.as_ref())
            ),
            _ => error.to_string(),
        })?;
        let label = record[label_column].trim();
        if label.is_empty() || label.len() > MAX_LABEL {
            let line = line(record.position());
            return Err(match label.len() {
                0 => format!("the record in line {line} has no label"),
                n => format!(
                    "the label in line {line} has {n} bytes, and may have {MAX_LABEL}: `{}`",
                    shown(label)
                ),
            });
        }
        texts.push(&record[text_column], label);
    }
    match texts.len() == n_before {
        true => Err("it has no record after its first line".to_owned()),
        false => Ok(()),
    }
}

fn name(separator: char) -> String {
    match separator {
        '\t' => "tabs".to_owned(),
        other => format!("`{other}`"),
    }
}

/// What stands between the fields, the table without a line that only says so (`sep=;`, as spreadsheets write it), and
/// the number of its first line.
fn separator(text: &str) -> (char, &str, usize) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let said = first.trim_end().trim_matches('"').strip_prefix("sep=");
    let said = said.and_then(|said| match said {
        // The end of the line was trimmed.
        "" if first.contains("sep=\t") => Some('\t'),
        said => said.chars().next().filter(|_| said.chars().count() == 1),
    });
    if let Some(said) = said.filter(char::is_ascii) {
        return (said, rest, 2);
    }
    let names_columns = |separator: &char| {
        let names: Vec<&str> = first.split(*separator).map(column_name).collect();
        let is_there = |column: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
        COLUMNS.iter().all(is_there)
    };
    let named = SEPARATORS.into_iter().find(names_columns);
    let has_tabs = if first.contains('\t') { '\t' } else { ',' };
    (named.unwrap_or(has_tabs), text, 1)
}

/// A column's name without blanks and without quotes, which mean nothing after a blank.
fn column_name(field: &str) -> &str {
    field.trim().trim_matches('"').trim()
}

/// Where the columns are.
fn columns(header: &StringRecord) -> Result<[usize; 2], String> {
    let place = |column: &str| {
        let is_it = |name: &str| column_name(name).eq_ignore_ascii_case(column);
        header.iter().position(is_it).ok_or_else(|| {
            let names: Vec<String> = header.iter().take(20).map(shown).collect();
            format!(
                "its first line names no column `{column}`, but {}; fields may end at tabs, `,`, `;` or `|`",
                names.join(", ")
            )
        })
    };
    Ok([place(COLUMNS[0])?, place(COLUMNS[1])?])
}

/// That each field that starts with a quote ends with one: else a quote that was forgotten, or that is not doubled, makes
/// one field of all records up to the next quote.
fn check_quotes(text: &str, separator: char, first_line: usize) -> Result<(), String> {
    let (bytes, separator) = (text.as_bytes(), separator as u8);
    let (mut line, mut place, mut starts_field) = (first_line, 0, true);
    while let Some(&byte) = bytes.get(place) {
        place += 1;
        if byte != b'"' || !starts_field {
            line += usize::from(byte == b'\n');
            starts_field = matches!(byte, b'\n' | b'\r') || byte == separator;
            continue;
        }
        let opened = line;
        loop {
            match (bytes.get(place), bytes.get(place + 1)) {
                (None, _) => {
                    return Err(format!(
                        "the quote that opens in line {opened} is not closed"
                    ));
                }
                (Some(b'"'), Some(b'"')) => place += 1,
                (Some(b'"'), None | Some(b'\r' | b'\n')) => break,
                (Some(b'"'), Some(&next)) if next == separator => break,
                (Some(b'"'), _) => {
                    return Err(format!(
                        "the quote that opens in line {opened} is closed in line {line}, but the field goes on \
                         there: a quote in a field must be doubled"
                    ));
                }
                (Some(&inside), _) => line += usize::from(inside == b'\n'),
            }
            place += 1;
        }
        place += 1;
        starts_field = false;
    }
    Ok(())
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
    fn separators_are_told_apart() {
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
        let goes_on = "the quote that opens in line 3 is closed in line 5, but the field goes on";
        for (table, found) in [
            ("text,label\na,x\n\"b,x\nc,y\n", unclosed),
            ("text,label\n\"a\nb\",x\n\"", "line 4 is not closed"),
            ("sep=,\ntext,label\n\"b,x\n", unclosed),
            ("text,label\na,x\n\"b,x\nc,y\n\"d, e\",y\n", goes_on),
            ("label,text\nx,a\nx,\"b\ny,c\ny,\"d, e\"\n", goes_on),
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
                // Only labels that are nearly all different are refused, and there are few records.
                prop_assert!(false, "{}", text);
            }
        }
    }
}
