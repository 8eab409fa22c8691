//! Whether a run is one of a program.

use std::path::Path;

use anyhow::{Result, bail};
use reformer_train::TrainConfig;

use crate::cli::trained_by::program_of;
use crate::cli::{called, shell_argument};

/// Checks that a run is one of this program, before it is resumed.
///
/// # Errors
/// A run of another program, which is named.
pub(crate) fn check_resumed(config: &TrainConfig, program: &str, run: &Path) -> Result<()> {
    match program_of(config) {
        Some(own) if own == program => Ok(()),
        Some(own) => bail!(
            "`{}` trains {} by `{}`: resume it with `{} --resume {}`",
            run.display(),
            config.kind(),
            called::name(own),
            called::command(own),
            shell_argument(run)
        ),
        None => bail!(
            "`{}` trains a model or data of another program: resume it with that",
            run.display()
        ),
    }
}

/// Checks that a new run is one that this program could resume.
///
/// # Errors
/// Settings that make it a run of another program.
pub(crate) fn check_new(config: &TrainConfig, program: &str) -> Result<()> {
    match program_of(config) {
        Some(own) if own == program => Ok(()),
        Some(own) => bail!(
            "these settings are those of `{}`, {}: use that program, or another `--preset` or `--set`",
            called::name(own),
            config.kind()
        ),
        None => bail!(
            "these settings are those of a program that makes its own model or data: use that program"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::preset::{self, PRESETS};
    use reformer_train::DataConfig;

    #[test]
    fn every_preset_belongs_to_a_program() {
        for (name, _) in PRESETS {
            let program = match name {
                "duplication" => "train_duplication",
                "recall" => "train_recall",
                "images-16" | "imagenet64" => "train_images",
                "translation" | "wmt-base" => "train_translation",
                "masked" => "train_masked",
                "classifier" => "train_classifier",
                "qa" => "train_qa",
                _ => "train_text",
            };
            let config = preset::load(name).unwrap();
            assert_eq!(program_of(&config), Some(program), "{name}");
            check_new(&config, program).unwrap();
            check_resumed(&config, program, Path::new("runs/x")).unwrap();
        }
    }

    #[test]
    fn other_programs_are_told_which_one_it_is() {
        let text = preset::load("tiny").unwrap();
        for program in [
            "train_images",
            "train_duplication",
            "train_recall",
            "train_masked",
        ] {
            let message = check_resumed(&text, program, Path::new("runs/x")).unwrap_err();
            let message = message.to_string();
            assert!(
                message.starts_with("`runs/x` trains a language model by `"),
                "{message}"
            );
            assert!(message.ends_with("--resume runs/x`"), "{message}");
            check_new(&text, program).unwrap_err();
        }
        let own = TrainConfig {
            data: DataConfig::Own("mine".to_owned()),
            ..text
        };
        assert_eq!(program_of(&own), None);
        check_resumed(&own, "train_text", Path::new("runs/x")).unwrap_err();
    }
}
