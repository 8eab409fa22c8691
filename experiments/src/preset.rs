//! Configurations to start from, which are files.

use std::fs;

use anyhow::{Context, Result, bail};
use reformer_train::{TrainConfig, read_config_json};

/// The files of `presets/`, each with its name. They are what a run writes as its `config.json`.
///
/// | name | model | data | for |
/// |---|---|---|---|
/// | tiny | 4 layers of width 64 | windows of 256 bytes | two minutes on two CPU cores |
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
/// and the one it has to be followed by then share most of their positions, and a single layer finds
/// the one from the other in some hundred steps. Both have to fall into one bucket whatever the tokens
/// are, and no gradient says so, since a key that hashing misses has none. So query projections decay:
/// what nobody needs in them, the tokens, fades.
///
/// In `recall` a key and its value lie in one chunk of local attention, and weights start large, so that a key
/// attends to its equal from the beginning: all that is to be learnt is to bring the value along. Positions
/// are for local layers alone, since no distance says where a key stood.
///
/// In the small ones weights start smaller than by Xavier's rule and embeddings larger, so that
/// blocks begin by adding little to what the tokens say: on the sample this needs half the steps.
pub const PRESETS: [(&str, &str); 13] = [
    ("tiny", include_str!("../presets/tiny.json")),
    ("small", include_str!("../presets/small.json")),
    ("base", include_str!("../presets/base.json")),
    ("enwik8-64k", include_str!("../presets/enwik8-64k.json")),
    ("duplication", include_str!("../presets/duplication.json")),
    ("recall", include_str!("../presets/recall.json")),
    ("images-16", include_str!("../presets/images-16.json")),
    ("imagenet64", include_str!("../presets/imagenet64.json")),
    ("translation", include_str!("../presets/translation.json")),
    ("masked", include_str!("../presets/masked.json")),
    ("classifier", include_str!("../presets/classifier.json")),
    ("qa", include_str!("../presets/qa.json")),
    ("wmt-base", include_str!("../presets/wmt-base.json")),
];

/// Loads a preset by its name, or a file of the same form, JSON or TOML.
///
/// # Errors
/// A name that there is not, or a file that cannot be read or is no configuration.
pub fn load(name: &str) -> Result<TrainConfig> {
    if let Some((_, json)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
        return read_config_json(json.as_bytes())
            .with_context(|| format!("the preset `{name}` is broken"));
    }
    if ![".json", ".toml"]
        .iter()
        .any(|ending| name.ends_with(ending))
    {
        let names: Vec<&str> = PRESETS.iter().map(|(preset, _)| *preset).collect();
        bail!(
            "there is no preset `{name}`: use one of {}, or a file that ends in .json or .toml",
            names.join(", ")
        );
    }
    let text = fs::read_to_string(name).with_context(|| format!("`{name}` cannot be read"))?;
    let config = match name.ends_with(".json") {
        true => read_config_json(text.as_bytes()).map_err(anyhow::Error::from),
        false => toml::from_str(&text).map_err(anyhow::Error::from),
    };
    config.with_context(|| format!("`{name}` is not a configuration of this version"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::attention::{AttentionKind, Window};
    use reformer_core::model::ReformerConfig;
    use reformer_train::DataConfig;

    /// Longest sequence for which LSH attention is computed exactly, if there is any.
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
    fn files_are_read_and_what_is_neither_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.json");
        let config = load("small").unwrap().with_steps(7);
        fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(load(path.to_str().unwrap()).unwrap(), config);
        let toml = folder.path().join("mine.toml");
        fs::write(&toml, toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(load(toml.to_str().unwrap()).unwrap(), config);
        fs::write(&path, "{}").unwrap();
        for name in ["huge", "none.json", path.to_str().unwrap()] {
            let error = load(name).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
