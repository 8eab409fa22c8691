//! Reading the model files of SentencePiece.
//!
//! They are Protocol Buffers messages, of which only the necessary fields are read here. Fields:
//! <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>, encoding:
//! <https://protobuf.dev/programming-guides/encoding>.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, Tokenizer};

use crate::tokens::character_map;

/// Maximum bytes of a piece. By default, SentencePiece makes pieces of up to 16 characters.
const MAX_PIECE: usize = 512;
/// Maximum number of splits of a piece into two others, on average.
const MAX_CUTS: usize = 50;

/// SentencePiece's replacement for a space.
const SPACE: char = '\u{2581}';

/// Type of a regular piece.
const NORMAL: u64 = 1;
/// Type of the piece for unknown text.
const UNKNOWN: u64 = 2;
/// Type of a control piece, which does not occur in text.
const CONTROL: u64 = 3;
/// Number of the unigram algorithm.
const UNIGRAM: u64 = 1;
/// Number of byte pair encoding.
const BYTE_PAIRS: u64 = 2;

/// The necessary parts of a model.
struct Model {
    pieces: Vec<(String, f64)>,
    /// Numbers of the regular pieces.
    normal: Vec<usize>,
    unknown: Option<usize>,
    controls: Vec<String>,
    algorithm: u64,
    byte_fallback: bool,
    character_map: Vec<u8>,
    adds_space: bool,
    removes_spaces: bool,
}

/// The tokenizer of a SentencePiece model. On failure, returns a description of the problem.
pub(crate) fn tokenizer(file: &[u8]) -> Result<Tokenizer, String> {
    let model = Model::parse(file).ok_or("it is truncated, or not a model")?;
    if ![UNIGRAM, BYTE_PAIRS].contains(&model.algorithm) {
        return Err("its algorithm is neither unigram nor byte pairs".to_owned());
    }
    if let Some((piece, _)) = model
        .pieces
        .iter()
        .find(|(piece, _)| piece.len() > MAX_PIECE)
    {
        return Err(format!(
            "a piece has {} bytes, and at most {MAX_PIECE} are allowed",
            piece.len()
        ));
    }
    if !model.character_map.is_empty() {
        character_map::check(&model.character_map)?;
    }
    model.tokenizer().map_err(|error| error.to_string())
}

impl Model {
    fn parse(file: &[u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            normal: Vec::new(),
            unknown: None,
            controls: Vec::new(),
            algorithm: UNIGRAM,
            byte_fallback: false,
            character_map: Vec::new(),
            adds_space: true,
            removes_spaces: true,
        };
        let (mut has_trainer, mut has_normalizer) = (false, false);
        for field in Fields(file) {
            match field? {
                (1, Value::Bytes(piece)) => model.add_piece(piece)?,
                (2, Value::Bytes(trainer)) => {
                    has_trainer = true;
                    for field in Fields(trainer) {
                        match field? {
                            (3, Value::Number(algorithm)) => model.algorithm = algorithm,
                            (35, Value::Number(flag)) => model.byte_fallback = flag != 0,
                            _ => {}
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    has_normalizer = true;
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Value::Bytes(map)) => model.character_map = map.to_vec(),
                            (3, Value::Number(flag)) => model.adds_space = flag != 0,
                            (4, Value::Number(flag)) => model.removes_spaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // All files have them, unless they are truncated between two fields.
        (has_trainer && has_normalizer && !model.pieces.is_empty()).then_some(model)
    }

    fn add_piece(&mut self, message: &[u8]) -> Option<()> {
        let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(piece)) => text = String::from_utf8(piece.to_vec()).ok()?,
                (2, Value::Float(float)) => score = f64::from(float),
                (3, Value::Number(number)) => kind = number,
                _ => {}
            }
        }
        match kind {
            NORMAL => self.normal.push(self.pieces.len()),
            UNKNOWN => self.unknown = Some(self.pieces.len()),
            CONTROL => self.controls.push(text.clone()),
            _ => {}
        }
        self.pieces.push((text, score));
        Some(())
    }

    fn tokenizer(mut self) -> Result<Tokenizer, tokenizers::Error> {
        let prepend = if self.adds_space {
            PrependScheme::Always
        } else {
            PrependScheme::Never
        };
        let spaces = Metaspace::new(SPACE, prepend, true);
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        if !self.character_map.is_empty() {
            normalizers.push(Precompiled::from(&self.character_map)?.into());
        }
        if self.removes_spaces {
            let several = ReplacePattern::Regex(" {2,}".to_owned());
            normalizers.push(Strip::new(true, true).into());
            normalizers.push(Replace::new(several, " ")?.into());
        }
        let controls = std::mem::take(&mut self.controls).into_iter();
        let controls: Vec<_> = controls.map(|name| AddedToken::from(name, true)).collect();
        let byte_fallback = self.byte_fallback;
        let model: ModelWrapper = match self.algorithm {
            BYTE_PAIRS => self.byte_pairs()?.into(),
            _ => Unigram::from(self.pieces, self.unknown, self.byte_fallback)?.into(),
        };
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(Sequence::new(normalizers)))
            .with_pre_tokenizer(Some(spaces.clone()))
            .with_decoder(Some(decoder(spaces, byte_fallback)));
        tokenizer.add_special_tokens(&controls);
        Ok(tokenizer)
    }
}

/// Joins pieces to text; those of bytes, such as `<0xC3>`, become their characters.
fn decoder(spaces: Metaspace, byte_fallback: bool) -> DecoderWrapper {
    if !byte_fallback {
        return spaces.into();
    }
    let parts = vec![
        spaces.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    Decoders::new(parts).into()
}

impl Model {
    /// SentencePiece joins the neighbours whose piece has the best score. The merges list
    /// each split of a piece into two others, starting with those of the best piece.
    fn byte_pairs(mut self) -> Result<BPE, tokenizers::Error> {
        let pieces = &self.pieces;
        self.normal
            .sort_by(|&a, &b| pieces[b].1.total_cmp(&pieces[a].1));
        let vocabulary: Vocab = (0..)
            .zip(pieces)
            .map(|(number, (text, _))| (text.clone(), number))
            .collect();
        let mut merges = Merges::new();
        for (text, _) in self.normal.iter().map(|&number| &pieces[number]) {
            let cuts = text
                .char_indices()
                .skip(1)
                .map(|(offset, _)| text.split_at(offset));
            let known = cuts.filter(|(left, right)| {
                vocabulary.contains_key(*left) && vocabulary.contains_key(*right)
            });
            merges.extend(known.map(|(left, right)| (left.to_owned(), right.to_owned())));
            if merges.len() > MAX_CUTS * pieces.len() {
                return Err("its pieces can be merged in too many ways".into());
            }
        }
        let mut builder = BPE::builder()
            .fuse_unk(true)
            .byte_fallback(self.byte_fallback);
        if let Some(unknown) = self.unknown {
            builder = builder.unk_token(pieces[unknown].0.clone());
        }
        builder.vocab_and_merges(vocabulary, merges).build()
    }
}

/// The value of a field.
enum Value<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, with their numbers; `None` where it is damaged.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing after it can be read.
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.bytes(8)?;
                Value::Other
            }
            2 => {
                let length = self.number()?;
                Value::Bytes(self.bytes(usize::try_from(length).ok()?)?)
            }
            5 => Value::Float(f32::from_le_bytes(self.bytes(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    /// A varint: seven bits per byte, the lowest first; the eighth bit marks that more follow.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODEL: &[u8] = include_bytes!("../../tests/data/sentencepiece.model");

    /// An embedded message, as this field.
    fn field(number: u8, message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(message.len()).expect("a short message");
        [&[number << 3 | 2, length], message].concat()
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        assert_eq!(
            Model::parse(MODEL).map(|model| model.pieces.len()),
            Some(400)
        );
        for len in 0..MODEL.len() {
            // A file may end after the last necessary field.
            let cut = Model::parse(&MODEL[..len]);
            assert!(cut.is_none_or(|model| model.pieces.len() == 400), "{len}");
        }
    }

    #[test]
    fn other_algorithms_are_refused() {
        let piece = field(1, &field(1, b"a"));
        let words = field(2, &[3 << 3, 3]);
        let file = [piece, words, field(3, b"")].concat();
        let error = tokenizer(&file).expect_err("words");
        assert_eq!(error, "its algorithm is neither unigram nor byte pairs");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = tokenizer(&bytes);
            let piece = field(1, &field(1, b"a"));
            let file = [piece, field(2, b""), field(3, &field(2, &bytes))].concat();
            let _ = tokenizer(&file);
            let pairs = field(2, &[3 << 3, 2]);
            let file = [field(1, &bytes), pairs, field(3, b"")].concat();
            let _ = tokenizer(&file);
        }

        #[test]
        fn no_spoilt_byte_makes_it_panic(position in 0..MODEL.len(), byte: u8) {
            let mut file = MODEL.to_vec();
            file[position] = byte;
            let _ = tokenizer(&file);
        }
    }
}
