//! Runs on tokens of a tokenizer, and on ids.

use std::f64::consts::LN_2;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn_flex::Flex;
use reformer_core::reversible::Mode;
use reformer_datasets::ByteCorpus;
use reformer_datasets::tokens::{Column, ColumnFormat, IdWidth, Tokenizer};
use reformer_train::data::{IdFiles, IdsConfig, TokenizedConfig, TokenizerConfig, load_tokenizer};
use reformer_train::{DataConfig, Evaluation, Measured, Run, TrainConfig};

use crate::resume::{adam, assert_equal, config, losses, rewind, train};

/// A run on this data with this many tokens.
fn on(data: DataConfig, vocab_size: usize) -> TrainConfig {
    let mut config = config(Mode::Reversible, adam());
    config.model.reformer_mut().vocab_size = vocab_size;
    TrainConfig { data, ..config }
}

fn bpe(text: DataConfig, vocab_size: usize) -> DataConfig {
    let tokenizer = TokenizerConfig::Bpe { vocab_size };
    DataConfig::Tokenized(TokenizedConfig::new(Box::new(text), tokenizer))
}

fn measured(folder: &Path, others: &[std::path::PathBuf]) -> Measured {
    let device = Default::default();
    let evaluation = Evaluation::<Flex>::open(folder, others, &device).unwrap();
    let measured = evaluation.measure(&device, |_, _| ControlFlow::Continue(()));
    measured.unwrap()
}

#[test]
fn resumed_run_on_byte_pairs_ends_with_the_same_weights_and_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = on(bpe(DataConfig::Sample, 300), 300).with_checkpoint_every(Some(5));
    let run = Run::create(config.clone(), &path).unwrap();
    let (straight, valid) = train(&run, 0);
    let subwords = fs::read(path.join("subwords.json")).unwrap();

    rewind(&run, 5);
    let run = Run::resume(&path).unwrap();
    assert_eq!(*run.config(), config);
    let (resumed, valid_again) = train(&run, 5);
    assert_equal(&resumed, &straight);
    assert_eq!(losses(&valid_again), losses(&valid));
    assert_eq!(fs::read(path.join("subwords.json")).unwrap(), subwords);
    let tokenizer = load_tokenizer(&path, &config.data).unwrap().unwrap();
    assert_eq!(tokenizer.vocab_size(), 300);

    fs::remove_file(path.join("subwords.json")).unwrap();
    let error = load_tokenizer(&path, &config.data).unwrap_err().to_string();
    assert!(
        error.contains("subwords.json") && error.contains("copy it back"),
        "{error}"
    );
}

#[test]
fn bits_per_byte_are_those_of_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = on(bpe(DataConfig::Sample, 300), 300).with_eval_windows(None);
    let run = Run::create(config, at("run")).unwrap();
    let (_, valid) = train(&run, 0);
    let text = ByteCorpus::sample().split().valid;
    let tokenizer = Tokenizer::open(at("run").join("subwords.json")).unwrap();
    let ids = tokenizer
        .encode(str::from_utf8(text.as_bytes()).unwrap())
        .unwrap();
    let bytes_per_token = 50_000.0 / ids.len() as f64;
    assert_eq!(run.data_report().bytes_per_token, Some(bytes_per_token));
    assert_eq!(run.data_report().valid.count("bytes"), Some(50_000));

    let measured_here = measured(&at("run"), &[]);
    assert_eq!(measured_here.n_targets, (ids.len() - 1) / 40 * 40);
    let bits = measured_here.loss / LN_2 * ids.len() as f64 / 50_000.0;
    let found = measured_here.bits_per_byte().unwrap();
    assert!((found - bits).abs() < 1e-12, "{found} {bits}");
    let last = valid.last().unwrap().loss();
    assert!(
        (measured_here.loss - last).abs() < 1e-5,
        "{} {last}",
        measured_here.loss
    );
    let page = fs::read_to_string(at("run").join("report.html")).unwrap();
    assert!(page.contains("Bits per byte"));

    // Another text, all of it, through the same tokenizer.
    fs::write(at("other"), "To be or not to be. ".repeat(40)).unwrap();
    let other = measured(&at("run"), &[at("other")]);
    let n_ids = tokenizer
        .encode(&"To be or not to be. ".repeat(40))
        .unwrap()
        .len();
    assert_eq!(other.bytes_per_target, Some(800.0 / n_ids as f64));
    assert_eq!(other.n_targets, (n_ids - 1) / 40 * 40);
}

#[test]
fn ids_are_trained_on_with_and_without_their_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ids = |n: u16| {
        (0..n)
            .flat_map(|id| (id % 290).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    fs::write(at("train.bin"), ids(900)).unwrap();
    fs::write(at("val.bin"), ids(200)).unwrap();
    let files = IdFiles::at(at("train.bin"), IdWidth::U16);
    let plain = DataConfig::Ids(IdsConfig::new(files.clone()));
    assert_eq!(plain.vocab_size().unwrap(), Some(290));
    assert_eq!(plain.paths(), [at("train.bin"), at("val.bin")]);
    let run = Run::create(on(plain.clone(), 290).with_steps(2), at("plain")).unwrap();
    train(&run, 0);
    assert_eq!(run.data_report().valid.count("tokens"), Some(200));
    let found = measured(&at("plain"), &[at("val.bin")]);
    assert_eq!((found.n_targets, found.bits_per_byte()), (160, None));
    assert!(load_tokenizer(&at("plain"), &plain).unwrap().is_none());

    let run = Run::create(
        on(bpe(DataConfig::Sample, 290), 290).with_steps(1),
        at("text"),
    )
    .unwrap();
    let tokenizer = run.folder().join("subwords.json");
    let known = IdsConfig::new(files).with_tokenizer(Some(tokenizer));
    let run = Run::create(on(DataConfig::Ids(known), 290).with_steps(2), at("known")).unwrap();
    train(&run, 0);
    assert!(measured(&at("known"), &[]).bits_per_byte().is_some());
    assert!(at("known").join("subwords.json").exists());
}

#[test]
fn columns_are_texts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(
        at("a.jsonl"),
        "{\"text\": \"To be or not to be.\"}\n".repeat(300),
    )
    .unwrap();
    let column = Column::new(at("a.jsonl"), ColumnFormat::JsonLines, "text".to_owned());
    let bytes = DataConfig::Column(column);
    assert_eq!((bytes.token_name(), bytes.is_text()), ("byte", true));
    let run = Run::create(on(bytes.clone(), 256).with_steps(2), at("bytes")).unwrap();
    train(&run, 0);
    assert_eq!(run.data_report().train.count("texts"), Some(300));
    let run = Run::create(on(bpe(bytes, 265), 265).with_steps(2), at("pieces")).unwrap();
    train(&run, 0);
    assert!(
        measured(&at("pieces"), &[at("a.jsonl")])
            .bits_per_byte()
            .is_some()
    );
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config| {
        let created = Run::create(config, folder.path().join("run"));
        created.unwrap_err().to_string()
    };
    let many = refused(on(bpe(DataConfig::Sample, 300), 256));
    assert!(
        many.contains("`vocab_size` is 256") && many.contains("300"),
        "{many}"
    );
    let few = refused(on(bpe(DataConfig::Sample, 200), 256));
    assert!(
        few.contains("vocab_size is 200") && few.contains("259"),
        "{few}"
    );
    let no_text = refused(on(bpe(DataConfig::Duplication { n_symbols: 9 }, 300), 300));
    assert!(no_text.contains("a tokenizer reads texts"), "{no_text}");
    let twice = refused(on(bpe(bpe(DataConfig::Sample, 300), 300), 300));
    assert!(twice.contains("a tokenizer reads texts"), "{twice}");
    let long = refused(on(bpe(DataConfig::Sample, 300), 300).with_window_length(49_000));
    assert!(
        long.contains("tokens, but one window of length 49000 needs"),
        "{long}"
    );
}
