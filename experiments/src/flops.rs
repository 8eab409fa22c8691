//! Arithmetic of a training step, counted by hand.

use reformer_core::attention::{AttentionKind, Window};
use reformer_core::model::ReformerLmConfig;

/// Floating-point operations of one training step (forward, loss, backward), where a product of an
/// `m x k` and a `k x n` matrix has `2 m k n` of them. Everything else (normalisation, softmax,
/// masks, sorting) is left out: it is what a good implementation hides.
///
/// With `width = n_heads * d_head`, for one token in one layer, forward:
/// - projections: `2 d_model width` each, three of them (four where keys have their own);
/// - feed-forward: `4 d_model d_ff` (`6 d_model d_ff` if gated);
/// - attention: `4 width keys`, where `keys` is how many a query is multiplied with: all keys in
///   reach of its chunk in each of `n_rounds` rounds and in the local one, and half the sequence in
///   causal full attention;
/// - hashing: `2 width n_rounds projections`, once a step: its buckets are remembered.
///
/// The output layer has `4 d_model vocab_size` a token.
///
/// A backward pass has two products for each product of the forward, and attention, which keeps no
/// weights, computes its logits once more. Layers that are
/// [computed again](reformer_core::reversible::Mode::is_recomputed) in backward have their forward
/// twice. So dense layers count 3 or 4 times, attention 3.5 or 4.5 times.
pub fn training_step(config: &ReformerLmConfig, batch_size: usize, seq_length: usize) -> f64 {
    let model = &config.reformer;
    let again = f64::from(u8::from(model.mode.is_recomputed()));
    let (dense_passes, attention_passes) = (3.0 + again, 3.5 + again);
    let d_model = model.d_model as f64;
    let width = (model.n_heads * model.d_head.unwrap_or(model.d_model / model.n_heads)) as f64;
    let d_ff = model.d_ff.map_or(4.0 * d_model, |d_ff| d_ff as f64);
    let mut of_token = 3.0 * 4.0 * d_model * model.vocab_size as f64;
    for kind in model.kinds() {
        let attended = attention(config, kind, seq_length);
        let own_keys = match kind {
            AttentionKind::Lsh => false,
            AttentionKind::Local => !model.local.share_qk,
            AttentionKind::Full => !model.full_share_qk,
        };
        let projections = if own_keys { 4.0 } else { 3.0 };
        let products = if model.gated { 6.0 } else { 4.0 };
        let dense = projections * 2.0 * d_model * width + products * d_model * d_ff;
        of_token += dense_passes * dense
            + attention_passes * 4.0 * width * attended.keys
            + 2.0 * width * attended.projections;
    }
    of_token * (batch_size * seq_length) as f64
}

/// What a query is multiplied with.
struct Attended {
    keys: f64,
    /// Of hashing, over all rounds.
    projections: f64,
}

fn attention(config: &ReformerLmConfig, kind: AttentionKind, seq_length: usize) -> Attended {
    let model = &config.reformer;
    let full = if model.causal {
        seq_length as f64 / 2.0
    } else {
        seq_length as f64
    };
    let chunks = |chunk: usize, others: usize| (chunk * (1 + others)).min(seq_length) as f64;
    match kind {
        AttentionKind::Full => Attended {
            keys: full,
            projections: 0.0,
        },
        AttentionKind::Local => Attended {
            keys: chunks(
                model.local.chunk_length,
                model.local.before + model.local.after,
            ),
            projections: 0.0,
        },
        AttentionKind::Lsh if model.lsh.is_exact(seq_length, model.causal) => Attended {
            keys: full,
            projections: 0.0,
        },
        AttentionKind::Lsh => {
            let lsh = &model.lsh;
            let keys = match lsh.window {
                Window::Chunk { before, after, .. } => chunks(lsh.chunk_length, before + after),
                // What it sees; tiles compute some more.
                Window::Bucket { len } if model.causal => len.min(seq_length) as f64,
                Window::Bucket { len } => (2 * len).min(seq_length) as f64,
            };
            let factors = lsh.n_buckets.factors(seq_length, lsh.chunk_length);
            let projections = (factors.iter().sum::<usize>() / 2) as f64;
            Attended {
                keys: lsh.n_attended_rounds() as f64 * keys,
                projections: lsh.n_rounds as f64 * projections,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::attention::LshConfig;
    use reformer_core::model::ReformerConfig;
    use reformer_core::reversible::Mode;

    /// The shape of the table in the README, by hand.
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
}
