//! Texts as ids of a vocabulary, for language models whose tokens are longer than a byte.
//!
//! - [`Tokenizer`]: text as ids and back; read from `tokenizer.json` or `spiece.model`, or
//!   [trained here](train_tokenizer).
//! - [`TokenCorpus`]: all ids of a text, and the number of bytes that they represent. Splits of it
//!   are cut into [windows](crate::Windows) like those of bytes.
//! - [`encode`]: a split of a text as ids. [`open_ids`]: files of ids, as nanoGPT writes them.
//! - [`Column`]: the texts, or the ids, in a column of JSON Lines or Parquet files, read without
//!   holding a file in memory.
//!
//! # Example
//!
//! ```
//! use reformer_datasets::tokens::{encode, train_tokenizer};
//! use reformer_datasets::{ByteCorpus, Sequences, Windows};
//!
//! # fn main() -> Result<(), reformer_datasets::DatasetError> {
//! let text = "The cat sat on the mat, and the dog on the log.\n".repeat(50);
//! let text = ByteCorpus::from_bytes("cats", text)?.split();
//! let tokenizer = train_tokenizer(&text.train, 300)?;
//! let valid = encode(&text.valid, &tokenizer)?;
//! assert!(valid.len() < text.valid.len() / 2);
//! let windows = Windows::new(&valid, 16)?;
//! assert!(windows.vocab_size() <= 300);
//! // Bits per byte are bits per token over this.
//! assert!(valid.bytes_per_token().expect("it is of text") > 2.0);
//! # Ok(())
//! # }
//! ```

mod character_map;
mod column;
mod corpus;
mod documents;
mod encode;
mod ids;
mod json_lines;
#[cfg(test)]
mod kinds;
#[cfg(feature = "parquet")]
mod parquet;
mod pieces;
mod sentencepiece;
mod subwords;
mod tokenizer;

pub use column::{Column, ColumnFormat, ColumnKind};
pub use corpus::TokenCorpus;
pub use encode::{decoded_bytes_per_token, encode, train_tokenizer};
pub use ids::{IdWidth, open_ids};
pub use subwords::{SpecialTokens, SubwordAlgorithm, Subwords, SubwordsConfig};
pub use tokenizer::Tokenizer;
