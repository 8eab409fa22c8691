//! Bytes of texts, and of any other files.

mod corpus;
pub(crate) mod enwik8;
mod folder;
mod overlap;
mod shuffle;
mod split;
mod windows;

pub(crate) use crate::holdout::SplitName;
pub use corpus::ByteCorpus;
pub use enwik8::Wikipedia;
pub use folder::FolderCorpus;
pub use overlap::OverlappingWindows;
pub use shuffle::ShuffledWindows;
pub use split::{Corpus, Split, Splits};
pub use windows::{Window, Windows};
