//! Tokenizers of the kinds that people have: pieces of a text have the ids of the whole.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Prepend, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split as SplitAt, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Library};

use super::{Tokenizer, encode};
use crate::text::{ByteCorpus, SplitName};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How GPT-4 and Llama 3 divide a text: line ends belong to the signs before them.
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Verses, numbers, signs, several spaces and letters beyond ASCII, of more than one piece.
fn text() -> String {
    let verses =
        str::from_utf8(ByteCorpus::sample().as_bytes()).expect("ASCII")[..30_000].to_owned();
    let others =
        "Der  Bär fraß 12345 Käse (und mehr)...\n\n\n\tx = y + 1;\r\n日本語。 🎭 I'll\n   \n"
            .repeat(400);
    format!("{verses}{others}{verses}")
}

fn trained(
    pre_tokenizer: impl Into<PreTokenizerWrapper>,
    model: impl Into<ModelWrapper>,
    trainer: impl Into<TrainerWrapper>,
) -> tokenizers::Result<Library> {
    let mut library = Library::new(model);
    library.with_pre_tokenizer(Some(pre_tokenizer));
    let text = text();
    library.train(&mut trainer.into(), text.split_inclusive('\n'))?;
    Ok(library)
}

fn byte_pairs() -> BpeTrainer {
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder().show_progress(false).vocab_size(500);
    trainer.initial_alphabet(alphabet).build()
}

fn metaspace() -> Metaspace {
    Metaspace::new('\u{2581}', PrependScheme::Always, true)
}

fn check(name: &str, library: Library) -> Outcome {
    let tokenizer = Tokenizer::new(library)?;
    let text = text();
    let whole = tokenizer.encode(&text)?;
    let split = ByteCorpus::from_bytes("text", text)?.whole_as(SplitName::Train);
    let pieces = encode(&split, &tokenizer)?;
    let pieces: Vec<u32> = pieces.corpus().ids_from(0).collect();
    let first = pieces.iter().zip(&whole).position(|(a, b)| a != b);
    assert!(pieces == whole, "{name}: {first:?} of {}", whole.len());
    Ok(())
}

#[test]
fn byte_levels_with_and_without_a_space_at_the_start() -> Outcome {
    for adds_space in [true, false] {
        let level = ByteLevel::default().add_prefix_space(adds_space);
        let library = trained(level, BPE::default(), byte_pairs())?;
        check("GPT-2", library)?;
    }
    Ok(())
}

#[test]
fn divisions_of_later_models() -> Outcome {
    let pattern = SplitPattern::Regex(CL100K.to_owned());
    let split = SplitAt::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
    let level = ByteLevel::new(false, false, false);
    let both = Sequence::new(vec![split.into(), level.into()]);
    check("GPT-4", trained(both, BPE::default(), byte_pairs())?)
}

#[test]
fn spaces_as_signs() -> Outcome {
    let mut trainer = UnigramTrainer::builder();
    let trainer = trainer
        .show_progress(false)
        .vocab_size(300)
        .unk_token(Some("<unk>".to_owned()))
        .special_tokens(vec![tokenizers::AddedToken::from("<unk>", true)])
        .build()?;
    check("T5", trained(metaspace(), Unigram::default(), trainer)?)?;

    // Words are divided in training alone; the normaliser adds a sign to each piece.
    let mut library = trained(metaspace(), BPE::default(), byte_pairs())?;
    let space = ReplacePattern::String(" ".to_owned());
    let normalizers = vec![
        Prepend::new("\u{2581}".to_owned()).into(),
        Replace::new(space, "\u{2581}")?.into(),
    ];
    library.with_normalizer(Some(Normalizers::new(normalizers)));
    library.with_pre_tokenizer(None::<PreTokenizerWrapper>);
    assert!(Tokenizer::new(library.clone())?.drops_space());
    check("Llama 2", library)
}

#[test]
fn words_without_spaces() -> Outcome {
    let trainer = WordPieceTrainer::builder()
        .show_progress(false)
        .vocab_size(400)
        .special_tokens(vec![tokenizers::AddedToken::from("[UNK]", true)])
        .build();
    let mut library = trained(BertPreTokenizer, WordPiece::default(), trainer)?;
    library.with_normalizer(Some(BertNormalizer::default()));
    check("BERT", library)
}
