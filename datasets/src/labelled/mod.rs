//! Sequences of different lengths with a label each: the class of a text, or the position of an
//! answer in it.
//!
//! - [`LabelledTexts`]: texts and their classes, from a table or a folder of folders.
//! - [`Questions`]: questions, their texts and the answers in them, from JSON in the formats of
//!   SQuAD and Hugging Face.
//! - [`ClassifiedRows`]: rows of tokens with a class each, of texts or of the [tasks of the Long
//!   Range Arena](crate::long_range).
//! - [`LabelledRows`]: any of them as bytes and special tokens, from which
//!   [`TrainLoaderConfig::init_labelled`](crate::TrainLoaderConfig::init_labelled) and
//!   [`EvalLoaderConfig::init_labelled`](crate::EvalLoaderConfig::init_labelled) make
//!   [`LabelledBatch`]es.
//! - [`AnswerScore`]: exact match and F1 of answers, as SQuAD's own script computes them.
//!
//! # Tokens
//!
//! | token | meaning |
//! |---|---|
//! | 0 to 255 | a byte of a text |
//! | [`BEGIN`] | the first position: the classification head reads its hidden state, and missing answers point at it |
//! | [`SEPARATOR`] | the border between a question and its text, or between two documents |

mod batch;
mod characters;
mod classes;
mod classified;
mod json;
mod questions;
mod rows;
pub(crate) mod sample_passages;
pub(crate) mod sample_questions;
mod score;
mod squad;
mod table;

pub use batch::{LabelledBatch, ShuffledRows};
pub use classes::LabelledTexts;
pub use classified::ClassifiedRows;
pub(crate) use classified::{BYTES, ClassifiedBuilder};
pub use questions::{Question, Questions};
pub use rows::{BEGIN, LabelledRows, SEPARATOR};
pub use score::AnswerScore;
