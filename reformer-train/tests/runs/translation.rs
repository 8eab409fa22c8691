//! Runs of an encoder-decoder.

use std::fs;

use burn_flex::Flex;
use reformer_core::model::{ReformerConfig, ReformerLmConfig, ReformerSeq2SeqConfig};
use reformer_core::reversible::Mode;
use reformer_train::data::{PairFiles, PairsConfig, load_subwords};
use reformer_train::{DataConfig, Run, TrainConfig, load_model};

use crate::resume::{adam, assert_equal, config, losses, parameters, rewind, train};

#[test]
fn resumed_translation_ends_with_the_same_weights_and_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let lm = config(Mode::Reversible, adam());
    let reformer = lm.model.reformer().clone().with_causal(true);
    let model = ReformerSeq2SeqConfig::new(ReformerConfig {
        vocab_size: 270,
        ..reformer
    });
    let config = TrainConfig {
        model: model.into(),
        data: DataConfig::Pairs(PairsConfig::new(PairFiles::Sample)),
        ..lm
    }
    .with_checkpoint_every(Some(5))
    .with_accumulate(2);
    let run = Run::create(config.clone(), &path).unwrap();
    let (straight, valid) = train(&run, 0);
    let subwords = fs::read(path.join("subwords.json")).unwrap();
    assert!(valid.iter().all(|row| row.loss().is_finite()));

    rewind(&run, 5);
    let run = Run::resume(&path).unwrap();
    assert_eq!(*run.config(), config);
    let (resumed, valid_again) = train(&run, 5);
    assert_equal(&resumed, &straight);
    assert_eq!(losses(&valid_again), losses(&valid));
    assert_eq!(fs::read(path.join("subwords.json")).unwrap(), subwords);
    let pieces = run
        .pairs()
        .unwrap()
        .subwords
        .encode("Tom is here.")
        .unwrap();
    let loaded = load_subwords(&path).unwrap();
    assert_eq!(loaded.encode("Tom is here.").unwrap(), pieces);

    let (model, _) = load_model::<Flex>(&path, &Default::default()).unwrap();
    assert_equal(&parameters(&model), &straight);
    let error = model.into_lm().unwrap_err().to_string();
    assert!(error.contains("an encoder-decoder"), "{error}");
}

#[test]
fn models_and_data_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: TrainConfig| {
        let error = Run::create(config, folder.path().join("run")).unwrap_err();
        error.to_string()
    };
    let lm = config(Mode::Reversible, adam());
    let pairs = DataConfig::Pairs(PairsConfig::new(PairFiles::Sample));
    let reformer = lm.model.reformer().clone();
    let error = refused(TrainConfig {
        data: pairs.clone(),
        model: ReformerLmConfig::new(ReformerConfig {
            vocab_size: 300,
            ..reformer.clone()
        })
        .into(),
        ..lm.clone()
    });
    assert!(error.contains("`model` is a language model"), "{error}");
    let seq2seq = ReformerSeq2SeqConfig::new(reformer.clone());
    let error = refused(TrainConfig {
        model: seq2seq.into(),
        ..lm.clone()
    });
    assert!(error.contains("`model` is an encoder-decoder"), "{error}");
    let few = ReformerSeq2SeqConfig::new(reformer);
    let error = refused(TrainConfig {
        model: few.into(),
        data: pairs,
        ..lm
    });
    assert!(
        error.contains("vocab_size") && error.contains("259"),
        "{error}"
    );
    assert!(!folder.path().join("run").exists());
}
