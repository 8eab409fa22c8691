//! Data for models of very long sequences: bytes or tokens of texts, images, a synthetic task and
//! parallel text, as batches.
//!
//! # Available data
//!
//! | data | tokens | opened by |
//! |---|---|---|
//! | any file, raw or packed | its bytes | [`ByteCorpus`] |
//! | enwik8, text8 | their bytes, with the split of the literature | [`Wikipedia`] |
//! | a folder of texts | their bytes, split by file or by bytes | [`FolderCorpus`] |
//! | downsampled ImageNet, folders and archives of images | the colours of their pixels | [`images`] |
//! | the duplication task of the paper | random symbols | [`DuplicationConfig`] |
//! | sentences and their translations | subwords | [`translation`] |
//! | texts, or columns of JSON Lines and Parquet files, through a tokenizer; files of ids | ids of a vocabulary | [`tokens`] |
//! | texts with classes, questions with answers | their bytes | [`labelled`] |
//! | the Long Range Arena | bytes, pixels, symbols of lists | [`long_range`] |
//!
//! Files are read when they are opened: into memory, or, beyond 256 MiB, into a file in the
//! system's temporary folder that is deleted after its last use. So data does not change during a
//! training, even if the files do; [`Fingerprint`] detects whether they have changed. A file may
//! also be a pipe, and text may be packed, start with a byte order mark, be UTF-16 and have any
//! line ends. Every data set has a [`ReadReport`]: what was read, and what was left out.
//!
//! # The main types, and how they are related
//!
//! - [`ByteCorpus`]: all the bytes of one file or folder. A byte is a token, so the vocabulary has
//!   256 entries and nothing has to be trained or downloaded before a model can start.
//! - [`Split`]: the part of a corpus for one purpose ([`SplitName`]): 90 % for training, 5 % for
//!   validation, 5 % for the test, in the order of the file.
//! - [`Sequences`]: numbered rows of tokens and targets, the common interface of data for language
//!   models. A split implements it when cut into adjacent windows ([`Windows`]), overlapping ones
//!   ([`OverlappingWindows`]) or shuffled ones ([`ShuffledWindows`]); so do an
//!   [`ImageSet`](images::ImageSet) and the [`Duplication`] task, and your own data can. A negative
//!   target ([`IGNORED`]) does not count.
//! - [`LmBatch`]: some sequences as tensors on a device, and the number of their step.
//! - [`TrainLoader`] and [`EvalLoader`]: Burn data loaders of such batches. The first is an
//!   endless, shuffled stream, which can be entered at any step and read ahead by threads; the
//!   second goes through the data once, in order.
//!
//! Corpora, splits and windows share one copy of the bytes, so cloning and cutting cost nothing.
//!
//! # The same seed, the same batches
//!
//! The training batch of a step is a function of the data, the window length, the batch size, the
//! seed and the step, and of nothing else: not of the machine, of the reading threads, of the steps
//! before it or of the length of epochs. A run that stops can thus be resumed at its step
//! ([`TrainLoader::starting_at`]) and sees the same batches as without the stop.
//!
//! # Example
//!
//! ```
//! use burn::data::dataloader::DataLoader;
//! use burn_flex::Flex;
//! use reformer_datasets::{ByteCorpus, EvalLoaderConfig, TrainLoaderConfig};
//!
//! # fn main() -> Result<(), reformer_datasets::DatasetError> {
//! let splits = ByteCorpus::sample().split();
//! let lengths = [&splits.train, &splits.valid, &splits.test].map(|split| split.len());
//! assert_eq!(lengths, [900_000, 50_000, 50_000]);
//!
//! // Epochs of 3 batches, each of 4 windows of 1,024 bytes, entered at step 100.
//! let device = Default::default();
//! let train = TrainLoaderConfig::new(1_024, 4, 3)
//!     .with_seed(7)
//!     .init::<Flex>(&splits.train, &device)?
//!     .starting_at(100);
//! for batch in train.iter() {
//!     println!("step {}: {:?} -> {:?}", batch.step, batch.tokens.dims(), batch.targets.dims());
//!     assert_eq!(batch.tokens.dims(), [4, 1_024]);
//!     assert_eq!(batch.targets.dims(), [4, 1_024]);
//! }
//! // An epoch ends where its number of steps divides the step: the next one starts at 102.
//! assert_eq!(train.next_step(), 102);
//!
//! // 5 windows in batches of 4: the last batch has one.
//! let valid = EvalLoaderConfig::new(1_024, 4)
//!     .with_max_windows(Some(5))
//!     .init::<Flex>(&splits.valid, &device)?;
//! let shapes: Vec<_> = valid.iter().map(|batch| batch.tokens.dims()).collect();
//! assert_eq!(shapes, [[4, 1_024], [1, 1_024]]);
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod duplication;
mod error;
mod holdout;
pub mod images;
pub mod labelled;
mod loading;
pub mod long_range;
pub mod recall;
mod report;
mod sequences;
mod storage;
mod table;
mod text;
pub mod tokens;
pub mod translation;

pub use duplication::{Duplication, DuplicationConfig};
pub use error::{DatasetError, SizeError};
pub use holdout::SplitName;
pub use loading::{
    BatchSource, EvalLoader, EvalLoaderConfig, LmBatch, TrainLoader, TrainLoaderConfig,
};
pub use report::{ReadReport, Skipped, printable, shown};
pub use sequences::{IGNORED, START_TOKEN, Sequences, Shuffled};
pub use storage::{Fingerprint, read_text_file};
pub use table::{Table, TableRecord};
pub use text::{
    ByteCorpus, Corpus, FolderCorpus, OverlappingWindows, ShuffledWindows, Split, Splits,
    Wikipedia, Window, Windows,
};
