//! Trained models that take and give text.
//!
//! Each is opened from the folder of a run, finished or not, or (but for a [`Translator`]) from one of Hugging Face:
//!
//! | | |
//! |---|---|
//! | [`TextModel`] | continues texts, by sampling ([`generate`](TextModel::generate), [`stream`](TextModel::stream)) or by beam search ([`search`](TextModel::search)) |
//! | [`Classifier`] | the class of a text, and the probability of each class |
//! | [`Answerer`] | the part of a text that answers a question about it |
//! | [`Translator`] | translations of sentences |
//! | [`Filled`] | hidden bytes, as a masked model predicts them |
//! | [`Scores`] | how good a model of any kind is on data: [`Evaluation`](crate::Evaluation), or [`open_hugging_face`] |
//!
//! A [`Codec`] is the conversion between text and tokens beneath them. A model is read onto a device once, and is used as often as
//! wanted; errors are [`InferenceError`], a line with the way out.
//!
//! # Example
//!
//! ```
//! use burn_autodiff::Autodiff;
//! use burn_flex::Flex;
//! use reformer_core::generation::{BeamConfig, SamplerConfig};
//! use reformer_core::model::{ReformerConfig, ReformerLmConfig};
//! use reformer_train::inference::{GenerationRequest, InferenceError, TextModel, Utf8Writer};
//! # use reformer_train::{DataConfig, Run, TrainConfig, TrainOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("first");
//! # let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2));
//! # let config = TrainConfig::new(model.into(), DataConfig::Sample)
//! #     .with_window_length(64)
//! #     .with_batch_size(2)
//! #     .with_steps(2)
//! #     .with_steps_per_epoch(2)
//! #     .with_eval_windows(Some(2));
//! # let run = Run::create(config, &folder)?;
//! # run.train::<Autodiff<Flex>, _>(&Default::default(), 0, TrainOptions::silent())?;
//! // `folder` is that of a run: train_text, or Run::train, has written it.
//! let model = TextModel::<Flex>::open(&folder, &Default::default())?;
//!
//! let sampler = SamplerConfig::new().with_temperature(0.8);
//! let mut request = GenerationRequest::new("ROMEO:", 20, sampler, 42); // 20 tokens, seed 42
//! request.n_samples = 2;
//! let texts: Vec<String> = model.generate(&request)?;
//! assert_eq!(texts.len(), 2);
//!
//! // The same while it is generated, each character once it is complete.
//! request.n_samples = 1;
//! let mut writer = Utf8Writer::new(Vec::new());
//! model.stream(&request, |_, text| {
//!     text.iter().for_each(|&byte| writer.push(byte).expect("memory takes all"));
//!     Ok::<_, InferenceError>(())
//! })?;
//!
//! let found = model.search(&[b"ROMEO:".to_vec()], 8, &BeamConfig::new().with_beam_size(3))?;
//! assert!(found[0][0].score >= found[0][2].score);
//! # Ok(())
//! # }
//! ```

mod answerer;
mod classifier;
mod codec;
mod error;
mod hugging_face;
mod masked;
mod reading;
mod request;
mod scores;
mod text_model;
mod translator;
mod utf8;

pub use answerer::{Answer, Answerer, Found};
pub use classifier::{Classification, Classifier};
pub use codec::{Codec, TextStream, tokenizer_file};
pub use error::InferenceError;
pub use hugging_face::open_hugging_face;
pub use masked::Filled;
pub use request::{BeamResult, Cost, GenerationRequest};
pub use scores::{AnswerScores, ClassScores, Scores};
pub use text_model::TextModel;
pub use translator::Translator;
pub use utf8::Utf8Writer;
