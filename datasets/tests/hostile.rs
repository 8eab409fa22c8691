//! What no file may do, whatever is in it: every reader gives data or an error of one line, and
//! never panics, hangs or takes memory without bound.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, RgbImage};
use lzma_rust2::{XzOptions, XzWriter};
use proptest::prelude::*;
use reformer_datasets::images::{ImageSet, Picture};
use reformer_datasets::labelled::{LabelledTexts, Questions};
use reformer_datasets::tokens::{Column, ColumnFormat, IdWidth, encode, open_ids, train_tokenizer};
use reformer_datasets::translation::{
    ParallelText, SpecialTokens, Subwords, SubwordsConfig, TokenPairs,
};
use reformer_datasets::{
    ByteCorpus, Corpus, DatasetError, Fingerprint, FolderCorpus, Sequences, Wikipedia,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A change to a valid file.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let position = any::<usize>;
    // Bytes that mean something in one of the formats, or any.
    let byte = prop_oneof![
        prop::sample::select(&b"\"\n\r\t,;:{}[]()\\0-\x00\xff\xfe\xd9"[..]),
        any::<u8>()
    ];
    prop_oneof![
        4 => (position(), byte.clone()).prop_map(|(position, byte)| Change::Set(position, byte)),
        2 => (position(), byte).prop_map(|(position, byte)| Change::Insert(position, byte)),
        1 => position().prop_map(Change::Remove),
        1 => position().prop_map(Change::Cut),
        1 => (position(), 1_usize..64).prop_map(|(position, len)| Change::Repeat(position, len)),
    ]
}

fn changed(file: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut file = file.to_vec();
    for change in changes {
        let position = |at: usize| at % file.len().max(1);
        match *change {
            _ if file.is_empty() => {}
            Change::Set(at, byte) => {
                let at = position(at);
                file[at] = byte;
            }
            Change::Insert(at, byte) => file.insert(position(at), byte),
            Change::Remove(at) => drop(file.remove(position(at))),
            Change::Cut(at) => file.truncate(position(at)),
            Change::Repeat(at, len) => {
                let at = position(at);
                let part = file[at..(at + len).min(file.len())].to_vec();
                file.splice(at..at, part);
            }
        }
    }
    file
}

/// Any bytes, or one of the files with some changes.
fn hostile(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(), 1..4);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        8 => (prop::sample::select(files), changes).prop_map(|(file, changes)| changed(&file, &changes)),
    ]
}

/// That an error is a line that a terminal only shows.
fn one_line<T>(result: Result<T, DatasetError>) -> Result<Option<T>, TestCaseError> {
    match result {
        Ok(read) => Ok(Some(read)),
        Err(error) => {
            let message = error.to_string();
            prop_assert!(!message.contains(char::is_control), "{message:?}");
            prop_assert!(message.len() < 5_000, "{message}");
            Ok(None)
        }
    }
}

/// What a reader does with a file of this name.
fn with_file<T>(
    name: &str,
    bytes: &[u8],
    read: impl FnOnce(&Path) -> Result<T, TestCaseError>,
) -> Result<T, TestCaseError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().expect("it is in the folder"))?;
    fs::write(&path, bytes)?;
    read(&path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .start_file(name, SimpleFileOptions::default())
        .unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

/// A file as it is and packed in each way.
fn packed(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![bytes.to_vec(), gzip(bytes), xz(bytes), zip("a", bytes)]
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn images() -> Vec<Vec<u8>> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 9, y as u8 * 30, 7]));
    let image = DynamicImage::from(image);
    let mut files: Vec<Vec<u8>> = [Png, Jpeg, WebP, Gif, Bmp, Tiff]
        .iter()
        .map(|&format| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        })
        .collect();
    files.push(include_bytes!("data/files/exif-orientation-6.jpg").to_vec());
    files
}

fn tar(files: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (number, bytes) in files.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, format!("{number}.png"), &**bytes)
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// 256 cases, or as many as `PROPTEST_CASES` says. Failures are printed, and not kept in a file.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

const TABLE: &str = "text,label\n\"a, b\",x\nc d,y\ne,x\n\"f\"\"g\",y\n";
const SQUAD: &str = include_str!("data/files/f09g_minus_one_impossible.json");
const ROWS: &str = include_str!("data/files/f09i_hf_rows.jsonl");
const LINES: &str =
    "{\"text\": \"one\", \"ids\": [1, 2, 300]}\n{\"text\": \"two\\u0000\", \"ids\": [7]}\n";
const PAIRS: &str = "Hi.\tHallo!\nRun!\tLauf!\nGo on.\tWeiter.\n";
const MODELS: [&[u8]; 2] = [
    include_bytes!("data/sentencepiece.model"),
    include_bytes!("data/sentencepiece_bpe.model"),
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn corpora(bytes in hostile([packed(b"some text"), vec![utf16("some text"), b"<mediawiki x".to_vec()]].concat())) {
        with_file("in/file", &bytes, |path| {
            one_line(ByteCorpus::open(path))?;
            one_line(ByteCorpus::open_unpacked(path))?;
            one_line(Wikipedia::Enwik8.open(path))?;
            prop_assert!(one_line(Fingerprint::of(path))?.is_some());
            if let Some(folder) = one_line(FolderCorpus::open(path.parent().expect("a folder")))? {
                one_line(folder.split_by_file())?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn tables(bytes in hostile([packed(TABLE.as_bytes()), vec![utf16(TABLE), TABLE.replace(',', ";").into_bytes()]].concat())) {
        with_file("folder/class/file", &bytes, |path| {
            if let Some(texts) = one_line(LabelledTexts::open_table(path))? {
                prop_assert!(!texts.report().to_string().contains(char::is_control));
                prop_assert_eq!(texts.encode(8).len(), texts.len());
                one_line(texts.split(10))?;
            }
            one_line(LabelledTexts::open_folder(path.parent().and_then(Path::parent).expect("a folder")))?;
            Ok(())
        })?;
    }

    #[test]
    fn questions(bytes in hostile([packed(&SQUAD.as_bytes()[..2_000]), vec![SQUAD.into(), ROWS.into(), utf16(ROWS)]].concat())) {
        with_file("file", &bytes, |path| {
            if let Some(questions) = one_line(Questions::open_squad(path))? {
                for question in questions.iter() {
                    prop_assert!(question.answer_texts().all(|answer| !answer.is_empty()));
                }
                prop_assert_eq!(questions.encode(64).len(), questions.len());
                one_line(questions.split(10))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn pairs(bytes in hostile([packed(PAIRS.as_bytes()), vec![utf16(PAIRS), PAIRS.replace('\n', "\r").into_bytes()]].concat())) {
        with_file("file", &bytes, |path| {
            if let Some(text) = one_line(ParallelText::open_tsv(path))? {
                one_line(text.split_by_source(3))?;
            }
            if let Some(text) = one_line(ParallelText::open_files(path, path))? {
                prop_assert!(text.iter().all(|(source, target)| source == target));
            }
            Ok(())
        })?;
    }

    #[test]
    fn columns(bytes in hostile([packed(LINES.as_bytes()), vec![utf16(LINES), LINES.replace('\n', "\r").into_bytes()]].concat())) {
        with_file("folder/train.jsonl", &bytes, |path| {
            for source in [path, path.parent().expect("a folder")] {
                for name in ["text", "ids"] {
                    let column = Column::new(source.to_owned(), ColumnFormat::JsonLines, name.to_owned());
                    one_line(column.kind())?;
                    if let Some(ids) = one_line(column.open_ids(Some(1_000)))? {
                        prop_assert!(ids.train.corpus().n_tokens() > 0);
                    }
                    if let Some(texts) = one_line(column.open_texts())? {
                        prop_assert!(!texts.train.corpus().report().to_string().contains(char::is_control));
                        if let Some(tokenizer) = one_line(train_tokenizer(&texts.train, 259))? {
                            one_line(encode(&texts.valid, &tokenizer))?;
                        }
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn files_of_ids(bytes in hostile(vec![vec![7; 64], (0..64).collect()]), vocab_size in prop::option::of(1_usize..300)) {
        with_file("train.bin", &bytes, |path| {
            for width in [IdWidth::U16, IdWidth::U32] {
                if let Some(splits) = one_line(open_ids(path, Some(path), width, vocab_size))? {
                    let vocab_size = splits.train.corpus().vocab_size() as i32;
                    let mut row = vec![0; splits.valid.len()];
                    splits.valid.corpus().write(0, &mut row);
                    prop_assert!(row.iter().all(|&id| (0..vocab_size).contains(&id)));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn arrays_of_images(bytes in hostile(vec![
        include_bytes!("data/numpy_savez.npz").to_vec(),
        include_bytes!("data/numpy_savez_compressed.npz").to_vec(),
    ])) {
        with_file("file.npz", &bytes, |path| {
            if let Some(images) = one_line(ImageSet::open_npz(path))? {
                let n_tokens = images.seq_length();
                images.read(0, &mut vec![0; n_tokens], &mut vec![0; n_tokens]);
                one_line(images.split(10))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn files_of_images(bytes in hostile(images())) {
        with_file("folder/image.png", &bytes, |path| {
            let one = one_line(Picture::open(path, 4))?;
            let folder = path.parent().expect("a folder");
            let all = one_line(ImageSet::open_images(folder, 4))?;
            prop_assert_eq!(one.is_some(), all.is_some());
            Ok(())
        })?;
    }

    #[test]
    fn archives_of_images(bytes in hostile(vec![tar(&images()), gzip(&tar(&images()[..2])), xz(&tar(&images()[..2]))])) {
        with_file("file.tar", &bytes, |path| {
            one_line(ImageSet::open_images(path, 4))?;
            Ok(())
        })?;
    }

    #[test]
    fn vocabularies(bytes in hostile(MODELS.map(<[u8]>::to_vec).to_vec())) {
        with_file("spiece.model", &bytes, |path| {
            let subwords = Subwords::open_sentencepiece(path, &SpecialTokens::default());
            if let Some(subwords) = one_line(subwords)? {
                let text = ParallelText::from_pairs("any", [("Guten Tag, ½ ﬁ Å!", "\u{1b} ü 🗼  ab")]);
                if let Some(pairs) = one_line(TokenPairs::encode(&text, &subwords))? {
                    one_line(subwords.decode(pairs.get(0).0))?;
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn saved_vocabularies(changes in prop::collection::vec(change(), 1..3)) {
        let subwords = SubwordsConfig::new(270).train(["a b", "b a c"].iter()).unwrap();
        let file = tempfile::NamedTempFile::new()?;
        subwords.save(file.path())?;
        let saved = fs::read(file.path())?;
        with_file("subwords.json", &changed(&saved, &changes), |path| {
            if let Some(subwords) = one_line(Subwords::open(path, &SpecialTokens::default()))? {
                one_line(subwords.encode("a b ü"))?;
            }
            Ok(())
        })?;
    }
}

#[test]
fn sizes_that_a_header_only_claims_take_no_memory() {
    let mut png = images()[0].clone();
    // 60,000 x 60,000 pixels, with the checksum of such a header.
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.png");
    fs::write(&path, &png).unwrap();
    let error = ImageSet::open_images(folder.path(), 8)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bomb.png") && error.contains("takes more than 536870912 bytes"),
        "{error}"
    );
}
