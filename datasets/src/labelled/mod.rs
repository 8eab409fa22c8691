//! Sequences of different lengths with a label each: the class of a text, or where in a text an answer stands.
//!
//! - [`LabelledTexts`]: texts and their classes, from a table or a folder of folders.
//! - [`Questions`]: questions, the texts that they are about and the answers in them, from SQuAD's JSON.
//! - [`LabelledRows`]: either of them as bytes and special tokens, from which
//!   [`TrainLoaderConfig::init_labelled`](crate::TrainLoaderConfig::init_labelled) and
//!   [`EvalLoaderConfig::init_labelled`](crate::EvalLoaderConfig::init_labelled) make [`LabelledBatch`]es.
//! - [`AnswerScore`]: exact match and F1 of answers, as SQuAD's own script computes them.
//!
//! # Tokens
//!
//! | token | stands for |
//! |---|---|
//! | 0 to 255 | a byte of a text |
//! | [`BEGIN`] | the first position: the head of classes reads its hidden state, and an answer that is not there points at it |
//! | [`SEPARATOR`] | the border between a question and its text |

mod batch;
mod classes;
mod passages;
mod questions;
mod rows;
mod score;
mod squad;
mod translated;

pub use batch::{LabelledBatch, ShuffledRows};
pub use classes::LabelledTexts;
pub use questions::{Question, Questions};
pub use rows::{BEGIN, LabelledRows, SEPARATOR};
pub use score::AnswerScore;

/// Of two parts, the numbers of the items that are in each: of the different keys, in order, every `every`th goes
/// into the second part with all its items, so that no key is in both. Where there are fewer keys, the last one does.
fn split_by_key<K: Eq + std::hash::Hash>(
    keys: impl Iterator<Item = K>,
    every: usize,
) -> [Vec<usize>; 2] {
    let mut numbers = std::collections::HashMap::new();
    let of_items: Vec<usize> = keys
        .map(|key| {
            let next = numbers.len();
            *numbers.entry(key).or_insert(next)
        })
        .collect();
    let every = every.min(numbers.len()).max(1);
    let is_second = |item: &usize| of_items[*item] % every == every - 1;
    let (second, first) = (0..of_items.len()).partition(is_second);
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_both_parts() {
        let parts = |keys: &str, every| split_by_key(keys.chars(), every);
        assert_eq!(parts("abacbd", 2), [vec![0, 2, 3], vec![1, 4, 5]]);
        assert_eq!(parts("abc", 10), [vec![0, 1], vec![2]]);
        assert_eq!(parts("", 10), [const { Vec::<usize>::new() }; 2]);
    }
}
