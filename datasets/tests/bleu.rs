//! The scores of sacreBLEU itself: `data/make_bleu.py` wrote both the sentences and what it says
//! about them.

use std::collections::HashMap;

use reformer_datasets::translation::Bleu;

const SENTENCES: &str = include_str!("data/bleu_sentences.tsv");
const SCORES: &str = include_str!("data/bleu_scores.tsv");

#[test]
fn scores_are_those_of_sacrebleu() {
    let mut corpora: HashMap<&str, Vec<[&str; 2]>> = HashMap::new();
    for line in SENTENCES.split_terminator('\n') {
        let fields: Vec<&str> = line.split('\t').collect();
        let pair = [fields[1], fields[2]];
        corpora.entry(fields[0]).or_default().push(pair);
    }
    let mut scores = SCORES.split_terminator('\n');
    assert_eq!(scores.next(), Some(Bleu::SIGNATURE));
    let mut n_corpora = 0;
    for line in scores {
        let fields: Vec<&str> = line.split('\t').collect();
        let name = fields[0];
        let pairs = &corpora[name];
        let [hypotheses, references] =
            [0, 1].map(|side| pairs.iter().map(|pair| pair[side]).collect::<Vec<_>>());
        let bleu = Bleu::of_corpus(&hypotheses, &references).expect("there are as many");
        let lengths = [bleu.hypothesis_length, bleu.reference_length];
        assert_eq!(
            lengths.map(|length| length.to_string()),
            fields[7..9],
            "{name}"
        );
        let numbers = [&[bleu.score][..], &bleu.precisions, &[bleu.brevity_penalty]].concat();
        for (number, expected) in numbers.iter().zip(&fields[1..7]) {
            let expected: f64 = expected.parse().expect("a number");
            assert!(
                (number - expected).abs() < 1e-9,
                "{name}: {number} and {expected}"
            );
        }
        assert_eq!(bleu.to_string(), fields[9], "{name}");
        n_corpora += 1;
    }
    assert_eq!(n_corpora, corpora.len());
    assert!(n_corpora > 25);
}
