//! Runs of models with a head, and of those that find hidden bytes.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn_flex::Flex;
use reformer_core::attention::LocalConfig;
use reformer_core::model::{
    MaskingConfig, ReformerClassifierConfig, ReformerConfig, ReformerLmConfig,
    ReformerQuestionAnsweringConfig,
};
use reformer_core::reversible::Mode;
use reformer_datasets::labelled::AnswerScore;
use reformer_datasets::long_range::ListOpsConfig;
use reformer_train::data::{
    ClassFiles, ClassesConfig, LongRangeConfig, QuestionFiles, QuestionsConfig, load_classes,
};
use reformer_train::metrics::{Quantity, Row};
use reformer_train::{
    DataConfig, Evaluation, Measured, ModelConfig, Run, ScheduleConfig, TrainConfig, TrainError,
    load_model,
};

use crate::resume::{adam, assert_equal, config, losses, parameters, rewind, train};

/// The stack of the other tests, for this many tokens, seeing both sides.
fn reformer(vocab_size: usize) -> ReformerConfig {
    let lm = config(Mode::Reversible, adam());
    let both_sides = LocalConfig::new().with_chunk_length(8).with_after(1);
    ReformerConfig {
        vocab_size,
        causal: false,
        ..lm.model.reformer().clone()
    }
    .with_local(both_sides)
}

fn with(model: impl Into<ModelConfig>, data: DataConfig) -> TrainConfig {
    TrainConfig {
        model: model.into(),
        data,
        ..config(Mode::Reversible, adam())
    }
}

pub(crate) fn masked() -> TrainConfig {
    with(ReformerLmConfig::new(reformer(257)), DataConfig::Sample)
        .with_masking(Some(MaskingConfig::new(257, 256)))
}

pub(crate) fn classifier(train: ClassFiles) -> TrainConfig {
    let data = DataConfig::Classes(ClassesConfig::new(train));
    with(ReformerClassifierConfig::new(reformer(257), 3), data)
}

fn lists() -> TrainConfig {
    let lists = ListOpsConfig::new()
        .with_min_length(5)
        .with_max_length(30)
        .with_n_train(40)
        .with_n_valid(20)
        .with_n_test(24);
    let data = DataConfig::LongRange(LongRangeConfig::Lists(lists));
    with(ReformerClassifierConfig::new(reformer(257), 10), data)
}

pub(crate) fn answers(train: QuestionFiles) -> TrainConfig {
    let data = DataConfig::Questions(QuestionsConfig::new(train));
    with(ReformerQuestionAnsweringConfig::new(reformer(258)), data).with_window_length(160)
}

fn measure(folder: &Path, others: &[PathBuf]) -> Result<Measured, TrainError> {
    let device = Default::default();
    let evaluation = Evaluation::<Flex>::open(folder, others, &device)?;
    evaluation.measure(&device, |_, _| ControlFlow::Continue(()))
}

/// Asserts that a run's last evaluation found the same.
fn assert_same(measured: &Measured, last: &Row) {
    let of = |quantity| last.get(quantity).expect("it is measured");
    let [loss, accuracy] = [Quantity::Loss, Quantity::Accuracy].map(of);
    assert!((measured.loss - loss).abs() < 1e-6, "{measured:?} {loss}");
    assert!(
        (measured.accuracy() - accuracy).abs() < 1e-4,
        "{measured:?} {accuracy}"
    );
}

#[test]
fn resumed_runs_end_with_the_same_weights_and_are_measured_again() {
    for config in [
        masked(),
        classifier(ClassFiles::Sample),
        lists(),
        answers(QuestionFiles::Sample),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let config = config.with_checkpoint_every(Some(5)).with_accumulate(2);
        let run = Run::create(config.clone(), &path).unwrap();
        let (straight, valid) = train(&run, 0);
        let last = valid.last().unwrap();
        assert!(
            last.get(Quantity::Coverage).is_some(),
            "hashing is looked at"
        );

        rewind(&run, 5);
        let run = Run::resume(&path).unwrap();
        assert_eq!(*run.config(), config);
        let (resumed, valid_again) = train(&run, 5);
        assert_equal(&resumed, &straight);
        assert_eq!(losses(&valid_again), losses(&valid));

        let (model, _) = load_model::<Flex>(&path, &Default::default()).unwrap();
        assert_equal(&parameters(&model), &straight);
        let measured = measure(&path, &[]).unwrap();
        assert_same(&measured, last);
        match config.model {
            ModelConfig::Classifier(_) => {
                assert_eq!(measured.classes.len(), 4);
                let first = &load_classes(&path).unwrap()[0];
                assert!(first == "English" || first == "0", "{first}");
            }
            ModelConfig::QuestionAnswering(_) => assert_eq!(measured.answers.len(), 4),
            _ => assert!(model.into_seq2seq().is_err()),
        }
    }
}

#[test]
fn language_model_is_measured_on_its_data_and_on_another_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run::create(config(Mode::Reversible, adam()), &path).unwrap();
    let (_, valid) = train(&run, 0);
    assert_same(&measure(&path, &[]).unwrap(), valid.last().unwrap());
    let text = folder.path().join("text");
    fs::write(&text, "To be or not to be. ".repeat(20)).unwrap();
    // All windows of 40 bytes that are followed by another byte.
    let measured = measure(&path, std::slice::from_ref(&text)).unwrap();
    assert_eq!(measured.n_targets, 360);
    let error = measure(&path, &[text.clone(), text]).unwrap_err();
    assert!(error.to_string().contains("2 files"), "{error}");
}

#[test]
fn part_for_the_test_is_measured_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let n_targets = |name: &str, config: TrainConfig| -> Result<usize, TrainError> {
        let path = folder.path().join(name);
        train(&Run::create(config, &path).unwrap(), 0);
        let device = Default::default();
        let evaluation = Evaluation::<Flex>::open_test(&path, &device)?;
        let measured = evaluation.measure(&device, |_, _| ControlFlow::Continue(()))?;
        Ok(measured.n_targets)
    };
    // All of it, whatever the run's own evaluations are on.
    assert_eq!(n_targets("lists", lists()).unwrap(), 24);
    let text = config(Mode::Reversible, adam());
    let windows = 49_999 / text.window_length;
    let expected = windows * text.window_length;
    assert_eq!(n_targets("text", text).unwrap(), expected);
    let error = n_targets("classes", classifier(ClassFiles::Sample)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("have a part for the test"), "{error}");
}

/// Two classes that a letter tells apart.
fn table(n_rows: usize) -> String {
    let row = |i: usize| match i % 2 {
        0 => format!("{}\tno\n", "xy".repeat(i % 5 + 3)),
        _ => format!("{}\tyes\n", "xz".repeat(i % 7 + 3)),
    };
    "text\tlabel\n".to_owned() + &(0..n_rows).map(row).collect::<String>()
}

#[test]
fn classifier_learns_and_is_measured_on_other_texts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("train.tsv"), table(70)).unwrap();
    fs::write(at("other.tsv"), table(20)).unwrap();
    let mut config = classifier(ClassFiles::Table(at("train.tsv")))
        .with_steps(60)
        .with_steps_per_epoch(60)
        .with_batch_size(8)
        .with_schedule(ScheduleConfig::Constant {
            rate: 0.01,
            warmup_steps: 0,
        });
    if let ModelConfig::Classifier(model) = &mut config.model {
        model.n_classes = 2;
        model.reformer.embedding_std = 1.0;
    }
    let run = Run::create(config, at("run")).unwrap();
    let (_, valid) = train(&run, 0);
    assert_eq!(valid.last().unwrap().get(Quantity::Accuracy), Some(100.0));
    // The names are those of the run: nothing else of its data is needed.
    fs::remove_file(at("train.tsv")).unwrap();
    let measured = measure(&at("run"), &[at("other.tsv")]).unwrap();
    assert_eq!((measured.n_correct, measured.n_targets), (20, 20));
    assert_eq!(measured.classes[..4], [0, 1, 0, 1]);
    fs::write(at("other.tsv"), table(4) + "x\tmaybe\n").unwrap();
    let error = measure(&at("run"), &[at("other.tsv")]).unwrap_err();
    assert!(error.to_string().contains("class `maybe`"), "{error}");
}

/// Questions whose answer is the one letter that is a capital, or is not there.
fn squad(n_questions: usize) -> String {
    let question = |i: usize| {
        let letter = char::from(b'A' + (i % 20) as u8);
        let (place, is_there) = (i * 7 % 13, !i.is_multiple_of(4));
        let mut context: Vec<char> = format!("{:-<14}", i % 9).chars().collect();
        if is_there {
            context[place] = letter;
        }
        let context: String = context.iter().collect();
        let answers = match is_there {
            true => format!(r#"[{{"text": "{letter}", "answer_start": {place}}}]"#),
            false => "[]".to_owned(),
        };
        format!(
            r#"{{"context": "{context}", "qas": [{{"id": "{i}", "question": "?",
                "answers": {answers}, "is_impossible": {}}}]}}"#,
            !is_there
        )
    };
    let questions: Vec<String> = (0..n_questions).map(question).collect();
    format!(
        r#"{{"data": [{{"paragraphs": [{}]}}]}}"#,
        questions.join(",")
    )
}

#[test]
fn answers_are_found_and_missed_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("train.json"), squad(400)).unwrap();
    let mut config = answers(QuestionFiles::Squad(at("train.json")))
        .with_steps(150)
        .with_steps_per_epoch(150)
        .with_batch_size(16)
        .with_eval_windows(None)
        .with_schedule(ScheduleConfig::Constant {
            rate: 0.01,
            warmup_steps: 0,
        });
    let reformer = config.model.reformer_mut();
    (
        reformer.embedding_std,
        reformer.dropout,
        reformer.attention_dropout,
    ) = (1.0, 0.0, 0.0);
    let run = Run::create(config, at("run")).unwrap();
    assert_eq!(run.questions().unwrap().n_left_out, 0);
    let (_, valid) = train(&run, 0);
    let device = Default::default();
    let evaluation = Evaluation::<Flex>::open(&at("run"), &[], &device).unwrap();
    let measured = evaluation
        .measure(&device, |_, _| ControlFlow::Continue(()))
        .unwrap();
    assert_same(&measured, valid.last().unwrap());
    let said = measured.answers.iter().map(String::as_str);
    let score = AnswerScore::of(evaluation.questions().unwrap().iter().zip(said));
    assert!(score.exact_match > 90.0, "{score:?} {:?}", measured.answers);
}

#[test]
fn models_and_labelled_data_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: TrainConfig, parts: [&str; 2]| {
        let error = Run::create(config, folder.path().join("run")).unwrap_err();
        let error = error.to_string();
        for part in parts {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
    };
    let classes = || classifier(ClassFiles::Sample);
    let questions = || answers(QuestionFiles::Sample);
    let lm = config(Mode::Reversible, adam());
    let swapped = TrainConfig {
        model: questions().model,
        ..classes()
    };
    refused(
        swapped,
        ["`model` is a model that answers", "for a classifier"],
    );
    let swapped = TrainConfig {
        model: lm.model,
        ..questions()
    };
    refused(
        swapped,
        ["`model` is a language model", "answers questions"],
    );
    let few = ReformerClassifierConfig::new(reformer(257), 2);
    refused(
        with(few, classes().data),
        ["`n_classes` is 2", "3 different classes"],
    );
    let few = ReformerClassifierConfig::new(reformer(256), 3);
    refused(
        with(few, classes().data),
        ["`vocab_size` is 256", "257 different tokens"],
    );
    let few = masked().with_masking(Some(MaskingConfig::new(257, 255)));
    refused(few, ["`masking.mask_token` is 255", "raise it"]);
    let short = questions().with_window_length(12);
    refused(short, ["`window_length` is 12", "have 18 tokens or more"]);
    let overlap = classes().with_eval_context(Some(4));
    refused(overlap, ["`eval_context` is 4", "only windows of a text"]);
    assert!(!folder.path().join("run").exists());
}
