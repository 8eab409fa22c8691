//! Baselines that count, on the same rows as the models.

use std::collections::HashMap;
use std::hash::Hash;

use anyhow::{Result, bail};
use reformer_datasets::SplitName;
use reformer_datasets::labelled::ClassifiedRows;
use reformer_datasets::long_range::{LongRangeTask, OutermostList};
use reformer_train::{DataConfig, TrainConfig};
use serde::{Deserialize, Serialize};

/// Number of different features of naive Bayes; more share one.
const N_FEATURES: usize = 1 << 18;
/// Tokens of a feature in texts and lists.
const N_GRAM: usize = 3;
/// Levels of gray that are told apart in images.
const N_GRAYS: usize = 16;

/// The features of a row, numbers below [`N_FEATURES`].
type Features = fn(&[u16]) -> Vec<usize>;

/// Accuracy of a baseline on the part for the test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Baseline {
    pub(super) label: String,
    /// In percent.
    pub(super) accuracy: f64,
}

/// Baselines that are counted on all training rows of a configuration.
pub(super) fn baselines(config: &TrainConfig) -> Result<Vec<Baseline>> {
    let DataConfig::LongRange(data) = &config.data else {
        bail!("the baselines are for tasks of the Long Range Arena");
    };
    let open = |part| data.open(part, config.window_length);
    let (train, test) = (open(SplitName::Train)?, open(SplitName::Test)?);
    let baseline = |label: &str, accuracy| Baseline {
        label: label.to_owned(),
        accuracy,
    };
    let most_frequent = by_key(&train, &test, |_| ());
    let mut baselines = vec![baseline("the most frequent class", most_frequent)];
    if data.task() == LongRangeTask::ListOps {
        let by_operator = by_key(&train, &test, |tokens| {
            outermost(tokens).map(|list| list.operator)
        });
        let by_list = by_key(&train, &test, outermost);
        baselines.push(baseline("by the outermost operator", by_operator));
        baselines.push(baseline("by the outermost list", by_list));
    }
    let (label, features): (_, Features) = match data.task() {
        LongRangeTask::Image | LongRangeTask::Pathfinder => ("naive Bayes, pixels", pixels),
        _ => ("naive Bayes, triples of tokens", n_grams),
    };
    baselines.push(baseline(label, naive_bayes(&train, &test, features)));
    Ok(baselines)
}

/// The rows of a part without their first token, each with its class.
fn inputs(rows: &ClassifiedRows) -> impl Iterator<Item = (&[u16], usize)> {
    (0..rows.len()).map(|row| (&rows.rows().tokens(row)[1..], rows.class(row)))
}

/// Share of rows whose class is predicted, in percent.
fn accuracy(test: &ClassifiedRows, predict: impl Fn(&[u16]) -> usize) -> f64 {
    let n_right = inputs(test).filter(|(tokens, class)| predict(tokens) == *class);
    100.0 * n_right.count() as f64 / test.len() as f64
}

/// The place of the largest count, the first of several.
fn most_frequent(counts: &[usize]) -> usize {
    let largest = counts.iter().enumerate().rev().max_by_key(|(_, n)| **n);
    largest.map_or(0, |(class, _)| class)
}

/// Predicts the most frequent class of the training rows with the same key; of all, where there is none.
fn by_key<K: Hash + Eq>(
    train: &ClassifiedRows,
    test: &ClassifiedRows,
    key: impl Fn(&[u16]) -> K,
) -> f64 {
    let n_classes = train.classes().len();
    let mut of_all = vec![0; n_classes];
    let mut of_keys: HashMap<K, Vec<usize>> = HashMap::new();
    for (tokens, class) in inputs(train) {
        of_all[class] += 1;
        let of_key = of_keys.entry(key(tokens));
        of_key.or_insert_with(|| vec![0; n_classes])[class] += 1;
    }
    accuracy(test, |tokens| {
        most_frequent(of_keys.get(&key(tokens)).unwrap_or(&of_all))
    })
}

/// The outermost list of an expression of ListOps.
fn outermost(tokens: &[u16]) -> Option<OutermostList> {
    let symbols = tokens.iter().map(|&token| u8::try_from(token));
    let symbols: Result<Vec<u8>, _> = symbols.collect();
    OutermostList::of(&symbols.ok()?)
}

/// Neighbouring tokens as one number each.
fn n_grams(tokens: &[u16]) -> Vec<usize> {
    let number = |tokens: &[u16]| {
        let of_tokens = tokens.iter().map(|&token| usize::from(token));
        of_tokens.fold(0, |number: usize, token| {
            number.wrapping_mul(1009).wrapping_add(token) % N_FEATURES
        })
    };
    tokens.windows(N_GRAM).map(number).collect()
}

/// The gray of each place.
fn pixels(tokens: &[u16]) -> Vec<usize> {
    let gray = |token: u16| usize::from(token) * N_GRAYS / 256;
    let places = tokens.iter().enumerate();
    let feature = |(place, &token): (usize, &u16)| (place * N_GRAYS + gray(token)) % N_FEATURES;
    places.map(feature).collect()
}

/// Predicts by the product of the features' frequencies in a class, each counted once more than seen.
fn naive_bayes(train: &ClassifiedRows, test: &ClassifiedRows, features: Features) -> f64 {
    let mut n_rows = vec![1.0; train.classes().len()];
    let mut counts = vec![vec![1.0_f32; N_FEATURES]; train.classes().len()];
    for (tokens, class) in inputs(train) {
        n_rows[class] += 1.0;
        for feature in features(tokens) {
            counts[class][feature] += 1.0;
        }
    }
    let logarithms: Vec<Vec<f32>> = counts
        .into_iter()
        .map(|counts| {
            let sum: f64 = counts.iter().map(|&count| f64::from(count)).sum();
            let logarithm = |count: f32| (f64::from(count) / sum).ln() as f32;
            counts.into_iter().map(logarithm).collect()
        })
        .collect();
    accuracy(test, |tokens| {
        let features = features(tokens);
        let score = |class: usize| {
            let of_features = features.iter().map(|&feature| logarithms[class][feature]);
            f64::ln(n_rows[class]) + of_features.map(f64::from).sum::<f64>()
        };
        let scores = (0..n_rows.len()).map(|class| (class, score(class)));
        let best = scores.max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(class, _)| class)
    })
}
