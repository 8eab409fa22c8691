//! A run that starts from the weights of another.

use std::path::Path;

use burn::module::Module;
use burn::record::Recorder;
use burn::tensor::{Tensor, TensorData, Tolerance};
use reformer_core::attention::AttentionKind;
use reformer_core::huggingface::{self, HuggingFaceBuckets, HuggingFaceConfig};
use reformer_core::model::{ReformerClassifierConfig, ReformerLm, ReformerLmConfig};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_train::record::AtomicRecorder;
use reformer_train::{
    Model, ModelConfig, Pretrained, Run, ScheduleConfig, TrainConfig, TrainError, TrainOptions,
    load_model,
};

use crate::resume::{B, adam, assert_equal, config, parameters, train};

fn attending(kind: AttentionKind) -> TrainConfig {
    let mut config = config(Mode::Reversible, adam()).with_steps(2);
    config.model.reformer_mut().layers = vec![AttentionKind::Local, kind];
    config
}

/// Trains by steps that are too small to be seen.
fn standing(config: TrainConfig) -> TrainConfig {
    config.with_schedule(ScheduleConfig::Linear {
        rate: 1e-12,
        warmup_steps: 0,
        final_share: 1.0,
    })
}

/// A run that has been trained, with exact attention.
fn trained(folder: &Path) -> Vec<TensorData> {
    let run = Run::create(attending(AttentionKind::Full), folder).unwrap();
    train(&run, 0).0
}

/// What a model of this configuration starts with, and what it takes.
fn start(
    folder: &Path,
    config: &ModelConfig,
) -> Result<(Vec<TensorData>, reformer_train::run::ReusedWeights), TrainError> {
    let device = Default::default();
    let pretrained = Pretrained::<B>::open(folder, &device)?;
    let (model, taken) = pretrained.start(config, &device)?;
    Ok((parameters(&model), taken))
}

#[test]
fn model_with_full_attention_is_trained_further_with_hashing() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    let before = trained(&exact);

    let hashing = standing(attending(AttentionKind::Lsh));
    let path = folder.path().join("hashing");
    Run::create_from(hashing, &path, Some(&exact)).unwrap();
    // A run that was stopped before its first checkpoint knows where it starts, too.
    let (after, _) = train(&Run::resume(&path).unwrap(), 0);
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        after.assert_approx_eq::<f32>(before, Tolerance::absolute(1e-9));
    }
}

#[test]
fn weights_that_have_changed_are_not_started_from() {
    let folder = tempfile::tempdir().unwrap();
    let (exact, path) = (folder.path().join("exact"), folder.path().join("next"));
    trained(&exact);
    let config = attending(AttentionKind::Full);
    Run::create_from(config, &path, Some(&exact)).unwrap();
    let weights = exact.join("model.mpk");
    let other = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &other[1..]).unwrap();
    let run = Run::resume(&path).unwrap();
    let result = run.train::<B, _>(&Default::default(), 0, TrainOptions::silent());
    let error = result.map(|outcome| outcome.ending).unwrap_err();
    assert!(matches!(error, TrainError::DataChanged { .. }), "{error}");
}

#[test]
fn vocabulary_positions_and_head_may_be_others() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path().join("exact").as_path());
    let exact = folder.path().join("exact");

    let mut reformer = attending(AttentionKind::Lsh).model.reformer().clone();
    reformer.vocab_size = 300;
    reformer.position = PositionConfig::Learned {
        max_length: 8,
        std: 1.0,
        sinusoidal: false,
    };
    let classifier = ReformerClassifierConfig::new(reformer.clone(), 3);
    let (_, taken) = start(&exact, &classifier.into()).unwrap();
    assert!(
        taken
            .tensors
            .iter()
            .all(|name| name.starts_with("reformer."))
    );
    let message = taken.to_string();
    for part in [
        "`reformer.embedding.weight` (256 of 300 rows)",
        "not used: `output.bias`",
        "`reformer.position.tables.0` is missing there",
        "`head.dense.weight` is missing there",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    // The layers are those of the other model, whatever surrounds them.
    let device = Default::default();
    let (there, _) = load_model::<B>(&exact, &device).unwrap();
    let there = there.into_lm().unwrap();
    let lm = ReformerLmConfig::new(reformer);
    let pretrained = Pretrained::<B>::open(&exact, &device).unwrap();
    let (here, _) = pretrained.start(&lm.into(), &device).unwrap();
    let here = here.into_lm().unwrap();
    let weight = |model: &ReformerLm<B>| -> Tensor<B, 2> {
        model.reformer.blocks[1].feed_forward.inner.weight.val()
    };
    weight(&here)
        .into_data()
        .assert_eq(&weight(&there).into_data(), true);
}

#[test]
fn rows_that_both_vocabularies_have_are_reused() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    trained(&exact);
    let device = Default::default();
    let embedding = |model: reformer_train::Model<B>| -> Vec<f32> {
        let weight = model.into_lm().unwrap().reformer.embedding.weight.val();
        weight.into_data().to_vec().unwrap()
    };
    let there = embedding(load_model::<B>(&exact, &device).unwrap().0);
    for vocab_size in [300, 100] {
        let mut config = attending(AttentionKind::Full).model;
        config.reformer_mut().vocab_size = vocab_size;
        let drawn = embedding(config.init(&device));
        let pretrained = Pretrained::<B>::open(&exact, &device).unwrap();
        let here = embedding(pretrained.start(&config, &device).unwrap().0);
        let n = 16 * vocab_size.min(256);
        assert_eq!(here.len(), drawn.len());
        assert_eq!(here[..n], there[..n]);
        // Those below are drawn, too: not all alike, and of the same size.
        let square = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>();
        if n < here.len() {
            let ratio = square(&here[n..]) / square(&drawn[n..]);
            assert!((0.5..2.0).contains(&ratio), "{ratio}");
        }
    }
}

#[test]
fn settings_that_change_what_weights_compute_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    trained(&exact);
    let mut config = attending(AttentionKind::Lsh).model;
    let reformer = config.reformer_mut();
    reformer.n_heads = 4;
    reformer.dropout = 0.3;
    reformer.lsh.n_rounds = 7;
    let (_, taken) = start(&exact, &config).unwrap();
    // No rounds: nothing hashed before.
    assert_eq!(
        taken.settings,
        [
            "`layers` was [\"Local\",\"Full\"] and is [\"Local\",\"Lsh\"]",
            "`n_heads` was 2 and is 4",
        ]
    );
    let same = attending(AttentionKind::Full).model;
    assert_eq!(start(&exact, &same).unwrap().1.settings, [""; 0]);
}

#[test]
fn weights_that_are_not_there_or_no_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let path = folder.path().join("begun");
    Run::create(attending(AttentionKind::Full), &path).unwrap();
    let open = |path: &Path| {
        Pretrained::<B>::open(path, &device)
            .unwrap_err()
            .to_string()
    };
    assert!(
        open(&path).contains("has no weights yet"),
        "{}",
        open(&path)
    );

    let diverged = folder.path().join("diverged");
    trained(&diverged);
    let (model, _) = load_model::<B>(&diverged, &device).unwrap();
    let mut model = model.into_lm().unwrap();
    model.output.weight = model.output.weight.map(|weight| weight * f32::NAN);
    let record = Model::Lm(model).into_record();
    Recorder::<B>::record(&AtomicRecorder::default(), record, diverged.join("model")).unwrap();
    for message in [
        open(&diverged),
        load_model::<B>(&diverged, &device).unwrap_err().to_string(),
    ] {
        let name = diverged.display();
        let expected = format!("`output.weight` has weights that are not finite in `{name}`");
        assert!(message.starts_with(&expected), "{message}");
    }

    let other = folder.path().join("hf");
    std::fs::create_dir(&other).unwrap();
    let config = hugging_face();
    let mut model = config.init::<B>(&device);
    model.reformer.norm.gamma = model.reformer.norm.gamma.map(|gamma| gamma * f32::NAN);
    huggingface::save(&model, &config, &other).unwrap();
    let message = open(&other);
    assert!(
        message.contains("norm.gamma` has weights that are not finite"),
        "{message}"
    );
}

#[test]
fn layers_of_other_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let exact = folder.path().join("exact");
    trained(&exact);
    let refused = |change: fn(&mut TrainConfig), part: &str| {
        let mut config = attending(AttentionKind::Full);
        change(&mut config);
        let error = start(&exact, &config.model).unwrap_err();
        assert!(matches!(error, TrainError::OtherLayers { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(part) && !message.contains('\n'),
            "{message}"
        );
    };
    refused(|config| config.model.reformer_mut().d_model = 32, "[32");
    refused(
        |config| config.model.reformer_mut().full_share_qk = false,
        "is missing there (LSH attention shares queries and keys",
    );
    refused(
        |config| config.model.reformer_mut().n_layers = 1,
        "is only there",
    );
    let error = start(folder.path(), &attending(AttentionKind::Full).model).unwrap_err();
    assert!(matches!(error, TrainError::NoRun { .. }), "{error}");
}

/// A model that Hugging Face has, too.
fn hugging_face() -> ReformerLmConfig {
    let config = HuggingFaceConfig {
        attention_head_size: 8,
        attn_layers: vec!["local".into(), "lsh".into()],
        axial_pos_embds_dim: vec![4, 12],
        axial_pos_shape: vec![8, 8],
        feed_forward_size: 32,
        hidden_size: 16,
        is_decoder: true,
        local_attn_chunk_length: 8,
        lsh_attn_chunk_length: 8,
        max_position_embeddings: 64,
        num_attention_heads: 2,
        num_buckets: Some(HuggingFaceBuckets::Count(8)),
        num_hashes: 2,
        vocab_size: 256,
        ..HuggingFaceConfig::default()
    };
    config.to_config().unwrap()
}

#[test]
fn folders_of_hugging_face_are_started_from() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let config = hugging_face();
    let model = config.init::<B>(&device);
    huggingface::save(&model, &config, folder.path()).unwrap();

    let pretrained = Pretrained::<B>::open(folder.path(), &device).unwrap();
    let own = pretrained.config().clone();
    let (start, taken) = pretrained.start(&own, &device).unwrap();
    assert_eq!(taken.new, [""; 0]);
    let saved = Model::Lm(model);
    assert_equal(&parameters(&start), &parameters(&saved));
}
