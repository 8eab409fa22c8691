//! ListOps without files.

use burn::config::Config;
use rand::Rng;
use rayon::prelude::*;

use super::listops::{CLOSE, OPERATORS, list_value};
use crate::error::{DatasetError, check, unless_zero};
use crate::holdout::SplitName;
use crate::holdout::key;
use crate::labelled::{BYTES, ClassifiedBuilder, ClassifiedRows};
use crate::long_range::LongRangeTask;
use crate::report::ReadReport;
use crate::sequences::random::{below, keyed_rng};

/// One of this many elements is a list, as long as lists may be nested deeper.
const LIST_EVERY: usize = 4;
/// Trees that are drawn to see how many have an allowed length, or fewer of long ones.
const MAX_PROBED: usize = 10_000;
/// Maximum symbols in them: a second or two.
const MAX_PROBED_SYMBOLS: usize = 200_000_000;
/// At least one of this many must have an allowed length: to draw a list then takes milliseconds.
const ALLOWED_EVERY: usize = 1_000;
/// Maximum of `max_length`.
const MAX_LENGTH: usize = 1 << 20;
/// Maximum symbols in all lists of a part: 4 GiB as tokens.
const MAX_SYMBOLS: usize = 1 << 31;

/// Configuration of generated [`ListOps`]; by default that of the benchmark.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct ListOpsConfig {
    /// Maximum depth of the parse tree, in which a digit has depth 1. At least 2.
    #[config(default = 10)]
    pub max_depth: usize,
    /// Maximum elements of a list; it has 2 or more. At least 2.
    #[config(default = 10)]
    pub max_args: usize,
    /// Lists have more symbols than this.
    #[config(default = 500)]
    pub min_length: usize,
    /// Lists have fewer symbols than this. At most 1,048,576.
    #[config(default = 2000)]
    pub max_length: usize,
    /// Lists to train on.
    #[config(default = 96_000)]
    pub n_train: usize,
    /// Lists to validate on.
    #[config(default = 2_000)]
    pub n_valid: usize,
    /// Lists to test on.
    #[config(default = 2_000)]
    pub n_test: usize,
    /// Seed of all lists.
    #[config(default = 0)]
    pub seed: u64,
}

impl ListOpsConfig {
    /// Creates the task.
    ///
    /// # Errors
    /// [`Setting`](crate::SizeError::Setting) for a number that is not allowed, or lengths that the
    /// drawn trees do not have.
    pub fn init(&self) -> Result<ListOps, DatasetError> {
        let (depth, way_out) = (self.max_depth, "10 as in the benchmark");
        check(depth >= 2, "max_depth", depth, "at least 2", way_out)?;
        let args = self.max_args;
        check(args >= 2, "max_args", args, "at least 2", way_out)?;
        let length = self.max_length;
        let way_out = "2000 as in the benchmark";
        let is_allowed = (2..=MAX_LENGTH).contains(&length);
        check(is_allowed, "max_length", length, "2 to 1048576", way_out)?;
        let most = MAX_SYMBOLS / length;
        for (setting, n) in [
            ("n_train", self.n_train),
            ("n_valid", self.n_valid),
            ("n_test", self.n_test),
        ] {
            let limit = "1 to 2147483648 / max_length";
            let way_out = unless_zero(n, "fewer lists");
            check((1..=most).contains(&n), setting, n, limit, way_out)?;
        }
        check(
            self.is_often_allowed(),
            "min_length",
            self.min_length,
            "so small that at least 1 in 1,000 random trees of max_depth and max_args has a length between it and max_length",
            "lengths further apart, or deeper trees",
        )?;
        Ok(ListOps {
            config: self.clone(),
        })
    }

    /// Whether lists of allowed lengths can be drawn in little time.
    fn is_often_allowed(&self) -> bool {
        let mut rng = keyed_rng(b"listops to probe", self.seed, 0);
        let n_probed = (MAX_PROBED_SYMBOLS / self.max_length).clamp(1, MAX_PROBED);
        let mut allowed = (0..n_probed).filter_map(|_| self.draw(&mut rng));
        let n_needed = (n_probed / ALLOWED_EVERY).max(1);
        allowed.nth(n_needed - 1).is_some()
    }

    /// Draws a tree; none if its length is not allowed. One element in four is a list.
    fn draw(&self, rng: &mut impl Rng) -> Option<Vec<u8>> {
        let mut symbols = Vec::new();
        // Elements that are still to be drawn: of the root, which is one, and of each open list.
        let mut missing = vec![1_usize];
        while let Some(n) = missing.last_mut() {
            if symbols.len() >= self.max_length {
                return None;
            }
            if *n == 0 {
                missing.pop();
                if !missing.is_empty() {
                    symbols.push(CLOSE);
                }
                continue;
            }
            *n -= 1;
            if missing.len() < self.max_depth && below(rng, LIST_EVERY) == 0 {
                let (_, operator) = OPERATORS[below(rng, OPERATORS.len())];
                symbols.push(operator);
                missing.push(2 + below(rng, self.max_args - 1));
            } else {
                symbols.push(b'0' + below(rng, 10) as u8);
            }
        }
        (symbols.len() > self.min_length).then_some(symbols)
    }
}

/// Nested lists, drawn like those of the benchmark: a tree is drawn until its length is allowed,
/// and all operators and digits are equally likely.
///
/// A list of one part is in no other: a hash of a list determines its part. Within a part lists may
/// repeat, which happens only if hardly any are possible. List `i` of a part and a seed is always
/// the same.
///
/// # Example
///
/// ```
/// use reformer_datasets::SplitName;
/// use reformer_datasets::long_range::{ListOpsConfig, list_notation, list_value};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let task = ListOpsConfig::new().with_min_length(5).with_max_length(30).init()?;
/// let symbols = task.list(SplitName::Train, 7);
/// println!("{} is {}", list_notation(&symbols), list_value(&symbols).unwrap());
/// assert!(symbols.len() > 5 && symbols.len() < 30);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ListOps {
    config: ListOpsConfig,
}

impl ListOps {
    /// The symbols of a list.
    pub fn list(&self, part: SplitName, number: u64) -> Vec<u8> {
        let purpose = match part {
            SplitName::Train => b"listops to train",
            SplitName::Valid => b"listops validate",
            SplitName::Test => b"listops for test",
        };
        let mut rng = keyed_rng(purpose, self.config.seed, number);
        loop {
            match self.config.draw(&mut rng) {
                Some(symbols) if part_of(&symbols) == part => return symbols,
                _ => {}
            }
        }
    }

    /// All lists of a part, in rows of at most `max_length` tokens.
    pub fn rows(&self, part: SplitName, max_length: usize) -> ClassifiedRows {
        let n = match part {
            SplitName::Train => self.config.n_train,
            SplitName::Valid => self.config.n_valid,
            SplitName::Test => self.config.n_test,
        };
        let lists = (0..n as u64).into_par_iter();
        let lists: Vec<Vec<u8>> = lists.map(|number| self.list(part, number)).collect();
        let mut builder = ClassifiedBuilder::new(BYTES, max_length);
        for symbols in lists {
            let value = list_value(&symbols).expect("a tree is a list or a digit");
            builder.push(symbols.into_iter().map(u16::from), value);
        }
        let mut report = ReadReport::new("generated ListOps");
        builder.note_cuts(&mut report);
        builder.build(LongRangeTask::ListOps.classes(), report)
    }
}

/// The part that a list belongs to: an eighth of all lists each is for validation and for the test.
fn part_of(symbols: &[u8]) -> SplitName {
    match key(symbols) % 8 {
        0 => SplitName::Valid,
        1 => SplitName::Test,
        _ => SplitName::Train,
    }
}
