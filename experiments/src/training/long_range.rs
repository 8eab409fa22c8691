//! Tasks of the Long Range Arena: flags, and how a configuration is adapted to a task.

use std::path::PathBuf;

use anyhow::{Result, bail};
use reformer_core::attention::Buckets;
use reformer_datasets::long_range::{ListOpsConfig, LongRangeTask};
use reformer_train::data::LongRangeConfig;
use reformer_train::{DataConfig, ModelConfig, TrainConfig};

use crate::cli::named::Named;

/// The shortest generated lists are this part of the longest ones, as in the benchmark (500 and 2,000).
const SHORTEST: usize = 4;

impl Named for LongRangeTask {
    fn all() -> Vec<(&'static str, &'static str, Self)> {
        let about = |task| match task {
            Self::ListOps => "The value of nested lists of digits",
            Self::Text => "Whether a film review is positive, byte by byte",
            Self::Retrieval => "Whether a citation links two papers, byte by byte",
            Self::Image => "The object in an image, pixel by pixel",
            Self::Pathfinder => "Whether a dashed path connects two dots, pixel by pixel",
        };
        let all = Self::ALL.map(|task| (task.name(), about(task), task));
        all.to_vec()
    }
}

/// The data of a task: the files in a folder, or generated lists.
///
/// # Errors
/// No folder for a task that cannot be generated.
pub(crate) fn data(task: LongRangeTask, path: Option<PathBuf>) -> Result<DataConfig> {
    Ok(DataConfig::LongRange(match (task, path) {
        (task, Some(path)) => LongRangeConfig::Files { task, path },
        (LongRangeTask::ListOps, None) => LongRangeConfig::Lists(ListOpsConfig::new()),
        (task, None) => bail!(
            "only `listops` can be generated: name the folder of the files of `{}` by --data",
            task.name()
        ),
    }))
}

/// Sets the length of the benchmark, with as many buckets as go with the length.
pub(crate) fn set_defaults(config: &mut TrainConfig, task: LongRangeTask) {
    config.window_length = task.max_length();
    config.model.reformer_mut().lsh.n_buckets = Buckets::Auto;
}

/// Makes generated lists fill the length of the configuration, which no answer can be found without.
pub(crate) fn fill_length(config: &mut TrainConfig) {
    if let DataConfig::LongRange(LongRangeConfig::Lists(lists)) = &mut config.data {
        lists.max_length = config.window_length;
        lists.min_length = config.window_length / SHORTEST;
    }
}

/// Gives a classifier the task's classes and tokens.
pub(crate) fn fit_model(model: &mut ModelConfig, task: LongRangeTask) {
    if let ModelConfig::Classifier(model) = model {
        model.n_classes = task.classes().len();
        let vocab_size = &mut model.reformer.vocab_size;
        *vocab_size = task.vocab_size().max(*vocab_size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::preset;

    #[test]
    fn every_task_is_a_valid_configuration() {
        for task in LongRangeTask::ALL {
            let mut config = preset::load("classifier").unwrap();
            config.data = data(task, Some("files".into())).unwrap();
            set_defaults(&mut config, task);
            fit_model(&mut config.model, task);
            config.validate().unwrap();
            assert_eq!(config.window_length, task.max_length());
        }
        let error = data(LongRangeTask::Image, None).unwrap_err().to_string();
        assert!(
            error.contains("`image`") && error.contains("--data"),
            "{error}"
        );
    }

    #[test]
    fn generated_lists_fill_the_length() {
        let mut config = preset::load("classifier").unwrap();
        config.data = data(LongRangeTask::ListOps, None).unwrap();
        config.window_length = 256;
        fill_length(&mut config);
        let DataConfig::LongRange(LongRangeConfig::Lists(lists)) = &config.data else {
            panic!("{:?}", config.data);
        };
        assert_eq!((lists.min_length, lists.max_length), (64, 256));
    }
}
