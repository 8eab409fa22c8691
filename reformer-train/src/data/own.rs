//! Data that a program makes itself.

use std::sync::Arc;

use reformer_datasets::{ReadReport, Sequences};

use crate::data::{Data, DataReport};

/// Sequences that are compared to see whether a run is resumed with the data that it began with.
const N_COMPARED: u64 = 4;

/// Sequences of a program's own, for a run whose configuration has
/// [`DataConfig::Own`](crate::DataConfig::Own).
///
/// The same configuration must always come with the same sequences: then a resumed run ends with the same
/// weights, bit for bit. The first ones are compared when it is resumed.
#[derive(Debug, Clone)]
pub struct OwnData {
    train: Arc<dyn Sequences>,
    valid: Arc<dyn Sequences>,
}

impl OwnData {
    /// Sequences to train on, and others to validate on.
    pub fn new(train: impl Sequences + 'static, valid: impl Sequences + 'static) -> Self {
        Self {
            train: Arc::new(train),
            valid: Arc::new(valid),
        }
    }

    pub(crate) fn open(&self, name: &str) -> Data {
        let report = DataReport::of_one(ReadReport::new(name));
        Data::of_sequences(self.train.clone(), self.valid.clone(), report)
    }

    /// A checksum of the first sequences.
    pub(crate) fn checksum(&self) -> u32 {
        let mut checksum = crc32fast::Hasher::new();
        for part in [&self.train, &self.valid] {
            let length = part.seq_length();
            let n = part.n_sequences().map_or(N_COMPARED, |n| n as u64);
            for size in [length, part.vocab_size()] {
                checksum.update(&(size as u64).to_le_bytes());
            }
            for number in 0..n.min(N_COMPARED) {
                let (mut tokens, mut targets) = (vec![0; length], vec![0; length]);
                part.read(number, &mut tokens, &mut targets);
                for token in tokens.into_iter().chain(targets) {
                    checksum.update(&token.to_le_bytes());
                }
            }
        }
        checksum.finalize()
    }
}
