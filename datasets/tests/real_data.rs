//! Large files, and data that does not travel with the crate: where an environment variable names
//! it, it is read.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::path::PathBuf;

use reformer_datasets::translation::{ParallelText, SubwordsConfig, TokenPairs};
use reformer_datasets::{ByteCorpus, FolderCorpus, Sequences, SplitName, Wikipedia, Windows};

type Outcome = Result<(), Box<dyn Error>>;

/// The path in a variable, or a word on what is skipped.
fn path_in(variable: &str, what: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: set {variable} to {what}");
    }
    path
}

#[cfg(unix)] // Elsewhere a file with a hole takes its room on the disk.
#[test]
fn ten_gigabytes_fit_and_their_holes_are_not_read() -> Outcome {
    use std::os::unix::fs::FileExt;

    const LEN: u64 = 10_000_000_000;
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().write_all_at(b"the end", LEN - 7)?;
    let started = std::time::Instant::now();
    let split = ByteCorpus::open(file.path())?.whole_as(SplitName::Train);
    assert!(
        started.elapsed().as_millis() < 500,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(split.len() as u64, LEN);
    assert!(split.as_bytes().ends_with(b"the end"));
    let (mut tokens, mut targets) = (vec![1; 65_536], vec![1; 65_536]);
    Windows::new(&split, 65_536)?.read(100_000, &mut tokens, &mut targets);
    assert!(tokens.iter().all(|&token| token == 0));
    Ok(())
}

#[test]
fn enwik8() -> Outcome {
    let Some(path) = path_in("REFORMER_ENWIK8", "enwik8, packed or not") else {
        return Ok(());
    };
    let splits = Wikipedia::Enwik8.open(path)?;
    let used: BTreeSet<u8> = splits.train.as_bytes().iter().copied().collect();
    eprintln!(
        "{} bytes to train on, {} different",
        splits.train.len(),
        used.len()
    );
    assert!(used.len() > 150);
    assert!(String::from_utf8_lossy(splits.valid.as_bytes()).contains("<page>"));
    Ok(())
}

#[test]
fn folder_of_texts() -> Outcome {
    let Some(path) = path_in("REFORMER_TEXTS", "a folder of three texts or more") else {
        return Ok(());
    };
    let texts = FolderCorpus::open(path)?;
    let splits = texts.split_by_file()?;
    let lengths = [&splits.train, &splits.valid, &splits.test].map(|split| split.len());
    eprintln!("{} files, {lengths:?} bytes", texts.files().len());
    let starts: Vec<usize> = texts.files().map(|(_, range)| range.start).collect();
    assert!(starts.contains(&splits.valid.range().start));
    assert!(starts.contains(&splits.test.range().start));
    assert_eq!(lengths.iter().sum::<usize>(), texts.corpus().len());
    Ok(())
}

#[test]
fn parallel_text() -> Outcome {
    let wanted =
        "a file of pairs with tabs, or to the two files of a text with a comma between them";
    let Some(path) = path_in("REFORMER_PAIRS", wanted) else {
        return Ok(());
    };
    let text = match path.to_str().and_then(|path| path.split_once(',')) {
        Some((source, target)) => ParallelText::open_files(source, target)?,
        None => ParallelText::open_tsv(&path)?,
    };
    let started = std::time::Instant::now();
    let subwords = SubwordsConfig::new(8_000).train(text.sentences())?;
    eprintln!(
        "{} pairs, {} pieces in {:?}",
        text.len(),
        subwords.vocab_size(),
        started.elapsed()
    );
    let started = std::time::Instant::now();
    let pairs = TokenPairs::encode(&text, &subwords)?;
    eprintln!("encoded in {:?}", started.elapsed());
    for (index, (source, target)) in text.iter().enumerate() {
        let (source_pieces, target_pieces) = pairs.get(index);
        // A space at the start of a sentence is the one that every sentence gets.
        assert_eq!(
            subwords.decode(source_pieces)?,
            source.strip_prefix(' ').unwrap_or(source)
        );
        assert_eq!(
            subwords.decode(target_pieces)?,
            target.strip_prefix(' ').unwrap_or(target)
        );
    }
    Ok(())
}
