//! Reading and writing Hugging Face folders: what fits goes round, what does not is named.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn_flex::Flex;
use burn_store::ModuleSnapshot;
use reformer_core::Pass;
use reformer_core::huggingface::{self, HuggingFaceConfig, HuggingFaceError};
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
use tempfile::TempDir;

pub(crate) fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(folder)
}

pub(crate) fn load(
    folder: &Path,
) -> Result<(ReformerLm<Flex>, ReformerLmConfig), HuggingFaceError> {
    huggingface::load(folder, &Default::default())
}

/// A writable copy of a golden case.
pub(crate) fn copy(case: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(data("hf").join(case).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

pub(crate) fn edit_config(folder: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = folder.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

pub(crate) fn assert_same_weights(a: &ReformerLm<Flex>, b: &ReformerLm<Flex>) {
    let (a, b) = (a.collect(None, None, true), b.collect(None, None, true));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a.full_path(), b.full_path());
        assert_eq!(
            a.to_data().unwrap(),
            b.to_data().unwrap(),
            "{}",
            a.full_path()
        );
    }
}

#[test]
fn a_folder_goes_round() {
    for case in [
        "causal-mixed-factored",
        "learned-positions",
        "bidirectional-mixed",
    ] {
        let (model, config) = load(&data("hf").join(case)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("new/folder");
        huggingface::save(&model, &config, &written).unwrap();
        let (again, config_again) = load(&written).unwrap();
        assert_eq!(config, config_again);
        assert_same_weights(&model, &again);
        let logits = |model: &ReformerLm<Flex>| {
            let tokens = crate::common::integers(1, [2, 50], 30);
            model.forward(tokens, &Pass::eval()).into_data()
        };
        assert_eq!(logits(&model), logits(&again), "{case}");
    }
}

#[test]
fn pickled_weights_are_those_of_safetensors() {
    let (pickled, _) = load(&data("pytorch")).unwrap();
    let (model, _) = load(&data("hf/causal-one-round")).unwrap();
    assert_same_weights(&pickled, &model);
}

#[test]
fn an_old_output_bias_is_used_and_kept() {
    let reformer = HuggingFaceConfig::default().to_config().unwrap().reformer;
    let config = ReformerLmConfig::new(reformer).with_output_bias(true);
    let model = crate::common::drawn(config.init::<Flex>(&Default::default()));
    let folder = tempfile::tempdir().unwrap();
    huggingface::save(&model, &config, folder.path()).unwrap();
    let (again, config_again) = load(folder.path()).unwrap();
    assert!(config_again.output_bias);
    assert_same_weights(&model, &again);
}

#[test]
fn nothing_is_overwritten() {
    let folder = copy("causal-short");
    let (model, config) = load(folder.path()).unwrap();
    let error = huggingface::save(&model, &config, folder.path()).unwrap_err();
    assert!(matches!(error, HuggingFaceError::Exists { .. }), "{error}");
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("has neither model.safetensors nor pytorch_model.bin"));
}

#[test]
fn settings_without_a_counterpart_are_all_listed() {
    let folder = copy("causal-short");
    edit_config(folder.path(), |config| {
        config["hidden_act"] = "mish".into();
        config["attn_layers"] = serde_json::json!(["lsh", "sparse"]);
        config["tie_word_embeddings"] = true.into();
    });
    let error = load(folder.path()).unwrap_err().to_string();
    for part in [
        "hidden_act is \"mish\"",
        "attn_layers has \"sparse\"",
        "tie_word_embeddings",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let folder = copy("causal-lsh");
    edit_config(folder.path(), |config| config["num_buckets"] = 15.into());
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("`n_buckets` is [15]"), "{error}");
    edit_config(folder.path(), |config| {
        config["num_buckets"] = "many".into()
    });
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("is not the configuration of a Reformer"),
        "{error}"
    );
}

#[test]
fn tensors_that_do_not_fit_are_all_listed() {
    let folder = copy("causal-lsh");
    edit_config(folder.path(), |config| {
        config["attn_layers"] = serde_json::json!(["lsh", "local"]);
        config["num_hidden_layers"] = 2.into();
        config["vocab_size"] = 41.into();
    });
    let Err(HuggingFaceError::Tensors {
        missing,
        unknown,
        shapes,
        ..
    }) = load(folder.path())
    else {
        panic!("loaded");
    };
    let attention = "reformer.encoder.layers.1.attention.self_attention";
    assert_eq!(
        missing,
        [
            format!("{attention}.query.weight"),
            format!("{attention}.key.weight")
        ]
    );
    assert_eq!(unknown, [format!("{attention}.query_key.weight")]);
    let of_vocabulary = |name: &str, width| (name.to_string(), vec![41, width], vec![40, width]);
    assert_eq!(
        shapes,
        [
            of_vocabulary("reformer.embeddings.word_embeddings.weight", 32),
            of_vocabulary("lm_head.decoder.weight", 64),
        ]
    );
}

#[test]
fn a_truncated_file_is_damaged() {
    let folder = copy("causal-lsh");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 5, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(
            matches!(error, HuggingFaceError::Damaged { .. }),
            "{length}: {error}"
        );
        assert!(error.to_string().contains("model.safetensors"));
        assert_eq!(error.to_string().lines().count(), 1);
    }
    fs::remove_file(&path).unwrap();
    let pickled = fs::read(data("pytorch/pytorch_model.bin")).unwrap();
    let path = folder.path().join("pytorch_model.bin");
    for length in [0, 5, 100, pickled.len() / 2] {
        fs::write(&path, &pickled[..length]).unwrap();
        let error = load(folder.path()).unwrap_err();
        assert!(
            matches!(error, HuggingFaceError::Damaged { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn our_own_settings_are_refused_by_name() {
    let config = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
    let model = config.init::<Flex>(&Default::default());
    let folder = tempfile::tempdir().unwrap();
    let error = huggingface::save(&model, &config, folder.path())
        .unwrap_err()
        .to_string();
    for part in [
        "position is Rotary",
        "lsh.window is Bucket",
        "lsh corrects duplicates",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(model.num_params() > 0);
}
