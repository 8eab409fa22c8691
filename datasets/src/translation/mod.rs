//! Parallel text: pairs of a sentence and its translation, as batches of subwords, and scores.
//!
//! - [`ParallelText`]: two files line by line, or one with tabs, in the formats of WMT and Tatoeba.
//! - [`Subwords`]: the joint vocabulary of both languages, trained here or loaded.
//! - [`TokenPairs`]: a text as token numbers; [`PairTrainLoaderConfig`] and
//!   [`PairEvalLoaderConfig`] make [`PairBatch`]es of them.
//! - [`Bleu`]: the score of translations, as sacreBLEU computes it; [`BleuDifference`]:
//!   significance of a difference.
//!
//! # Example
//!
//! ```
//! use burn::data::dataloader::DataLoader;
//! use burn_flex::Flex;
//! use reformer_datasets::translation::{
//!     PairTrainLoaderConfig, ParallelText, SubwordsConfig, TokenPairs,
//! };
//!
//! # fn main() -> Result<(), reformer_datasets::DatasetError> {
//! let greetings = [("Good day.", "Guten Tag."), ("Hello!", "Hallo!")];
//! let text = ParallelText::from_pairs("greetings", greetings);
//! let subwords = SubwordsConfig::new(270).train(text.sentences())?;
//! let pairs = TokenPairs::encode(&text, &subwords)?;
//! let loader = PairTrainLoaderConfig::new(64, 10).init::<Flex>(&pairs, &Default::default())?;
//! for batch in loader.iter() {
//!     println!("{:?} -> {:?}", batch.source.dims(), batch.targets.dims());
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod bleu;
mod bootstrap;
mod buckets;
mod loaders;
mod pairs;
mod text;
mod tokenize_13a;

pub use crate::tokens::{SpecialTokens, SubwordAlgorithm, Subwords, SubwordsConfig};
pub use batch::PairBatch;
pub use bleu::Bleu;
pub use bootstrap::BleuDifference;
pub use loaders::{
    BucketedPairs, PairEvalLoader, PairEvalLoaderConfig, PairTrainLoader, PairTrainLoaderConfig,
};
pub use pairs::TokenPairs;
pub use text::ParallelText;
