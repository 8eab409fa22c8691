//! ListOps (Nangia and Bowman, 2018): nested lists of digits, and their values.
//!
//! A list is written `[MAX 4 [MIN 7 2 ] 0 ]`, with a parenthesis around every step of its parse
//! tree in the benchmark's files, which mean nothing more and are left out, as the benchmark does.
//! In a row, a symbol is a byte: a digit or a closing bracket itself, an operator with its opening
//! bracket its last letter.

use std::path::Path;

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::labelled::{BYTES, ClassifiedBuilder, ClassifiedRows};
use crate::long_range::LongRangeTask;
use crate::report::{ReadReport, shown};
use crate::storage::{as_str, read_text};
use crate::table::Table;

/// Operators as they are written, each with its symbol.
pub(super) const OPERATORS: [(&str, u8); 4] = [
    ("[MIN", b'N'),
    ("[MAX", b'X'),
    ("[MED", b'D'),
    ("[SM", b'M'),
];
/// The symbol at the end of a list.
pub(super) const CLOSE: u8 = b']';
/// Columns of the files.
const COLUMNS: [&str; 2] = ["Source", "Target"];

/// The symbols of a list, from the benchmark's notation. Spaces before brackets may be missing.
///
/// # Errors
/// The first word that is not a symbol.
pub fn list_symbols(source: &str) -> Result<Vec<u8>, String> {
    let mut symbols = Vec::new();
    let is_between = |c: char| c.is_whitespace() || matches!(c, '(' | ')');
    for word in source.split(is_between) {
        let bare = word.trim_end_matches(']');
        match *bare.as_bytes() {
            [] => {}
            [digit @ b'0'..=b'9'] => symbols.push(digit),
            _ => match OPERATORS.iter().find(|(written, _)| *written == bare) {
                Some((_, operator)) => symbols.push(*operator),
                None => {
                    return Err(format!(
                        "`{}` is neither a digit nor an operator",
                        shown(bare)
                    ));
                }
            },
        }
        symbols.extend(word.bytes().skip(bare.len()));
    }
    Ok(symbols)
}

/// Symbols in the benchmark's notation, without parentheses.
pub fn list_notation(symbols: &[u8]) -> String {
    let words = symbols.iter().map(|symbol| {
        let operator = OPERATORS.iter().find(|(_, own)| own == symbol);
        operator.map_or_else(
            || char::from(*symbol).to_string(),
            |(word, _)| (*word).to_owned(),
        )
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The value of a list, a digit: the least (`[MIN`), the largest (`[MAX`) or the sum modulo 10
/// (`[SM`) of its elements, or their median (`[MED`), of an even number the mean of the two in the
/// middle, rounded down.
///
/// # Errors
/// What is wrong with the symbols: an empty list, one that is not closed, or something after its
/// end.
pub fn list_value(symbols: &[u8]) -> Result<usize, String> {
    let mut open: Vec<List> = Vec::new();
    let mut whole = None;
    for &symbol in symbols {
        if whole.is_some() {
            return Err("it continues after its end".to_owned());
        }
        let value = match symbol {
            b'0'..=b'9' => usize::from(symbol - b'0'),
            CLOSE => {
                let list = open.pop().ok_or("a bracket closes no list")?;
                list.value().ok_or("a list is empty")?
            }
            operator => {
                open.push(List::new(operator));
                continue;
            }
        };
        match open.last_mut() {
            Some(list) => list.counts[value] += 1,
            None => whole = Some(value),
        }
    }
    match (open.len(), whole) {
        (0, Some(value)) => Ok(value),
        (0, None) => Err("it is empty".to_owned()),
        (n, _) => Err(format!("{n} of its lists are not closed")),
    }
}

/// A list: the order of its elements does not matter.
#[derive(Debug)]
struct List {
    operator: u8,
    /// How many of its elements have each value.
    counts: [usize; 10],
}

impl List {
    fn new(operator: u8) -> Self {
        Self {
            operator,
            counts: [0; 10],
        }
    }

    /// Its value; none if it is empty.
    fn value(&self) -> Option<usize> {
        let n: usize = self.counts.iter().sum();
        let last = n.checked_sub(1)?;
        Some(match self.operator {
            b'N' => self.sorted(0),
            b'X' => self.sorted(last),
            b'D' => (self.sorted(last / 2) + self.sorted(n / 2)) / 2,
            _ => {
                let sum = (0..10).map(|value| value * (self.counts[value] % 10));
                sum.sum::<usize>() % 10
            }
        })
    }

    /// Its element at an index in ascending order.
    fn sorted(&self, index: usize) -> usize {
        let mut n = 0;
        let is_reached = |count: &usize| {
            n += count;
            n > index
        };
        let value = self.counts.iter().position(is_reached);
        value.expect("the index is below their number")
    }
}

/// What is seen of a list without looking into the lists in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutermostList {
    /// The symbol of its operator.
    pub operator: u8,
    /// The operator's value of those of its elements that are digits; none if there are none.
    pub of_digits: Option<usize>,
    /// How many of its elements are lists.
    pub n_lists: usize,
}

impl OutermostList {
    /// The outermost list of these symbols; none if they do not begin with an operator.
    pub fn of(symbols: &[u8]) -> Option<Self> {
        let (&operator, inside) = symbols.split_first()?;
        let is_operator = |symbol: u8| OPERATORS.iter().any(|(_, own)| *own == symbol);
        if !is_operator(operator) {
            return None;
        }
        let mut list = List::new(operator);
        let (mut depth, mut n_lists) = (0_usize, 0);
        for &symbol in inside {
            match symbol {
                CLOSE if depth == 0 => break,
                CLOSE => depth -= 1,
                b'0'..=b'9' if depth == 0 => list.counts[usize::from(symbol - b'0')] += 1,
                symbol if is_operator(symbol) => {
                    n_lists += usize::from(depth == 0);
                    depth += 1;
                }
                _ => {}
            }
        }
        Some(Self {
            operator,
            of_digits: list.value(),
            n_lists,
        })
    }
}

/// Reads one of the benchmark's files. The target of each list must be its value.
pub(super) fn open(
    folder: &Path,
    part: SplitName,
    max_length: usize,
) -> Result<ClassifiedRows, DatasetError> {
    let path = folder.join(match part {
        SplitName::Train => "basic_train.tsv",
        SplitName::Valid => "basic_val.tsv",
        SplitName::Test => "basic_test.tsv",
    });
    let mut report = ReadReport::at(&path);
    let mut builder = ClassifiedBuilder::new(BYTES, max_length);
    let bytes = read_text(&path, &mut report)?;
    read(as_str(&bytes), &mut builder).map_err(|found| {
        DatasetError::malformed(
            &path,
            "a table of ListOps with the columns Source and Target",
            found,
        )
    })?;
    builder.note_cuts(&mut report);
    Ok(builder.build(LongRangeTask::ListOps.classes(), report))
}

fn read(text: &str, builder: &mut ClassifiedBuilder) -> Result<(), String> {
    let table = Table::new(text, &COLUMNS)?;
    let index = |column: &str| {
        let missing = || format!("its first line names no column `{column}`");
        table.column(column).ok_or_else(missing)
    };
    let [source, target] = [index(COLUMNS[0])?, index(COLUMNS[1])?];
    for record in table.records() {
        let record = record?;
        let line = record.line;
        let in_line = |found: String| format!("the list in line {line}: {found}");
        let symbols = list_symbols(&record.fields[source]).map_err(in_line)?;
        let value = list_value(&symbols).map_err(in_line)?;
        let target = record.fields[target].trim();
        if target.parse() != Ok(value) {
            let target = shown(target);
            return Err(format!(
                "the list in line {line} is {value}, but its target is `{target}`"
            ));
        }
        builder.push(symbols.into_iter().map(u16::from), value);
    }
    match builder.is_empty() {
        true => Err("it has no record after its first line".to_owned()),
        false => Ok(()),
    }
}
