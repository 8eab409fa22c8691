//! The Long Range Arena (Tay et al., ICLR 2021, <https://arxiv.org/abs/2011.04006>): tasks of
//! classification on long sequences, from the benchmark's own files.
//!
//! | task | path | a row | classes | tokens |
//! |---|---|---|---|---|
//! | [`ListOps`](LongRangeTask::ListOps) | folder of `basic_{train,val,test}.tsv` | a nested list, a byte for each symbol | 10: its value | 2,000 |
//! | [`Text`](LongRangeTask::Text) | folder of the IMDB reviews, with `train` and `test` | the bytes of a review | 2 | 4,096 |
//! | [`Retrieval`](LongRangeTask::Retrieval) | folder of `new_aan_pairs.{train,eval,test}.tsv` | the bytes of two papers | 2: whether a citation links them | 8,002 |
//! | [`Image`](LongRangeTask::Image) | folder of CIFAR-10's `data_batch_{1..5}.bin` and `test_batch.bin` | 32 x 32 gray pixels | 10 | 1,025 |
//! | [`Pathfinder`](LongRangeTask::Pathfinder) | folder with `imgs` and `metadata` | 32 x 32 gray pixels | 2: whether a path connects two dots | 1,025 |
//!
//! Every row begins with [`BEGIN`], whose hidden state the classifier reads, as in the benchmark's
//! own models; tokens are counted with it. [`ListOpsConfig`] generates ListOps without files.
//!
//! # Parts
//!
//! ListOps and retrieval have files for each part. Of the others the benchmark names shares only,
//! of an order that its library draws: 90 % of the training images of CIFAR-10 to train on, and 80,
//! 10 and 10 % of Pathfinder. Here these are the first 45,000 of CIFAR-10's images, and for
//! Pathfinder a choice by a hash of a file's name. The benchmark validates on the test set of IMDB;
//! here a tenth of the training set is held out instead.
//!
//! # Retrieval is another setting here
//!
//! The benchmark's models read each paper alone, and classify both results. Here one row has both,
//! with a [`SEPARATOR`] between them: twice the length, and attention across papers. Results do not
//! compare with published ones.

mod cifar;
mod listops;
mod listops_generator;
mod pathfinder;
mod retrieval;

use std::path::Path;

use burn::config::Config;

pub use listops::{OutermostList, list_notation, list_symbols, list_value};
pub use listops_generator::{ListOps, ListOpsConfig};

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::labelled::{BEGIN, BYTES, ClassifiedRows, LabelledTexts, SEPARATOR};

/// One of this many reviews of the training set is held out for validation.
const VALID_EVERY: usize = 10;
/// Characters between the two documents of a retrieval.
const BETWEEN_DOCUMENTS: char = '\t';

/// A task of the benchmark.
#[derive(Config, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LongRangeTask {
    /// The value of nested lists of digits.
    ListOps,
    /// Whether a film review is positive, byte by byte.
    Text,
    /// Whether a citation links two papers, byte by byte.
    Retrieval,
    /// The object in an image, pixel by pixel.
    Image,
    /// Whether a dashed path connects two dots, pixel by pixel.
    Pathfinder,
}

impl LongRangeTask {
    /// All tasks, in the order of the paper's table.
    pub const ALL: [Self; 5] = [
        Self::ListOps,
        Self::Text,
        Self::Retrieval,
        Self::Image,
        Self::Pathfinder,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ListOps => "listops",
            Self::Text => "text",
            Self::Retrieval => "retrieval",
            Self::Image => "image",
            Self::Pathfinder => "pathfinder",
        }
    }

    /// Names of its classes, ordered by the numbers in its files.
    pub fn classes(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::ListOps => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Self::Text => &["neg", "pos"],
            Self::Retrieval => &["not linked", "linked"],
            Self::Image => &cifar::CLASSES,
            Self::Pathfinder => &["not connected", "connected"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Tokens of the benchmark's longest row, [`BEGIN`] among them.
    pub fn max_length(self) -> usize {
        match self {
            // Expressions have less than 2,000 symbols.
            Self::ListOps => 2_000,
            Self::Text => 4_096,
            Self::Retrieval => 2 + 2 * 4_000,
            Self::Image | Self::Pathfinder => 1 + 32 * 32,
        }
    }

    /// Vocabulary size of its rows.
    pub fn vocab_size(self) -> usize {
        match self {
            Self::Retrieval => usize::from(SEPARATOR) + 1,
            _ => BYTES,
        }
    }

    /// Reads one part of the benchmark's files, in rows of at most `max_length` tokens. Lists and
    /// images that are cut to that are counted in the report.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound) with the path of a missing file,
    /// [`Malformed`](DatasetError::Malformed) for a file of another format, with the line or image
    /// in it, [`NothingIn`](DatasetError::NothingIn) for a part without rows, or those of a file or
    /// a folder.
    pub fn open(
        self,
        path: impl AsRef<Path>,
        part: SplitName,
        max_length: usize,
    ) -> Result<ClassifiedRows, DatasetError> {
        let path = path.as_ref();
        let rows = match self {
            Self::ListOps => listops::open(path, part, max_length),
            Self::Text => text(path, part, max_length),
            Self::Retrieval => retrieval::open(path, part, max_length),
            Self::Image => cifar::open(path, part, max_length),
            Self::Pathfinder => pathfinder::open(path, part, max_length),
        }?;
        match rows.is_empty() {
            true => Err(DatasetError::NothingIn {
                path: path.to_owned(),
                wanted: "record for this part of the task",
            }),
            false => Ok(rows),
        }
    }

    /// The row of one input that is given as text: a list (`[MAX 4 [MIN 7 2 ] ]`), a review, or two
    /// papers with a tab between them.
    ///
    /// # Errors
    /// A description of what is wrong with the text, or why there is none for images.
    pub fn encode(self, text: &str, max_length: usize) -> Result<Vec<u16>, String> {
        let row = |tokens: &mut dyn Iterator<Item = u16>| {
            let tokens = std::iter::once(BEGIN).chain(tokens);
            tokens.take(max_length.max(1)).collect()
        };
        let bytes = |bytes: &[u8]| row(&mut bytes.iter().copied().map(u16::from));
        match self {
            Self::ListOps => {
                let symbols = list_symbols(text)?;
                list_value(&symbols)?;
                Ok(bytes(&symbols))
            }
            Self::Text => Ok(bytes(text.as_bytes())),
            Self::Retrieval => match text.split_once(BETWEEN_DOCUMENTS) {
                Some((first, second)) => {
                    let documents = [first.as_bytes(), second.as_bytes()];
                    Ok(row(&mut retrieval::tokens(documents, max_length)))
                }
                None => Err("it has no tab, and one is needed between two documents".to_owned()),
            },
            Self::Image | Self::Pathfinder => {
                Err(format!("the task `{}` reads images, not text", self.name()))
            }
        }
    }
}

/// The reviews of IMDB: `train` and `test`, each with a folder for each class.
fn text(path: &Path, part: SplitName, max_length: usize) -> Result<ClassifiedRows, DatasetError> {
    let open = |folder| {
        let texts = LabelledTexts::open_folder(path.join(folder))?;
        texts.with_classes(&LongRangeTask::Text.classes())
    };
    let texts = match part {
        SplitName::Test => open("test")?,
        SplitName::Train => open("train")?.split(VALID_EVERY)?[0].clone(),
        SplitName::Valid => open("train")?.split(VALID_EVERY)?[1].clone(),
    };
    Ok(texts.encode(max_length))
}
