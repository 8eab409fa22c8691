//! Runs that are used on texts, through the library alone.

use std::fs;
use std::path::Path;

use burn_flex::Flex;
use reformer_core::generation::{BeamConfig, SamplerConfig};
use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig};
use reformer_core::reversible::Mode;
use reformer_train::data::{ClassFiles, PairFiles, PairsConfig, QuestionFiles};
use reformer_train::inference::{
    Answerer, Classifier, GenerationRequest, InferenceError, TextModel, Translator,
};
use reformer_train::{DataConfig, Run, TrainConfig, TrainError};

use crate::heads::{answers, classifier, masked};
use crate::resume::{adam, config, train};

fn trained(config: TrainConfig, folder: &Path) {
    train(&Run::create(config, folder).unwrap(), 0);
}

#[test]
fn run_continues_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    trained(config(Mode::Reversible, adam()), &path);
    let device = Default::default();
    let model = TextModel::<Flex>::open(&path, &device).unwrap();
    let request = GenerationRequest::new("ROMEO:", 8, SamplerConfig::new(), 1);
    let texts = model.generate(&request).unwrap();
    assert_eq!(texts.len(), 1);
    assert_eq!(texts, model.generate(&request).unwrap());
    assert_eq!(
        model.sample(8, 1).unwrap(),
        model.sample(8, 1).unwrap(),
        "the seed decides"
    );

    let error = Classifier::<Flex>::open(&path, &device).unwrap_err();
    assert!(matches!(
        error,
        InferenceError::Model(TrainError::OtherModel { .. })
    ));
    let path = folder.path().join("masked");
    trained(masked(), &path);
    let error = TextModel::<Flex>::open(&path, &device).unwrap_err();
    assert!(matches!(error, InferenceError::NotOfText { .. }), "{error}");
}

#[test]
fn run_tells_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classes");
    trained(classifier(ClassFiles::Sample), &path);
    // With the byte order mark of an editor.
    let names = fs::read_to_string(path.join("classes.json")).unwrap();
    fs::write(path.join("classes.json"), format!("\u{feff}{names}")).unwrap();
    let model = Classifier::<Flex>::open(&path, &Default::default()).unwrap();
    let long = "Thou art a villain. ".repeat(20);
    let found = model.classify(&["Thou art", &long]).unwrap();
    assert_eq!(found.len(), 2);
    for found in found {
        let sum: f32 = found.probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{found:?}");
        let best = found
            .probabilities
            .iter()
            .position(|share| *share == found.probability);
        assert_eq!(model.class_name(best.unwrap()), found.class);
        assert!(found.probabilities.iter().all(|p| *p <= found.probability));
    }
    assert!(model.is_cut(&long) && !model.is_cut("Thou art"));
    assert!(model.classify(&[]).unwrap().is_empty());
    assert_eq!(model.class_name(99), "class 99");
}

#[test]
fn run_answers_questions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers");
    trained(answers(QuestionFiles::Sample), &path);
    let model = Answerer::<Flex>::open(&path, &Default::default()).unwrap();
    let text = "Der König heißt Felipe.";
    let found = model.answer(&[("Wer?", text), ("Wo?", "Dort.")]).unwrap();
    assert_eq!(found.len(), 2);
    for (answer, text) in found.into_iter().zip([text, "Dort."]) {
        assert!((0.0..=1.0).contains(&answer.probability));
        if let Some(found) = answer.found {
            let place = found.place.expect("a run knows it");
            let at_place = text.chars().skip(place.start).take(place.len());
            assert_eq!(at_place.collect::<String>(), found.text);
        }
    }
    assert!(model.is_cut("Wer?", &"x".repeat(200)) && !model.is_cut("Wer?", text));
}

#[test]
fn run_translates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs");
    let lm = config(Mode::Reversible, adam());
    let model = ReformerSeq2SeqConfig::new(ReformerConfig {
        vocab_size: 270,
        ..lm.model.reformer().clone()
    });
    let config = TrainConfig {
        model: model.into(),
        data: DataConfig::Pairs(PairsConfig::new(PairFiles::Sample)),
        ..lm
    };
    trained(config, &path);
    let device = Default::default();
    let open = |batch_size| {
        let beam = BeamConfig::new().with_beam_size(2);
        Translator::<Flex>::open(&path, beam, batch_size, &device)
    };
    let bytes = |n_texts, n_pieces| open(2).unwrap().cache_bytes(n_texts, n_pieces);
    assert_eq!(bytes(6, 10), 6 * bytes(1, 10));
    assert!(bytes(1, 10) < bytes(1, 20));
    let mut n_done = 0;
    let sentences = ["Tom is here.", " ", "Go on."];
    let found = open(2).unwrap().translate(&sentences, |n| n_done += n);
    let found = found.unwrap();
    assert_eq!((found.len(), n_done), (3, 3));
    assert_eq!(found[1], "");
    let error = open(0).unwrap_err().to_string();
    assert!(error.starts_with("`batch_size` is 0"), "{error}");
}
