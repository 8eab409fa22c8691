//! Whether the data of a run has anything to measure.

use std::sync::Arc;

use reformer_core::ConfigError;
use reformer_datasets::{Sequences, Windows};

use crate::config::TrainConfig;
use crate::data::Data;
use crate::data::masked::{Masked, Purpose};
use crate::data::opened::Part;
use crate::error::TrainError;
use crate::task::model::ModelConfig;

impl Data {
    /// Checks that an evaluation has something to measure: a target in one of its sequences. They are read until one is
    /// found, which is the first one in most cases.
    ///
    /// # Errors
    /// No target within the window.
    pub(crate) fn check_measured(&self, config: &TrainConfig) -> Result<(), TrainError> {
        // What a program's own model takes for a target is not known.
        if matches!(config.model, ModelConfig::Own(_)) {
            return Ok(());
        }
        let is_target = |target: &i32| *target >= 0;
        let n_measured = |there_are: Option<usize>| match (there_are, config.eval_windows) {
            (Some(n), Some(most)) => n.min(most),
            (n, most) => n.or(most).unwrap_or(0),
        };
        let of_sequences = |sequences: &dyn Sequences| {
            let there_are = sequences.n_sequences();
            let [mut tokens, mut targets] = [0; 2].map(|zero| vec![zero; sequences.seq_length()]);
            let has_target = (0..n_measured(there_are) as u64).any(|number| {
                sequences.read(number, &mut tokens, &mut targets);
                targets.iter().any(is_target)
            });
            (there_are, has_target)
        };
        let (there_are, has_target) = match (&self.valid, &config.masking) {
            (Part::Labelled(rows), _) => {
                let there_are = Some(rows.len());
                let mut measured = 0..n_measured(there_are);
                let has_target = measured.any(|row| rows.targets(row).iter().any(is_target));
                (there_are, has_target)
            }
            (Part::Sequences(sequences), _) => of_sequences(&**sequences),
            (Part::Text(split), Some(masking)) => {
                let windows = Arc::new(Windows::new(split, config.window_length)?);
                let masked = Masked::new(windows, masking, config.seed, Purpose::Validate);
                of_sequences(&masked)
            }
            // Every token and every sentence is a target.
            (Part::Text(_), None) | (Part::Pairs(_), _) => return Ok(()),
        };
        if has_target {
            return Ok(());
        }
        let n = n_measured(there_are);
        Err(ConfigError::new(
            "window_length",
            config.window_length,
            format!("none of {n} sequences to validate on has a target within so many tokens"),
            match there_are == Some(n) {
                true => "raise it, or name other data",
                false => {
                    "raise it, validate on more of them (--eval-windows, eval_windows in config.json), or name other data"
                }
            },
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnModelConfig;
    use crate::data::{DataConfig, OwnData};
    use reformer_core::model::{MaskingConfig, ReformerConfig, ReformerLmConfig};

    fn config(data: DataConfig) -> TrainConfig {
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 1));
        TrainConfig::new(model.into(), data).with_window_length(1000)
    }

    #[test]
    fn evaluations_without_a_target_are_named() {
        let check = |config: TrainConfig| {
            let data = config.data.open(config.wanted(), None).unwrap();
            data.check_measured(&config)
                .map_err(|error| error.to_string())
        };
        let passages = |length| {
            let data = DataConfig::ReturningPassages {
                n_symbols: 9,
                shortest: length,
                longest: length,
                backwards: false,
            };
            config(data).with_eval_windows(Some(3))
        };
        let masked = |share| {
            let masking = MaskingConfig::new(257, 256).with_share(share);
            config(DataConfig::Sample).with_masking(Some(masking))
        };
        for config in [passages(100), masked(0.1), config(DataConfig::Sample)] {
            check(config).unwrap();
        }
        // Three passages of 400 symbols do not end in the window, and no byte of 50,000 is hidden.
        let fewer = masked(1e-9).with_eval_windows(Some(48));
        let more = "raise it, validate on more of them (--eval-windows, eval_windows in config.json), or name other data";
        for (config, n, way_out) in [
            (passages(400), 3, more),
            (fewer, 48, more),
            (masked(1e-9), 49, "raise it, or name other data"),
        ] {
            let error = check(config).unwrap_err();
            let said = format!(
                "`window_length` is 1000, but none of {n} sequences to validate on has a target"
            );
            assert!(error.starts_with(&said), "{error}");
            assert!(error.ends_with(&format!(": {way_out}")), "{error}");
        }
    }

    /// Sequences that take long to make, say.
    #[derive(Debug)]
    struct Unread;

    impl Sequences for Unread {
        fn seq_length(&self) -> usize {
            1000
        }

        fn vocab_size(&self) -> usize {
            256
        }

        fn n_sequences(&self) -> Option<usize> {
            Some(1)
        }

        fn read(&self, number: u64, _: &mut [i32], _: &mut [i32]) {
            panic!("sequence {number} is read");
        }
    }

    #[test]
    fn nothing_is_read_for_a_model_whose_targets_are_not_known() {
        let config = TrainConfig {
            model: OwnModelConfig::new("own", 256, &24).into(),
            ..config(DataConfig::Own("unread".to_owned()))
        };
        let data = OwnData::new(Unread, Unread).open("unread");
        data.check_measured(&config).unwrap();
    }
}
