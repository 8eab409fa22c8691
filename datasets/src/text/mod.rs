//! Bytes of texts, and of any other files.

mod corpus;
mod crops;
mod folder;
mod hundred_million;
mod overlap;
mod shuffle;
mod split;
mod windows;

pub use corpus::ByteCorpus;
pub use crops::RandomCrops;
pub use folder::FolderCorpus;
pub use hundred_million::HundredMillion;
pub use overlap::OverlappingWindows;
pub use shuffle::ShuffledWindows;
pub use split::{Corpus, Split, SplitName, Splits};
pub use windows::{Window, Windows};
