//! Guarantees for training and evaluating a translation model.

use std::collections::BTreeSet;

use burn::data::dataloader::DataLoader;
use burn::tensor::{Int, Tensor};
use burn_flex::Flex;
use proptest::prelude::*;
use reformer_datasets::translation::{
    PairBatch, PairEvalLoaderConfig, PairTrainLoader, PairTrainLoaderConfig, ParallelText,
    SpecialTokens, SubwordAlgorithm, Subwords, SubwordsConfig, TokenPairs,
};
use reformer_datasets::{DatasetError, IGNORED, SizeError};

const TEXT: &str = include_str!("../samples/tinyshakespeare.txt");

fn subwords(algorithm: SubwordAlgorithm) -> Subwords {
    SubwordsConfig::new(400)
        .with_algorithm(algorithm)
        .train(TEXT.lines().take(2_000))
        .expect("there are sentences enough")
}

/// Sentences of 0 to 14 words, each "translated" by the next.
fn pairs() -> (ParallelText, TokenPairs) {
    let lines: Vec<&str> = TEXT.lines().take(200).collect();
    let text = ParallelText::from_pairs(
        "plays",
        lines.iter().copied().zip(lines[1..].iter().copied()),
    );
    let pairs =
        TokenPairs::encode(&text, &subwords(SubwordAlgorithm::Bpe)).expect("any text can be");
    (text, pairs)
}

fn ints(tensor: &Tensor<Flex, 2, Int>) -> Vec<Vec<i64>> {
    let elements: Vec<i64> = tensor.to_data().iter().collect();
    elements
        .chunks(tensor.dims()[1])
        .map(<[_]>::to_vec)
        .collect()
}

fn read(batch: &PairBatch<Flex>) -> (u64, Vec<usize>, [Vec<Vec<i64>>; 3]) {
    let tensors = [&batch.source, &batch.inputs, &batch.targets];
    (batch.step, batch.pairs.clone(), tensors.map(ints))
}

fn loader(pairs: &TokenPairs, config: PairTrainLoaderConfig) -> PairTrainLoader<Flex> {
    config
        .init(pairs, &Default::default())
        .expect("there are pairs")
}

#[test]
fn special_pieces_come_first_and_text_about_them_is_text() -> Result<(), DatasetError> {
    for algorithm in [SubwordAlgorithm::Bpe, SubwordAlgorithm::Unigram] {
        let subwords = subwords(algorithm);
        assert_eq!([subwords.pad(), subwords.bos(), subwords.eos()], [0, 1, 2]);
        assert_eq!(subwords.vocab_size(), 400);
        let pieces = subwords.encode("put <pad> after </s>")?;
        assert!(pieces.iter().all(|&piece| piece > 2), "{pieces:?}");
        assert_eq!(subwords.decode(&pieces)?, "put <pad> after </s>");
        let framed = [&[1][..], &pieces, &[2, 0, 0]].concat();
        assert_eq!(subwords.decode(&framed)?, "put <pad> after </s>");
        let sentence = "Good day, and well met!";
        assert!(subwords.encode(sentence)?.len() < sentence.len());
    }
    Ok(())
}

#[test]
fn models_of_sentencepiece_read_as_it_does() -> Result<(), Box<dyn std::error::Error>> {
    let file = tempfile::NamedTempFile::new()?;
    let open = || Subwords::open_sentencepiece(file.path(), &SpecialTokens::default());
    let models: [(&[u8], &str, u32); 3] = [
        (
            include_bytes!("data/sentencepiece.model"),
            include_str!("data/sentencepiece.tsv"),
            400,
        ),
        (
            include_bytes!("data/sentencepiece_bpe.model"),
            include_str!("data/sentencepiece_bpe.tsv"),
            400,
        ),
        (
            include_bytes!("data/sentencepiece_bytes.model"),
            include_str!("data/sentencepiece_bytes.tsv"),
            500,
        ),
    ];
    for (model, lines, n_pieces) in models {
        std::fs::write(file.path(), model)?;
        let subwords = open()?;
        // It numbers unknown, begin and end; padding comes on top.
        assert_eq!(
            [subwords.bos(), subwords.eos(), subwords.pad()],
            [1, 2, n_pieces]
        );
        assert_eq!(subwords.vocab_size(), n_pieces as usize + 1);
        for line in lines.split_terminator('\n') {
            let fields: Vec<&str> = line.split('\t').collect();
            let numbers = fields[1]
                .split_terminator(' ')
                .map(str::parse)
                .collect::<Result<Vec<u32>, _>>()?;
            assert_eq!(subwords.encode(fields[0])?, numbers, "{:?}", fields[0]);
            // It prints another sign for unknown pieces.
            if !numbers.contains(&0) {
                assert_eq!(subwords.decode(&numbers)?, fields[2]);
            }
        }
    }
    std::fs::write(file.path(), b"not a model")?;
    let error = open().expect_err("another file").to_string();
    assert!(error.contains("is not a model of SentencePiece"), "{error}");
    Ok(())
}

#[test]
fn byte_pairs_of_the_same_sentences_are_the_same() -> Result<(), DatasetError> {
    let (one, other) = (
        subwords(SubwordAlgorithm::Bpe),
        subwords(SubwordAlgorithm::Bpe),
    );
    for line in TEXT.lines().take(500) {
        assert_eq!(one.encode(line)?, other.encode(line)?);
    }
    Ok(())
}

#[test]
fn vocabularies_that_cannot_be_are_named() -> Result<(), Box<dyn std::error::Error>> {
    let error = SubwordsConfig::new(258)
        .train(["x"].iter())
        .expect_err("too few entries for bytes");
    assert_eq!(
        error.to_string(),
        "vocab_size is 258, and must be at least 259: choose about 32000, or fewer for less text"
    );
    let file = tempfile::NamedTempFile::new()?;
    let open = |special: &SpecialTokens| Subwords::open(file.path(), special);
    std::fs::write(file.path(), "{\"version\": \"1.0\"")?;
    let error = open(&SpecialTokens::default()).expect_err("half a file");
    assert!(
        error.to_string().contains("is not a tokenizer.json"),
        "{error}"
    );
    subwords(SubwordAlgorithm::Bpe).save(file.path())?;
    let special = SpecialTokens {
        bos: "<begin>".to_owned(),
        ..SpecialTokens::default()
    };
    let error = open(&special).expect_err("another name");
    assert!(
        error.to_string().contains("there is no `<begin>`"),
        "{error}"
    );
    Ok(())
}

#[test]
fn evaluation_has_every_pair_in_order_and_padded() -> Result<(), DatasetError> {
    let (_, pairs) = pairs();
    let config = PairEvalLoaderConfig::new(16);
    let batches: Vec<PairBatch<Flex>> = config.init(&pairs, &Default::default())?.iter().collect();
    let order: Vec<usize> = batches
        .iter()
        .flat_map(|batch| batch.pairs.clone())
        .collect();
    assert_eq!(order, (0..199).collect::<Vec<_>>());
    for batch in &batches {
        let (_, numbers, [source, inputs, targets]) = read(batch);
        let mask: Vec<bool> = batch.source_mask_pad.to_data().iter().collect();
        let longest = numbers.iter().map(|&i| pairs.get(i).0.len() + 1).max();
        assert_eq!(Some(batch.source.dims()[1]), longest);
        for (row, &pair) in numbers.iter().enumerate() {
            let (from, to) = pairs.get(pair);
            let width = source[row].len();
            let (text, rest) = source[row].split_at(from.len());
            assert!(
                text.iter().eq(from
                    .iter()
                    .map(|&piece| i64::from(piece))
                    .collect::<Vec<_>>()
                    .iter())
            );
            assert_eq!(rest[0], 2);
            assert!(rest[1..].iter().all(|&piece| piece == 0));
            let padding = &mask[row * width..][..width];
            assert!(
                padding
                    .iter()
                    .enumerate()
                    .all(|(i, &is)| is == (i > from.len()))
            );
            assert_eq!(inputs[row][0], 1);
            assert_eq!(inputs[row][1..=to.len()], targets[row][..to.len()]);
            assert_eq!(targets[row][to.len()], 2);
            assert!(
                targets[row][to.len() + 1..]
                    .iter()
                    .all(|&t| t == i64::from(IGNORED))
            );
        }
    }
    let error = PairEvalLoaderConfig::new(0).init::<Flex>(&pairs, &Default::default());
    assert!(matches!(
        error,
        Err(DatasetError::Size(SizeError::ZeroBatchSize))
    ));
    Ok(())
}

#[test]
fn a_pass_has_every_usable_pair_once_in_batches_that_fit() {
    let (_, pairs) = pairs();
    let usable: BTreeSet<usize> = (0..pairs.len())
        .filter(|&i| {
            let (source, target) = pairs.get(i);
            !source.is_empty() && !target.is_empty() && source.len().max(target.len()) < 40
        })
        .collect();
    assert!((50..199).contains(&usable.len()), "{}", usable.len());
    let loader = loader(
        &pairs,
        PairTrainLoaderConfig::new(200, 7).with_max_length(40),
    );
    let mut step = 0;
    let mut orders = Vec::new();
    for _pass in 0..3 {
        let mut seen = Vec::new();
        while seen.len() < usable.len() {
            let batch = loader.batch(step);
            for tensor in [&batch.source, &batch.inputs] {
                assert!(tensor.dims()[0] * tensor.dims()[1] <= 200);
            }
            seen.extend(batch.pairs);
            step += 1;
        }
        assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), usable);
        assert_eq!(seen.len(), usable.len());
        orders.push(seen);
    }
    assert_ne!(orders[0], orders[1]);
    assert_ne!(orders[1], orders[2]);
}

#[test]
fn training_resumes_at_a_step_and_workers_change_nothing() {
    let (_, pairs) = pairs();
    let config = PairTrainLoaderConfig::new(150, 5).with_seed(3);
    let unbroken = loader(&pairs, config.clone());
    let epoch = |loader: &PairTrainLoader<Flex>| {
        loader.iter().map(|batch| read(&batch)).collect::<Vec<_>>()
    };
    let all = [epoch(&unbroken), epoch(&unbroken)].concat();
    assert_eq!(
        all.iter().map(|(step, ..)| *step).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    let resumed = loader(&pairs, config.clone().with_n_workers(2)).starting_at(3);
    assert_eq!([epoch(&resumed), epoch(&resumed)].concat(), all[3..]);
    let other = loader(&pairs, config.with_seed(4));
    assert_ne!(epoch(&other)[0].1, all[0].1);
    // Two devices share the batches of an epoch.
    let part = unbroken.slice(2, 5);
    let steps: Vec<u64> = part.iter().map(|batch| batch.step).collect();
    assert_eq!(steps, [12, 13, 14]);
}

#[test]
fn nothing_to_train_on_is_an_error() {
    let (_, pairs) = pairs();
    let init = |config: PairTrainLoaderConfig| config.init::<Flex>(&pairs, &Default::default());
    let error =
        init(PairTrainLoaderConfig::new(100, 5).with_max_length(1)).expect_err("all are longer");
    assert!(matches!(error, DatasetError::Size(SizeError::NoSequences)));
    let error = init(PairTrainLoaderConfig::new(0, 5)).expect_err("no tokens");
    assert!(matches!(
        error,
        DatasetError::Size(SizeError::Setting {
            setting: "max_tokens",
            ..
        })
    ));
    let error = init(PairTrainLoaderConfig::new(100, 0)).expect_err("no steps");
    assert!(matches!(
        error,
        DatasetError::Size(SizeError::ZeroStepsPerEpoch)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sentence_comes_back(words in prop::collection::vec("\\PC{1,8}", 1..8)) {
        let sentence = words.join(" ");
        let sentence = sentence.trim();
        static BOTH: std::sync::LazyLock<[Subwords; 2]> = std::sync::LazyLock::new(|| {
            [SubwordAlgorithm::Bpe, SubwordAlgorithm::Unigram].map(subwords)
        });
        for subwords in BOTH.iter() {
            prop_assert_eq!(subwords.decode(&subwords.encode(sentence)?)?, sentence);
        }
    }
}
