//! Floating-point operations of a training step, counted analytically.

use reformer_core::attention::AttentionKind;
use reformer_core::model::{ReformerConfig, ReformerLmConfig, ReformerSeq2SeqConfig};
use reformer_train::{ModelConfig, TrainConfig};

/// Floating-point operations of one training step (forward, loss, backward), where a product of an
/// `m x k` and a `k x n` matrix has `2 m k n` of them. Everything else (normalisation, softmax,
/// masks, sorting) is left out: a good implementation hides it.
///
/// With `width = n_heads * d_head`, for one token in one layer, forward:
/// - projections: `2 d_model width` each, three of them (four where keys have their own);
/// - feed-forward: `4 d_model d_ff` (`6 d_model d_ff` if gated);
/// - attention: `4 width keys`, where `keys` is the number of keys a query is multiplied with: all keys in
///   reach of its chunk in each of `n_rounds` rounds and in the local one, and half the sequence in
///   causal full attention;
/// - hashing: `2 width n_rounds projections`, once a step, since buckets are kept for the backward pass.
///
/// The output layer has `4 d_model vocab_size` a token.
///
/// The backward pass has two products for each product of the forward pass. Attention, which does not store its
/// weights, computes its logits once more. Layers that are
/// [recomputed](reformer_core::reversible::Mode::is_recomputed) in the backward pass run their forward
/// pass twice. So dense layers count 3 or 4 times, attention 3.5 or 4.5 times.
pub(crate) fn training_step(
    config: &ReformerLmConfig,
    batch_size: usize,
    seq_length: usize,
) -> f64 {
    let model = &config.reformer;
    (output(model) + layers(model, seq_length)) * (batch_size * seq_length) as f64
}

/// Operations of one step of any training. For an encoder-decoder, sentences count with their maximum length,
/// and every decoder layer attends to the whole source. Classification heads are left out.
pub(crate) fn step_of(config: &TrainConfig) -> f64 {
    let (batch_size, length) = (config.batch_size, config.window_length);
    let tokens = (batch_size * length) as f64;
    match &config.model {
        ModelConfig::Lm(model) => training_step(model, batch_size, length),
        ModelConfig::Seq2Seq(model) => tokens * encoder_decoder(model, length),
        other => tokens * other.stack().map_or(0.0, |stack| layers(stack, length)),
    }
}

/// Operations for one source token and one target token.
fn encoder_decoder(config: &ReformerSeq2SeqConfig, length: usize) -> f64 {
    let decoder = &config.reformer;
    let encoder = ReformerConfig {
        causal: false,
        n_layers: config.n_encoder_layers.unwrap_or(decoder.n_layers),
        layers: config
            .encoder_layers
            .clone()
            .unwrap_or_else(|| decoder.layers.clone()),
        ..decoder.clone()
    };
    let (dense_passes, attention_passes) = passes(decoder);
    let projections = 4.0 * 2.0 * decoder.d_model as f64 * head_width(decoder);
    let attention = 4.0 * head_width(decoder) * length as f64;
    let cross = dense_passes * projections + attention_passes * attention;
    let decoded = layers(decoder, length) + decoder.n_layers as f64 * cross;
    layers(&encoder, length) + decoded + output(decoder)
}

/// How many forward passes a step of dense layers and of attention is worth.
fn passes(model: &ReformerConfig) -> (f64, f64) {
    let again = f64::from(u8::from(model.mode.is_recomputed()));
    (3.0 + again, 3.5 + again)
}

/// Operations of the output layer for one token.
fn output(model: &ReformerConfig) -> f64 {
    3.0 * 4.0 * model.d_model as f64 * model.vocab_size as f64
}

/// Total width of all heads.
fn head_width(model: &ReformerConfig) -> f64 {
    (model.n_heads * model.d_head.unwrap_or(model.d_model / model.n_heads)) as f64
}

/// Operations of all layers for one token.
fn layers(model: &ReformerConfig, seq_length: usize) -> f64 {
    let (dense_passes, attention_passes) = passes(model);
    let d_model = model.d_model as f64;
    let width = head_width(model);
    let d_ff = model.d_ff.map_or(4.0 * d_model, |d_ff| d_ff as f64);
    let mut of_token = 0.0;
    for kind in model.kinds() {
        let projections = if model.shares_qk(kind) { 3.0 } else { 4.0 };
        let products = if model.gated { 6.0 } else { 4.0 };
        let dense = projections * 2.0 * d_model * width + products * d_model * d_ff;
        let hashes = kind == AttentionKind::Lsh && !model.lsh.is_exact(seq_length, model.causal);
        let directions = if hashes {
            model.lsh.n_projections(seq_length)
        } else {
            0
        };
        of_token += dense_passes * dense
            + attention_passes * 4.0 * width * model.keys_of_query(kind, seq_length)
            + 2.0 * width * directions as f64;
    }
    of_token
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::attention::{LshConfig, Window};
    use reformer_core::reversible::Mode;

    /// The model of the README's table, counted by hand.
    #[test]
    fn a_step_of_lsh_attention_counts_what_the_formulae_say() {
        let window = Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        };
        let model = ReformerConfig::new(256, 256, 6)
            .with_layers(vec![AttentionKind::Lsh])
            .with_lsh(LshConfig::new().with_n_rounds(4).with_window(window));
        let tokens = 4096.0;
        let dense = 3.0 * 2.0 * 256.0 * 256.0 + 4.0 * 256.0 * 1024.0;
        let attention = (1.0 + 4.0) * 4.0 * 256.0 * 128.0;
        let hashing = 4.0 * 2.0 * 256.0 * 64.0;
        let output = 4.0 * 256.0 * 256.0;
        let config = ReformerLmConfig::new(model.clone());
        let expected = tokens * (6.0 * (4.0 * dense + 4.5 * attention + hashing) + 3.0 * output);
        assert_eq!(training_step(&config, 1, 4096), expected);
        let plain = ReformerLmConfig::new(model.with_mode(Mode::Plain));
        let saved = tokens * 6.0 * (dense + attention);
        assert_eq!(training_step(&plain, 1, 4096), expected - saved);
    }

    #[test]
    fn causal_full_attention_counts_half_of_the_keys() {
        let config = |causal| {
            let model = ReformerConfig::new(256, 64, 1)
                .with_layers(vec![AttentionKind::Full])
                .with_causal(causal);
            ReformerLmConfig::new(model)
        };
        let difference =
            training_step(&config(false), 2, 100) - training_step(&config(true), 2, 100);
        assert_eq!(difference, 200.0 * 4.5 * 4.0 * 64.0 * 50.0);
    }

    /// One encoder block and one decoder block with cross-attention, counted by hand.
    #[test]
    fn an_encoder_decoder_is_its_layers_the_looks_at_the_source_and_the_output() {
        let (d_model, length, vocab_size) = (64.0, 100.0, 256.0);
        let model = ReformerConfig::new(256, 64, 2).with_layers(vec![AttentionKind::Full]);
        let config = ReformerSeq2SeqConfig::new(model.clone()).with_n_encoder_layers(Some(1));
        let dense = 3.0 * 2.0 * d_model * d_model + 4.0 * d_model * 4.0 * d_model;
        let attention = |keys: f64| 4.5 * 4.0 * d_model * keys;
        let encoder = 4.0 * dense + attention(length);
        let decoder = 4.0 * dense + attention(length / 2.0);
        let cross = 4.0 * 4.0 * 2.0 * d_model * d_model + attention(length);
        let output = 3.0 * 4.0 * d_model * vocab_size;
        let expected = encoder + 2.0 * (decoder + cross) + output;
        assert_eq!(encoder_decoder(&config, 100), expected);
    }
}
