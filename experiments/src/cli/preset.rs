//! Presets: configurations to start from, which are files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reformer_train::record::{nearest_name, parse_settings, read_regular};
use reformer_train::{SettingError, TrainConfig};
use serde_json::Value;

use crate::cli::input::without_mark;
use crate::cli::trained_by::program_of;

/// The files of `presets/`, each with its name. They are what a run writes as its `config.json`.
///
/// | name | model | data | for |
/// |---|---|---|---|
/// | tiny | 4 layers of width 64 | windows of 256 bytes | about a minute on two CPU cores |
/// | small | 6 layers of width 256 | windows of 2,048 bytes | an hour on a few CPU cores, minutes on a GPU |
/// | base | 12 layers of width 512 | windows of 16,384 bytes | a day on a GPU |
/// | enwik8-64k | the paper's, 12 layers of width 1,024 | windows of 65,536 bytes | a large GPU |
/// | duplication | 1 layer of width 128 | `0w0w` of 256 tokens | minutes on two CPU cores |
/// | recall | 2 layers of width 64 | 128 tokens with 16 pairs of a key and a value | a minute on two CPU cores |
/// | images-16 | 4 layers of width 64 | images of 16 x 16 pixels | minutes on two CPU cores |
/// | imagenet64 | the paper's, 12 layers of width 1,024 | images of 64 x 64 pixels | a large GPU |
/// | translation | 3 layers of width 128 on each side | 7,941 short sentences | six minutes on two CPU cores |
/// | masked | 4 layers of width 64, both sides | windows of 256 bytes, 15 % hidden | three minutes on two CPU cores |
/// | classifier | 4 layers of width 64, both sides | passages in three languages | minutes on two CPU cores |
/// | qa | 4 layers of width 96, both sides | sentences among four of another language | minutes on two CPU cores |
/// | wmt-base | the paper's, 6 layers of width 512 on each side | your files | a large GPU |
///
/// In `duplication` positions are axial, in rows of one token less than half a sequence: a token
/// and the one before its repetition then share most of their position embeddings, and a single layer learns
/// to attend from one to the other in some hundred steps. Both have to fall into one bucket whatever the tokens
/// are, and no gradient teaches this, since a key that hashing misses gets none. So query projections decay:
/// the part of them that is not needed, the tokens, fades.
///
/// In `recall` a key and its value lie in one chunk of local attention, and weights start large, so that a key
/// attends to its equal from the beginning: the model only has to learn to copy the value. Only local layers
/// use positions, since no distance tells where a key is.
///
/// In the small ones weights start smaller than by Xavier's rule and embeddings larger, so that
/// blocks begin by adding little to the embeddings: on the sample this needs half the steps.
pub(crate) const PRESETS: [(&str, &str); 13] = [
    ("tiny", include_str!("../../presets/tiny.json")),
    ("small", include_str!("../../presets/small.json")),
    ("base", include_str!("../../presets/base.json")),
    ("enwik8-64k", include_str!("../../presets/enwik8-64k.json")),
    (
        "duplication",
        include_str!("../../presets/duplication.json"),
    ),
    ("recall", include_str!("../../presets/recall.json")),
    ("images-16", include_str!("../../presets/images-16.json")),
    ("imagenet64", include_str!("../../presets/imagenet64.json")),
    (
        "translation",
        include_str!("../../presets/translation.json"),
    ),
    ("masked", include_str!("../../presets/masked.json")),
    ("classifier", include_str!("../../presets/classifier.json")),
    ("qa", include_str!("../../presets/qa.json")),
    ("wmt-base", include_str!("../../presets/wmt-base.json")),
];

/// Loads a preset by its name.
pub(crate) fn load(name: &str) -> Result<TrainConfig> {
    let Some((_, json)) = PRESETS.iter().find(|(preset, _)| *preset == name) else {
        bail!(
            "there is no preset `{name}`: use one of {}",
            names(|_| true).join(", ")
        );
    };
    TrainConfig::from_json(json.as_bytes())
        .with_context(|| format!("the preset `{name}` is broken"))
}

/// Loads a preset by its name, or from a JSON or TOML file of the same form, for a program whose default preset
/// is `default`. Settings that a file leaves out are those of `default`, or of the preset that its `preset` names.
pub(crate) fn load_or_read(name: &str, default: &str) -> Result<TrainConfig> {
    if PRESETS.iter().any(|(preset, _)| *preset == name) {
        return load(name);
    }
    if !is_file(name) {
        let program = program_of(&load(default)?);
        let takes = names(|config| program_of(config) == program);
        let there_are = match nearest_name(name, takes.iter().copied()) {
            Some(nearest) => format!("did you mean `{nearest}`? There are"),
            None => "there are".to_owned(),
        };
        bail!(
            "there is no preset `{name}` for this program: {there_are} {}, and files that end in .json or .toml",
            takes.join(", ")
        );
    }
    let text = read_regular(Path::new(name)).map_err(anyhow::Error::from);
    let text = text.and_then(|bytes| String::from_utf8(bytes).context("it is not UTF-8"));
    let text = text.with_context(|| format!("`{name}` cannot be read"))?;
    read(without_mark(&text), name.ends_with(".json"), default)
        .with_context(|| format!("`{name}` is not a configuration of this version"))
}

fn is_file(name: &str) -> bool {
    name.ends_with(".json") || name.ends_with(".toml")
}

/// Names of the presets that satisfy a condition.
fn names(holds: impl Fn(&TrainConfig) -> bool) -> Vec<&'static str> {
    let holds = |name: &str| load(name).is_ok_and(|config| holds(&config));
    let names = PRESETS.iter().map(|(name, _)| *name);
    names.filter(|name| holds(name)).collect()
}

/// Reads a complete configuration, or the settings in which one differs from a preset.
fn read(text: &str, is_json: bool, default: &str) -> Result<TrainConfig> {
    let mut own: Value = match is_json {
        true => parse_settings(text.as_bytes())?,
        false => toml::from_str(text)?,
    };
    match own.as_object_mut().and_then(|own| own.remove("preset")) {
        Some(Value::String(name)) => Ok(load(&name)?.with_settings(&own)?),
        Some(other) => bail!("`preset` is {other}, and not a name"),
        // A complete configuration may be of an older version.
        None => match TrainConfig::from_settings(&own) {
            Err(SettingError::Value { .. } | SettingError::Whole(_)) => {
                Ok(load(default)?.with_settings(&own)?)
            }
            whole => Ok(whole?),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::attention::{AttentionKind, Window};
    use reformer_core::model::ReformerConfig;
    use reformer_core::position::PositionConfig;
    use reformer_train::DataConfig;
    use std::fs;

    /// Longest sequence for which LSH attention is computed exactly, if there is one.
    fn exact_up_to(config: &ReformerConfig) -> Option<usize> {
        let has_lsh = config.kinds().any(|kind| kind == AttentionKind::Lsh);
        has_lsh.then_some(match config.lsh.window {
            Window::Bucket { len } => 2 * len,
            Window::Chunk { before, after, .. } => config.lsh.chunk_length * (before + 1 + after),
        })
    }

    #[test]
    fn presets_are_valid_and_hash() {
        for (name, _) in PRESETS {
            let config = load(name).unwrap();
            config.validate().unwrap();
            // Sentences are short enough for exact attention, in the paper as well.
            if matches!(config.data, DataConfig::Pairs(_)) {
                continue;
            }
            let exact = exact_up_to(config.model.reformer()).unwrap();
            assert!(config.window_length > exact, "{name} would not hash");
        }
    }

    #[test]
    fn files_may_hold_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let name = path.to_str().unwrap();
        let text = "steps = 7\n[model.reformer]\nn_layers = 2\n[model.reformer.position.Rotary]\nbase = 50.0\n";
        fs::write(&path, text).unwrap();
        let config = load_or_read(name, "tiny").unwrap();
        let mut expected = load("tiny").unwrap().with_steps(7);
        expected.model.reformer_mut().n_layers = 2;
        expected.model.reformer_mut().position = PositionConfig::Rotary { base: 50.0 };
        assert_eq!(config, expected);

        let path = folder.path().join("mine.json");
        let name = path.to_str().unwrap();
        fs::write(&path, r#"{"preset": "small", "steps": 3}"#).unwrap();
        let expected = load("small").unwrap().with_steps(3);
        assert_eq!(load_or_read(name, "tiny").unwrap(), expected);
        for (text, part) in [
            (
                r#"{"stepz": 3}"#,
                "there is no setting `stepz`: did you mean `steps`?",
            ),
            (
                r#"{"model": {"reformer": {"lsh": {"rounds": 3}}}}"#,
                "`model.reformer.lsh.rounds`",
            ),
            (r#"{"preset": "smal"}"#, "there is no preset `smal`"),
            (
                r#"{"steps": "many"}"#,
                "`steps` cannot be \"many\": it has to be a whole number",
            ),
            (
                r#"{"model": {"reformer": {"lsh": {"window": {"Bucket": {"len": 8, "x": 1}}}}}}"#,
                "there is no setting `model.reformer.lsh.window.Bucket.x`",
            ),
            (
                r#"{"preset": "tiny", "preset": "small"}"#,
                "`preset` is given twice: remove one",
            ),
            (
                r#"{"model": {"reformer": {"n_layers": 2, "n_layers": 2}}}"#,
                "`model.reformer.n_layers` is given twice: remove one",
            ),
            (
                r#"{"model": {"reformer": {"n_layers": 2}}, "model.reformer.n_layers": 3}"#,
                "`model.reformer.n_layers` is given twice: remove one",
            ),
            (
                r#"{"model": {"reformer": {"d_modle": 32}}}"#,
                "there is no setting `model.reformer.d_modle`: did you mean `model.reformer.d_model`?",
            ),
            (
                r#"{"optimizer": {"Adam": {"beta1": 0.9}}}"#,
                "there is no setting `optimizer.Adam.beta1`: did you mean `optimizer.Adam.beta_1`?",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", load_or_read(name, "tiny").unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        // A complete configuration with one unknown setting.
        let mut whole = serde_json::to_value(load("small").unwrap()).unwrap();
        whole["stepz"] = 3.into();
        fs::write(&path, format!("\u{feff}{whole}")).unwrap();
        let error = format!("{:#}", load_or_read(name, "tiny").unwrap_err());
        assert!(error.contains("there is no setting `stepz`"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zero.json");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = format!(
            "{:#}",
            load_or_read(path.to_str().unwrap(), "tiny").unwrap_err()
        );
        assert!(error.contains("it is not a regular file"), "{error}");
    }

    #[test]
    fn names_that_are_misspelt_bring_the_nearest_one_that_fits() {
        let message = |name, default| load_or_read(name, default).unwrap_err().to_string();
        let error = message("smal", "tiny");
        assert!(error.contains("did you mean `small`?"), "{error}");
        assert!(
            error.contains("There are tiny, small, base, enwik8-64k, and files"),
            "{error}"
        );
        let error = message("small2", "images-16");
        assert!(
            error.contains("there are images-16, imagenet64, and"),
            "{error}"
        );
    }

    #[test]
    fn files_are_read_and_what_is_neither_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.json");
        let config = load("small").unwrap().with_steps(7);
        fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(
            load_or_read(path.to_str().unwrap(), "tiny").unwrap(),
            config
        );
        let toml = folder.path().join("mine.toml");
        fs::write(&toml, toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(
            load_or_read(toml.to_str().unwrap(), "tiny").unwrap(),
            config
        );
        fs::write(&path, "[]").unwrap();
        for name in ["huge", "none.json", path.to_str().unwrap()] {
            let error = load_or_read(name, "tiny").unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
