//! Small models of Hugging Face.

use std::path::Path;

use burn_flex::Flex;
use reformer_core::huggingface::{self, HuggingFaceBuckets, HuggingFaceConfig};

/// `google/reformer-enwik8`, but small.
pub(crate) fn enwik8() -> HuggingFaceConfig {
    HuggingFaceConfig {
        attention_head_size: 16,
        attn_layers: ["local", "local", "lsh", "local"].map(Into::into).to_vec(),
        axial_pos_embds_dim: vec![8, 24],
        axial_pos_shape: vec![16, 32],
        feed_forward_size: 64,
        hidden_size: 32,
        is_decoder: true,
        local_attn_chunk_length: 16,
        lsh_attn_chunk_length: 32,
        max_position_embeddings: 512,
        num_attention_heads: 2,
        num_buckets: Some(HuggingFaceBuckets::Count(16)),
        num_hashes: 4,
        vocab_size: 258,
        ..HuggingFaceConfig::default()
    }
}

/// `google/reformer-crime-and-punishment`, but small, and with the vocabulary of a test's model.
pub(crate) fn crime_and_punishment() -> HuggingFaceConfig {
    HuggingFaceConfig {
        attn_layers: ["local", "lsh"]
            .repeat(2)
            .into_iter()
            .map(Into::into)
            .collect(),
        num_buckets: Some(HuggingFaceBuckets::Factors(vec![4, 8])),
        num_hashes: 1,
        vocab_size: 400,
        ..enwik8()
    }
}

/// Writes a folder with random weights.
pub(crate) fn write(config: &HuggingFaceConfig, folder: &Path) {
    let config = config.to_config().expect("settings of a test");
    let model = config.init::<Flex>(&Default::default());
    huggingface::save(&model, &config, folder).expect("an empty folder");
}
