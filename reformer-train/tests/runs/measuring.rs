//! What is measured does not depend on how much is measured at a time.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::Flex;
use reformer_core::model::{
    MaskingConfig, ReformerClassifierConfig, ReformerConfig, ReformerLmConfig,
    ReformerQuestionAnsweringConfig, ReformerSeq2SeqConfig,
};
use reformer_core::reversible::Mode;
use reformer_train::data::{
    ClassFiles, ClassesConfig, PairFiles, PairsConfig, QuestionFiles, QuestionsConfig,
};
use reformer_train::{DataConfig, Evaluation, Measured, ModelConfig, Run, TrainConfig, TrainError};

use crate::resume::{adam, config, train};

/// Questions with answers at the end of texts of different lengths, so that some lie in a window
/// and others do not.
fn squad(lengths: impl Iterator<Item = usize>) -> String {
    let question = |length: usize| {
        let context = format!("{}X", "a".repeat(length));
        serde_json::json!({
            "context": context,
            "qas": [{
                "id": length.to_string(),
                "question": "?",
                "answers": [{"text": "X", "answer_start": length}],
            }],
        })
    };
    let paragraphs: Vec<_> = lengths.map(question).collect();
    serde_json::json!({"data": [{"paragraphs": paragraphs}]}).to_string()
}

fn tasks(folder: &Path) -> Vec<(&'static str, TrainConfig)> {
    let lm = config(Mode::Reversible, adam())
        .with_steps(2)
        .with_eval_windows(None);
    let reformer = |vocab_size| ReformerConfig {
        vocab_size,
        causal: false,
        ..lm.model.reformer().clone()
    };
    let with = |model: ModelConfig, data| TrainConfig {
        model,
        data,
        ..lm.clone()
    };
    let file = |name: &str, text: String| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let text = DataConfig::File(file("text", "To be or not to be. ".repeat(400)));
    let questions = QuestionsConfig::new(QuestionFiles::Squad(file(
        "train.json",
        squad((5..60).chain(5..30)),
    )))
    .with_valid(Some(QuestionFiles::Squad(file(
        "valid.json",
        squad(20..45),
    ))));
    let masked = with(ReformerLmConfig::new(reformer(257)).into(), text.clone());
    vec![
        (
            "language model",
            TrainConfig {
                data: text,
                ..lm.clone()
            },
        ),
        (
            "masked",
            masked.with_masking(Some(MaskingConfig::new(257, 256).with_share(0.02))),
        ),
        (
            "classifier",
            with(
                ReformerClassifierConfig::new(reformer(257), 3).into(),
                DataConfig::Classes(ClassesConfig::new(ClassFiles::Sample)),
            )
            .with_eval_windows(Some(20)),
        ),
        (
            "questions",
            with(
                ReformerQuestionAnsweringConfig::new(reformer(258)).into(),
                DataConfig::Questions(questions),
            ),
        ),
        (
            "pairs",
            with(
                ReformerSeq2SeqConfig::new(reformer(270).with_causal(true)).into(),
                DataConfig::Pairs(PairsConfig::new(PairFiles::Sample)),
            )
            .with_eval_windows(Some(40)),
        ),
    ]
}

/// Measures a run at a batch size.
fn measured(path: &Path, batch_size: usize) -> Result<Measured, TrainError> {
    let device = Default::default();
    let json = fs::read(path.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&json).unwrap();
    config["batch_size"] = batch_size.into();
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    Evaluation::<Flex>::open(path, &[], &device)?.measure(&device, |_, _| ControlFlow::Continue(()))
}

#[test]
fn any_task_is_measured_the_same_at_any_batch_size() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config) in tasks(folder.path()) {
        let path = folder.path().join(name);
        train(&Run::create(config, &path).unwrap(), 0);
        let [one, three, seven] = [1, 3, 7].map(|size| measured(&path, size).unwrap());
        assert!(one.n_targets > 1, "{name}: {one:?}");
        for other in [three, seven] {
            assert_eq!(one.n_targets, other.n_targets, "{name}");
            assert_eq!(one.n_correct, other.n_correct, "{name}");
            let error = (one.loss - other.loss).abs() / one.loss;
            assert!(error < 1e-5, "{name}: {} {}", one.loss, other.loss);
            assert_eq!(one.classes, other.classes, "{name}");
            assert_eq!(one.answers, other.answers, "{name}");
        }
    }
}

#[test]
fn nothing_to_measure_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_, mut config) = tasks(folder.path()).swap_remove(3);
    fs::write(at("valid.json"), squad(60..70)).unwrap();
    let DataConfig::Questions(questions) = &mut config.data else {
        panic!("it asks questions");
    };
    questions.valid = Some(QuestionFiles::Squad(at("valid.json")));
    let error = Run::create(config.clone(), at("run")).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("`window_length` is 40, but none of 10 sequences to validate on"),
        "{error}"
    );
    assert!(!at("run").exists());
    // A run that has begun is trained all the same.
    fs::write(at("valid.json"), squad(20..30)).unwrap();
    Run::create(config, at("run")).unwrap();
    fs::write(at("valid.json"), squad(60..70)).unwrap();
    fs::remove_file(at("run/run.json")).unwrap();
    let run = Run::resume(at("run")).unwrap();
    let (_, valid) = train(&run, 0);
    assert!(valid.is_empty(), "{valid:?}");
    let error = measured(&at("run"), 3).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::NothingToMeasure {
                n_sequences: 10,
                window_length: 40
            }
        ),
        "{error}"
    );
}
