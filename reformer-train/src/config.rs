//! Everything that a run depends on.

use burn::config::Config;
use reformer_core::ConfigError;
use reformer_core::attention::Buckets;
use reformer_core::model::MaskingConfig;

use crate::data::{DataConfig, Wanted};
use crate::optimizer::{AdamConfig, DecayGroup, OptimizerConfig};
use crate::schedule::{Schedule, ScheduleConfig};
use crate::task::model::ModelConfig;

/// What to do when the loss or the gradients are infinite or NaN.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum NonFiniteLoss {
    /// Stop, and say where and why.
    Stop,
    /// Skip the step's gradients and continue; stop after this many such steps in a row.
    Skip(
        /// At least 1.
        usize,
    ),
}

/// Limit of the number of steps and of similar counts.
const MAX_STEPS: usize = u32::MAX as usize;
/// Limit of tokens in a step: 256 sequences of 65,536.
const MAX_TOKENS: usize = 1 << 24;
const MAX_WORKERS: usize = 256;
/// Number of buckets that is allowed at any length.
const FEW_BUCKETS: usize = 1024;

/// Default limit of tokens on which hashing is measured: it takes the time of full attention.
pub(crate) const PROBE_LENGTH: usize = 2048;

/// Configuration of a [`Run`](crate::Run).
#[derive(Config, Debug, PartialEq)]
pub struct TrainConfig {
    /// The model.
    pub model: ModelConfig,
    /// The data.
    pub data: DataConfig,
    /// Which tokens of a text are masked, to be predicted by a model that is not causal. Default: none, and
    /// a causal model predicts the next token.
    pub masking: Option<MaskingConfig>,
    /// Context length in tokens; for pairs of sentences, the maximum length of either.
    #[config(default = 512)]
    pub window_length: usize,
    /// Windows in a step. For pairs, a batch has at most as many tokens as this number of windows.
    #[config(default = 8)]
    pub batch_size: usize,
    /// Micro-batches of a step, computed one after the other: more of them need less memory at a time,
    /// and the step is the same except for rounding and dropout masks.
    #[config(default = 1)]
    pub accumulate: usize,
    /// Steps of the whole run.
    #[config(default = 1000)]
    pub steps: usize,
    /// Steps between two evaluations. The last of these epochs can be shorter.
    #[config(default = 100)]
    pub steps_per_epoch: usize,
    /// Steps between two checkpoints. Default: a checkpoint after each evaluation.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that are kept in addition to the best one.
    #[config(default = 2)]
    pub keep_checkpoints: usize,
    /// Evaluations in a row without a better loss after which the run ends. Default: it does not.
    pub patience: Option<usize>,
    /// What to do when the loss is infinite or NaN.
    #[config(default = "NonFiniteLoss::Stop")]
    pub bad_loss: NonFiniteLoss,
    /// Threads that read data ahead.
    #[config(default = 1)]
    pub n_workers: usize,
    /// Windows in an evaluation, from the start of the validation data. Default: all.
    pub eval_windows: Option<usize>,
    /// Tokens at the start of a window that are only context in an evaluation, because they were
    /// predicted in the window before. Windows of a text then overlap. Default: windows do not
    /// overlap.
    pub eval_context: Option<usize>,
    /// Tokens on which hashing is measured in each evaluation. Default: a window, at most
    /// 2,048.
    pub probe_length: Option<usize>,
    /// The optimizer.
    #[config(default = "OptimizerConfig::Adam(AdamConfig::new())")]
    pub optimizer: OptimizerConfig,
    /// Weight decay per step, by groups of parameters; see [`DecayGroup`].
    #[config(default = "DecayGroup::only_weights(0.01)")]
    pub weight_decay: Vec<DecayGroup>,
    /// The learning rate.
    #[config(
        default = "ScheduleConfig::Cosine { rate: 1e-3, warmup_steps: 100, final_share: 0.1 }"
    )]
    pub schedule: ScheduleConfig,
    /// Global norm of the gradients above which they are scaled down. Default: no limit.
    pub max_gradient_norm: Option<f64>,
    /// Seed of initial weights, data order, dropout and hash rotations.
    #[config(default = 42)]
    pub seed: u64,
}

impl TrainConfig {
    /// What the run needs of its data.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            seed: self.seed,
            window_length: self.window_length,
            vocab_size: self.model.vocab_size(),
        }
    }

    /// Checks every setting that does not depend on the data.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("window_length", self.window_length),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("steps", self.steps),
            ("steps_per_epoch", self.steps_per_epoch),
            ("checkpoint_every", self.checkpoint_every.unwrap_or(1)),
            ("keep_checkpoints", self.keep_checkpoints),
            ("patience", self.patience.unwrap_or(1)),
            ("probe_length", self.probe_length.unwrap_or(1)),
            ("eval_windows", self.eval_windows.unwrap_or(1)),
        ] {
            ConfigError::at_least_one(field, value)?;
        }
        if let Some(context) = self.eval_context.filter(|own| *own >= self.window_length) {
            return Err(ConfigError::new(
                "eval_context",
                context,
                format!(
                    "windows of {} tokens (window_length) then have nothing to predict",
                    self.window_length
                ),
                "lower it",
            ));
        }
        if self.accumulate > self.batch_size {
            return Err(ConfigError::new(
                "accumulate",
                self.accumulate,
                format!(
                    "a step has {} windows (batch_size) to divide",
                    self.batch_size
                ),
                "lower it, or raise batch_size",
            ));
        }
        self.validate_sizes()?;
        if let Some(norm) = self.max_gradient_norm {
            ConfigError::positive("max_gradient_norm", norm)?;
        }
        self.optimizer.validate()?;
        self.weight_decay
            .iter()
            .try_for_each(DecayGroup::validate)?;
        self.schedule.validate()?;
        self.model.validate()?;
        self.validate_masking()?;
        self.validate_length()
    }

    /// Refuses sizes that do not fit any memory, before a folder is made.
    fn validate_sizes(&self) -> Result<(), ConfigError> {
        for (field, value, limit) in [
            ("steps", self.steps, MAX_STEPS),
            ("steps_per_epoch", self.steps_per_epoch, MAX_STEPS),
            ("n_workers", self.n_workers, MAX_WORKERS),
            ("window_length", self.window_length, MAX_TOKENS),
        ] {
            ConfigError::at_most(field, value, limit)?;
        }
        let n_tokens = self.batch_size.checked_mul(self.window_length);
        if n_tokens.is_none_or(|n_tokens| n_tokens > MAX_TOKENS) {
            return Err(ConfigError::new(
                "batch_size",
                self.batch_size,
                format!(
                    "with a window_length of {} a step can have at most {}",
                    self.window_length,
                    MAX_TOKENS / self.window_length
                ),
                "lower it",
            ));
        }
        let n_buckets = match self.model.stack().map(|stack| &stack.lsh.n_buckets) {
            None | Some(Buckets::Auto | Buckets::AutoFactored(_)) => return Ok(()),
            Some(Buckets::Count(n_buckets)) => *n_buckets,
            Some(Buckets::Factors(factors)) => factors
                .iter()
                .fold(1, |product: usize, factor| product.saturating_mul(*factor)),
        };
        ConfigError::at_most(
            "lsh.n_buckets",
            n_buckets,
            FEW_BUCKETS.max(2 * self.window_length),
        )
    }

    fn validate_masking(&self) -> Result<(), ConfigError> {
        let (predicts_tokens, is_causal) = match &self.model {
            ModelConfig::Lm(model) => (true, Some(model.reformer.causal)),
            model => (matches!(model, ModelConfig::Own(_)), None),
        };
        let Some(masking) = &self.masking else {
            return match is_causal {
                Some(false) => Err(ConfigError::new(
                    "causal",
                    false,
                    "a language model that sees the next token does not have to predict it",
                    "use true, or mask tokens (masking)",
                )),
                _ => Ok(()),
            };
        };
        masking.validate()?;
        let refused = |field: &str, value: String, limit: &str, way_out: &str| {
            Err(ConfigError::new(field, value, limit, way_out))
        };
        if !predicts_tokens || !self.data.is_text() {
            let limit = "masking needs a language model on the bytes of a text";
            return refused("masking", "set".to_owned(), limit, "leave it out");
        }
        if is_causal == Some(true) {
            let limit = "masked tokens are predicted from both sides";
            return refused("causal", true.to_string(), limit, "use false");
        }
        if let Some(context) = self.eval_context {
            let limit = "windows with masking do not overlap";
            return refused("eval_context", context.to_string(), limit, "leave it out");
        }
        let vocab_size = self.model.vocab_size();
        if masking.vocab_size > vocab_size {
            let limit = format!("the model has {vocab_size} tokens");
            let value = masking.vocab_size.to_string();
            return refused("masking.vocab_size", value, &limit, "lower it");
        }
        Ok(())
    }

    /// Whether a model of this run can continue texts: tokens are those of a text, bytes or ids, and the next one
    /// is predicted.
    pub fn continues_texts(&self) -> bool {
        self.data.is_language() && self.masking.is_none()
    }

    /// What it trains, with an article: the [name](ModelConfig::name) of the model, or a masked one.
    pub fn kind(&self) -> &'static str {
        match self.masking {
            Some(_) => "a masked language model",
            None => self.model.name(),
        }
    }

    fn validate_length(&self) -> Result<(), ConfigError> {
        match self.model.max_length() {
            Some(max_length) if max_length < self.window_length => Err(ConfigError::new(
                "window_length",
                self.window_length,
                format!("the model has positions for {max_length}"),
                "shorten the windows or give it more positions",
            )),
            _ => Ok(()),
        }
    }

    /// Epochs of the whole run.
    pub fn n_epochs(&self) -> usize {
        self.steps.div_ceil(self.steps_per_epoch)
    }

    /// Tokens on which hashing is measured in an evaluation.
    pub(crate) fn probed_length(&self) -> usize {
        let length = self.probe_length.unwrap_or(PROBE_LENGTH);
        length.min(self.window_length)
    }

    /// The learning rate schedule, before the first step.
    pub fn init_schedule(&self) -> Schedule {
        Schedule::new(self.schedule.clone(), self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig, ReformerSeq2SeqConfig};
    use reformer_core::position::PositionConfig;

    fn config() -> TrainConfig {
        let reformer = ReformerConfig::new(256, 32, 2);
        TrainConfig::new(ReformerLmConfig::new(reformer).into(), DataConfig::Sample)
    }

    #[test]
    fn defaults_are_valid() {
        config().validate().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |config: TrainConfig, field: &str| {
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        refused(config().with_steps(0), "steps");
        refused(config().with_accumulate(9), "accumulate");
        refused(config().with_eval_windows(Some(0)), "eval_windows");
        refused(config().with_eval_context(Some(512)), "eval_context");
        refused(config().with_batch_size(1_000_000_000), "batch_size");
        refused(config().with_batch_size(usize::MAX), "batch_size");
        refused(config().with_window_length(usize::MAX), "window_length");
        refused(config().with_steps(usize::MAX), "steps");
        refused(config().with_n_workers(1_000_000_000), "n_workers");
        let mut buckets = config();
        buckets.model.reformer_mut().lsh.n_buckets = Buckets::Count(1 << 17);
        refused(buckets, "lsh.n_buckets");
        refused(
            config().with_max_gradient_norm(Some(0.0)),
            "max_gradient_norm",
        );
        let decay = vec![DecayGroup::new(vec![], 1, -1.0)];
        refused(config().with_weight_decay(decay), "weight_decay.rate");
        let with = |reformer| TrainConfig {
            model: ReformerLmConfig::new(reformer).into(),
            ..config()
        };
        let learned = PositionConfig::Learned {
            max_length: 511,
            std: 0.02,
            sinusoidal: false,
        };
        refused(
            with(ReformerConfig::new(256, 32, 2).with_position(learned)),
            "window_length",
        );
        let both_sides = || with(ReformerConfig::new(257, 32, 2).with_causal(false));
        let masking = Some(MaskingConfig::new(257, 256));
        let masked = both_sides().with_masking(masking.clone());
        masked.validate().unwrap();
        assert!(config().continues_texts() && !masked.continues_texts());
        refused(both_sides(), "causal");
        refused(config().with_masking(masking), "causal");
        refused(masked.clone().with_eval_context(Some(9)), "eval_context");
        let no_text = DataConfig::Duplication { n_symbols: 9 };
        let masked_no_text = TrainConfig {
            data: no_text,
            ..masked.clone()
        };
        refused(masked_no_text, "masking");
        let many = masked.with_masking(Some(MaskingConfig::new(300, 256)));
        refused(many, "masking.vocab_size");
    }

    #[test]
    fn last_epoch_can_be_shorter() {
        let config = config().with_steps(25).with_steps_per_epoch(10);
        assert_eq!(config.n_epochs(), 3);
    }

    #[test]
    fn json_gives_the_configuration_back() {
        let config = config()
            .with_eval_windows(Some(7))
            .with_max_gradient_norm(Some(1.0));
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        let model = ReformerSeq2SeqConfig::new(ReformerConfig::new(300, 32, 2));
        let config = TrainConfig::new(model.into(), DataConfig::Sample);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        let wrong = json.replace("\"Full\"", "\"Most\"");
        let error = serde_json::from_str::<TrainConfig>(&wrong).unwrap_err();
        assert!(error.to_string().contains("Most"), "{error}");
    }
}
