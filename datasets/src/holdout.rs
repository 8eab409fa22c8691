//! The parts of data, and the choice of the records that are held out for validation.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The purpose of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SplitName {
    /// To train the model.
    Train,
    /// To choose among models and for early stopping.
    Valid,
    /// To measure the chosen model, once.
    Test,
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// The part that the name of a file suggests, which begins with `val` or `dev`, or with `test`.
pub(crate) fn part_of(file: &Path) -> SplitName {
    let name = file.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    if ["val", "dev"].iter().any(|start| name.starts_with(start)) {
        return SplitName::Valid;
    }
    match name.starts_with("test") {
        true => SplitName::Test,
        false => SplitName::Train,
    }
}

/// Another seed would choose others. It is not a setting, so that all runs on the same data
/// validate on the same part.
const SEED: u64 = 0x5265_666f_726d_6572;

/// The key of a record: equal records have the same key.
pub(crate) fn key(record: &[u8]) -> u128 {
    xxh3_128_with_seed(record, SEED)
}

/// Splits records, each with its [`key`] and its class, into training and validation: of every
/// `every` different keys of a class, about one is held out with all its records, so that no key is
/// in both parts. Of a class with two keys or more, at least one key is held out and at least one
/// is not; over all classes, at least one is held out.
///
/// The choice depends on the keys only, which are hashes: it does not depend on their order.
///
/// # Errors
/// The number of different keys, if it is less than two.
pub(crate) fn hold_out(
    records: impl Iterator<Item = (u128, usize)>,
    every: usize,
) -> Result<[Vec<usize>; 2], usize> {
    let mut numbers = HashMap::new();
    let mut classes: Vec<Vec<(u128, usize)>> = Vec::new();
    let of_records: Vec<usize> = records
        .map(|(key, class)| {
            let next = numbers.len();
            *numbers.entry(key).or_insert_with(|| {
                if classes.len() <= class {
                    classes.resize(class + 1, Vec::new());
                }
                classes[class].push((key, next));
                next
            })
        })
        .collect();
    if numbers.len() < 2 {
        return Err(numbers.len());
    }
    let mut validates = vec![false; numbers.len()];
    let mut n_valid = 0;
    for keys in &mut classes {
        keys.sort_unstable();
        let most = keys.len().saturating_sub(1);
        let n_of_class = (keys.len() / every.max(1)).max(1).min(most);
        keys[..n_of_class]
            .iter()
            .for_each(|&(_, number)| validates[number] = true);
        n_valid += n_of_class;
    }
    if n_valid == 0 {
        // Each class has a single key.
        let first = classes.into_iter().flatten().min();
        first
            .iter()
            .for_each(|&(_, number)| validates[number] = true);
    }
    let (valid, train) = (0..of_records.len()).partition(|&record| validates[of_records[record]]);
    Ok([train, valid])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(records: &[(String, usize)], every: usize) -> Result<[Vec<usize>; 2], usize> {
        let records = records.iter();
        hold_out(
            records.map(|(text, class)| (key(text.as_bytes()), *class)),
            every,
        )
    }

    #[test]
    fn every_class_validates_whatever_the_order() {
        let record = |i: usize| (format!("note {i}"), i % 5);
        let records: Vec<_> = (0..100).map(record).collect();
        let [train, valid] = parts(&records, 10).expect("there are enough");
        assert_eq!((train.len(), valid.len()), (90, 10));
        let of_class = |class: usize| valid.iter().filter(|&&i| i % 5 == class).count();
        assert_eq!([0, 1, 2, 3, 4].map(of_class), [2; 5]);
        // The same records in another order.
        let reversed: Vec<_> = (0..100).rev().map(record).collect();
        let [_, of_reversed] = parts(&reversed, 10).expect("there are enough");
        let mut of_reversed: Vec<_> = of_reversed.into_iter().map(|i| 99 - i).collect();
        of_reversed.sort_unstable();
        assert_eq!(of_reversed, valid);
    }

    #[test]
    fn few_records_are_divided_or_counted() {
        let of = |records: &[(&str, usize)]| {
            let records: Vec<_> = records
                .iter()
                .map(|(text, class)| (text.to_string(), *class))
                .collect();
            parts(&records, 10).map(|parts| parts.map(|part| part.len()))
        };
        assert_eq!(of(&[]), Err(0));
        assert_eq!(of(&[("a", 0), ("a", 1)]), Err(1));
        assert_eq!(of(&[("a", 0), ("b", 1)]), Ok([1, 1]));
        assert_eq!(of(&[("a", 0), ("b", 0), ("c", 1), ("d", 1)]), Ok([2, 2]));
    }

    proptest! {
        #[test]
        fn no_key_is_in_both_parts(
            records in prop::collection::vec(("[a-d]{1,3}", 0_usize..4), 0..60),
            every in 0_usize..12,
        ) {
            let Ok([train, valid]) = parts(&records, every) else { return Ok(()) };
            prop_assert!(!train.is_empty() && !valid.is_empty());
            prop_assert_eq!(train.len() + valid.len(), records.len());
            for &i in &train {
                prop_assert!(valid.iter().all(|&j| records[i].0 != records[j].0));
            }
        }
    }
}
