//! Conversion between Hugging Face's `config.json` and our configuration.

use burn::module::Initializer;
use serde::{Deserialize, Serialize};

use super::error::HuggingFaceError;
use crate::attention::{AttentionKind, Buckets, ExactUpTo, LocalConfig, LshConfig, Window};
use crate::feed_forward::Activation;
use crate::kernels::Duplicates;
use crate::model::{ReformerConfig, ReformerLmConfig};
use crate::position::PositionConfig;
use crate::reversible::Mode;

/// The settings of Hugging Face's `ReformerConfig` that determine a model's computation. Missing
/// ones take Hugging Face's defaults; other settings are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // The names and their documentation are Hugging Face's.
pub struct HuggingFaceConfig {
    pub model_type: String,
    pub architectures: Option<Vec<String>>,
    pub attention_head_size: usize,
    pub attn_layers: Vec<String>,
    pub axial_norm_std: f64,
    pub axial_pos_embds: bool,
    pub axial_pos_embds_dim: Vec<usize>,
    pub axial_pos_shape: Vec<usize>,
    pub chunk_size_feed_forward: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_dropout: Option<f64>,
    pub feed_forward_size: usize,
    pub hash_seed: Option<u64>,
    pub hidden_act: String,
    pub hidden_dropout_prob: f64,
    pub hidden_size: usize,
    pub initializer_range: f64,
    pub is_decoder: bool,
    pub layer_norm_eps: f64,
    pub local_attention_probs_dropout_prob: f64,
    pub local_attn_chunk_length: usize,
    pub local_num_chunks_after: usize,
    pub local_num_chunks_before: usize,
    pub lsh_attention_probs_dropout_prob: f64,
    pub lsh_attn_chunk_length: usize,
    pub lsh_num_chunks_after: usize,
    pub lsh_num_chunks_before: usize,
    pub max_position_embeddings: usize,
    pub num_attention_heads: usize,
    pub num_buckets: Option<HuggingFaceBuckets>,
    pub num_hashes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<usize>,
    pub tie_word_embeddings: bool,
    pub vocab_size: usize,
}

/// A number of buckets, or its factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HuggingFaceBuckets {
    /// One number.
    Count(usize),
    /// Its factors.
    Factors(Vec<usize>),
}

impl Default for HuggingFaceConfig {
    fn default() -> Self {
        Self {
            model_type: "reformer".into(),
            architectures: None,
            attention_head_size: 64,
            attn_layers: ["local", "lsh"]
                .repeat(3)
                .into_iter()
                .map(Into::into)
                .collect(),
            axial_norm_std: 1.0,
            axial_pos_embds: true,
            axial_pos_embds_dim: vec![64, 192],
            axial_pos_shape: vec![64, 64],
            chunk_size_feed_forward: 0,
            classifier_dropout: None,
            feed_forward_size: 512,
            hash_seed: None,
            hidden_act: "relu".into(),
            hidden_dropout_prob: 0.05,
            hidden_size: 256,
            initializer_range: 0.02,
            is_decoder: false,
            layer_norm_eps: 1e-12,
            local_attention_probs_dropout_prob: 0.05,
            local_attn_chunk_length: 64,
            local_num_chunks_after: 0,
            local_num_chunks_before: 1,
            lsh_attention_probs_dropout_prob: 0.0,
            lsh_attn_chunk_length: 64,
            lsh_num_chunks_after: 0,
            lsh_num_chunks_before: 1,
            max_position_embeddings: 4096,
            num_attention_heads: 12,
            num_buckets: None,
            num_hashes: 1,
            num_hidden_layers: None,
            tie_word_embeddings: false,
            vocab_size: 320,
        }
    }
}

/// Names of activations in Hugging Face, and ours. The first match is used for writing.
const ACTIVATIONS: [(&str, Activation); 11] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
];

const KINDS: [(&str, AttentionKind); 2] =
    [("local", AttentionKind::Local), ("lsh", AttentionKind::Lsh)];

impl HuggingFaceConfig {
    /// The equivalent configuration of ours: as in Hugging Face, with chunks across buckets, rounds
    /// that wrap into each other and uncorrected duplicates.
    ///
    /// # Errors
    /// All settings without a counterpart, or a setting that cannot work.
    pub fn to_config(&self) -> Result<ReformerLmConfig, HuggingFaceError> {
        let mut unsupported = self.unsupported();
        let activation = ACTIVATIONS
            .into_iter()
            .find(|(name, _)| *name == self.hidden_act);
        if activation.is_none() {
            let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
            let found = &self.hidden_act;
            unsupported.push(format!(
                "hidden_act is \"{found}\", and only {names} are supported"
            ));
        }
        let mut layers = Vec::new();
        for layer in &self.attn_layers {
            match KINDS.into_iter().find(|(name, _)| name == layer) {
                Some((_, kind)) => layers.push(kind),
                None => unsupported.push(format!(
                    "attn_layers has \"{layer}\", and only local and lsh are supported"
                )),
            }
        }
        let (Some((_, activation)), true) = (activation, unsupported.is_empty()) else {
            return Err(HuggingFaceError::Unsupported {
                settings: unsupported,
            });
        };

        let chunked = self.chunk_size_feed_forward;
        let reformer = ReformerConfig::new(self.vocab_size, self.hidden_size, layers.len())
            .with_n_heads(self.num_attention_heads)
            .with_d_head(Some(self.attention_head_size))
            .with_d_ff(Some(self.feed_forward_size))
            .with_layers(layers)
            .with_causal(self.is_decoder)
            .with_position(self.position())
            .with_lsh(self.lsh())
            .with_local(self.local())
            .with_activation(activation)
            .with_ff_chunk_length((chunked > 0).then_some(chunked))
            .with_dropout(self.hidden_dropout_prob)
            .with_attention_dropout(self.lsh_attention_probs_dropout_prob)
            .with_local_attention_dropout(Some(self.local_attention_probs_dropout_prob))
            .with_norm_epsilon(self.layer_norm_eps)
            .with_embedding_std(self.initializer_range)
            .with_initializer(Initializer::Normal {
                mean: 0.0,
                std: self.initializer_range,
            })
            .with_hash_seed(self.hash_seed.unwrap_or(0));
        let config = ReformerLmConfig::new(reformer);
        config.validate()?;
        Ok(config)
    }

    fn unsupported(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.model_type != "reformer" {
            found.push(format!("model_type is \"{}\"", self.model_type));
        }
        if self.tie_word_embeddings {
            found.push(
                "tie_word_embeddings is true, but output and embeddings differ in width".into(),
            );
        }
        let n_layers = self.attn_layers.len();
        if let Some(n) = self.num_hidden_layers.filter(|n| *n != n_layers) {
            found.push(format!(
                "num_hidden_layers is {n}, attn_layers has {n_layers}"
            ));
        }
        found
    }

    fn position(&self) -> PositionConfig {
        if self.axial_pos_embds {
            PositionConfig::Axial {
                shape: self.axial_pos_shape.clone(),
                dims: self.axial_pos_embds_dim.clone(),
                std: self.axial_norm_std,
            }
        } else {
            PositionConfig::Learned {
                max_length: self.max_position_embeddings,
                std: self.initializer_range,
                sinusoidal: false,
            }
        }
    }

    fn lsh(&self) -> LshConfig {
        let chunk = self.lsh_attn_chunk_length;
        // Hugging Face factors automatic bucket numbers above twice the larger of the chunk length
        // and the square root of the number of chunks.
        let chunks = self.max_position_embeddings / chunk.max(1);
        let n_buckets = match &self.num_buckets {
            None => Buckets::AutoFactored(chunks.isqrt().max(chunk).saturating_mul(2)),
            Some(HuggingFaceBuckets::Count(count)) => Buckets::Count(*count),
            Some(HuggingFaceBuckets::Factors(factors)) => Buckets::Factors(factors.clone()),
        };
        LshConfig::new()
            .with_n_rounds(self.num_hashes)
            .with_n_buckets(n_buckets)
            .with_chunk_length(chunk)
            .with_window(Window::Chunk {
                before: self.lsh_num_chunks_before,
                after: self.lsh_num_chunks_after,
                within_bucket: false,
            })
            .with_local_round(false)
            .with_duplicates(Duplicates::Keep)
            .with_wrap_rounds(true)
            .with_exact_up_to(ExactUpTo::Length(chunk))
    }

    fn local(&self) -> LocalConfig {
        LocalConfig::new()
            .with_chunk_length(self.local_attn_chunk_length)
            .with_before(self.local_num_chunks_before)
            .with_after(self.local_num_chunks_after)
            .with_share_qk(false)
            .with_wrap(true)
    }

    /// Converts our configuration to Hugging Face's.
    ///
    /// # Errors
    /// All settings that Hugging Face does not have.
    pub fn from_config(config: &ReformerLmConfig) -> Result<Self, HuggingFaceError> {
        let ours = &config.reformer;
        let mut unsupported = Vec::new();
        let mut refuse = |setting: String| unsupported.push(setting);

        let d_head = ours.d_head.unwrap_or(ours.d_model / ours.n_heads.max(1));
        let mut hf = Self {
            attention_head_size: d_head,
            chunk_size_feed_forward: ours.ff_chunk_length.unwrap_or(0),
            feed_forward_size: ours.d_ff.unwrap_or(4 * ours.d_model),
            hash_seed: Some(ours.hash_seed),
            hidden_dropout_prob: ours.dropout,
            hidden_size: ours.d_model,
            is_decoder: ours.causal,
            layer_norm_eps: ours.norm_epsilon,
            local_attention_probs_dropout_prob: ours
                .local_attention_dropout
                .unwrap_or(ours.attention_dropout),
            local_attn_chunk_length: ours.local.chunk_length,
            local_num_chunks_after: ours.local.after,
            local_num_chunks_before: ours.local.before,
            lsh_attention_probs_dropout_prob: ours.attention_dropout,
            lsh_attn_chunk_length: ours.lsh.chunk_length,
            num_attention_heads: ours.n_heads,
            num_hashes: ours.lsh.n_rounds,
            num_hidden_layers: Some(ours.n_layers),
            vocab_size: ours.vocab_size,
            ..Self::default()
        };
        hf.architectures = Some(vec![
            if ours.causal {
                "ReformerModelWithLMHead"
            } else {
                "ReformerForMaskedLM"
            }
            .into(),
        ]);
        if let Initializer::Normal { std, .. } = ours.initializer {
            hf.initializer_range = std;
        }
        hf.attn_layers.clear();
        for kind in ours.kinds() {
            match KINDS.into_iter().find(|(_, ours)| *ours == kind) {
                Some((name, _)) => hf.attn_layers.push(name.into()),
                None => refuse(format!("layers has {kind:?}")),
            }
        }
        match ACTIVATIONS.into_iter().find(|(_, a)| *a == ours.activation) {
            Some((name, _)) if !ours.gated => hf.hidden_act = name.into(),
            _ => refuse(format!(
                "activation is {:?}, gated {}",
                ours.activation, ours.gated
            )),
        }
        hf.set_position(&ours.position, &mut refuse);
        hf.set_lsh(&ours.lsh, &mut refuse);
        if ours.local.share_qk || !ours.local.wrap {
            refuse("local has share_qk, or does not wrap".into());
        }
        match ours.mode {
            Mode::Reversible | Mode::Plain => {}
            Mode::Exact { .. } => {
                refuse("mode is Exact, which rounds the outputs of layers".into())
            }
            Mode::Ordinary => refuse("mode is Ordinary, which has one stream".into()),
        }
        if ours.logit_scale.is_some() {
            refuse("logit_scale is not the default".into());
        }
        if ours.query_length.is_some() {
            refuse("query_length is set".into());
        }
        if !unsupported.is_empty() {
            return Err(HuggingFaceError::Unsupported {
                settings: unsupported,
            });
        }
        Ok(hf)
    }

    fn set_position(&mut self, position: &PositionConfig, refuse: &mut impl FnMut(String)) {
        match position {
            PositionConfig::Axial { shape, dims, std } if shape.len() == 2 => {
                self.axial_pos_embds = true;
                self.axial_pos_shape = shape.clone();
                self.axial_pos_embds_dim = dims.clone();
                self.axial_norm_std = *std;
                self.max_position_embeddings = shape.iter().product();
            }
            PositionConfig::Learned { max_length, .. } => {
                self.axial_pos_embds = false;
                self.max_position_embeddings = *max_length;
            }
            other => refuse(format!("position is {other:?}")),
        }
    }

    fn set_lsh(&mut self, lsh: &LshConfig, refuse: &mut impl FnMut(String)) {
        match lsh.window {
            Window::Chunk {
                before,
                after,
                within_bucket: false,
            } => {
                self.lsh_num_chunks_before = before;
                self.lsh_num_chunks_after = after;
            }
            other => refuse(format!("lsh.window is {other:?}")),
        }
        match &lsh.n_buckets {
            Buckets::AutoFactored(_) => self.num_buckets = None,
            Buckets::Count(count) => self.num_buckets = Some(HuggingFaceBuckets::Count(*count)),
            Buckets::Factors(factors) => {
                self.num_buckets = Some(HuggingFaceBuckets::Factors(factors.clone()));
            }
            Buckets::Auto => {
                refuse("lsh.n_buckets is Auto, which factors the number differently".into())
            }
        }
        if lsh.duplicates == Duplicates::Exact || !lsh.wrap_rounds {
            refuse("lsh corrects duplicates, or rounds do not wrap".into());
        }
        if lsh.local_round {
            refuse("lsh has a local round".into());
        }
        if lsh.exact_up_to != ExactUpTo::Length(lsh.chunk_length) {
            refuse(format!("lsh.exact_up_to is {:?}", lsh.exact_up_to));
        }
    }
}
