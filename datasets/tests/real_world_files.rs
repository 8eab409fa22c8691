//! Files in the forms that people have them in: what each gives, or what is said about it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use reformer_datasets::images::{ImageSet, Picture};
use reformer_datasets::labelled::{LabelledTexts, Questions};
use reformer_datasets::{ByteCorpus, FolderCorpus};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/files")
        .join(name)
}

/// The notes of a table that is read, which has these numbers of records of `neg` and `pos`.
fn table(name: &str) -> (Vec<String>, Vec<u64>) {
    let report = LabelledTexts::open_table(file(name)).unwrap().report();
    let names: Vec<&str> = report
        .classes
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["neg", "pos"], "{name}");
    (
        report.notes,
        report.classes.iter().map(|(_, count)| *count).collect(),
    )
}

#[test]
fn tables_of_spreadsheets_are_read() {
    let lines = |name: &str| fs::read_to_string(file(name)).unwrap().lines().count() as u64;
    let (notes, counts) = table("f03a_semicolon.csv");
    assert_eq!(notes, ["fields end at `;`"]);
    assert_eq!(counts.iter().sum::<u64>(), lines("f03a_semicolon.csv") - 1);
    let (notes, counts) = table("f03b_sep_line.csv");
    assert!(notes.is_empty());
    assert_eq!(counts.iter().sum::<u64>(), lines("f03b_sep_line.csv") - 2);
    let (notes, of_returns) = table("f30a_cr_only.csv");
    assert_eq!(notes, ["lines end with carriage returns only"]);
    assert_eq!(of_returns, counts);
}

#[test]
fn open_quote_is_named_by_its_line() {
    let error = LabelledTexts::open_table(file("unclosed_quote.csv"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the quote that opens in line 4 is not closed"),
        "{error}"
    );
}

#[test]
fn every_class_validates() {
    let texts = LabelledTexts::open_table(file("round_robin.csv")).unwrap();
    let parts = texts.split(10).unwrap().map(|part| part.report().classes);
    for part in &parts {
        assert_eq!(part.len(), 5);
        assert!(part.iter().all(|(_, count)| *count > 0), "{part:?}");
    }
    let total: u64 = parts.iter().flatten().map(|(_, count)| count).sum();
    assert_eq!(total, texts.len() as u64);
}

#[test]
fn labels_that_are_nearly_all_different_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.csv");
    let table = |n_classes: usize| {
        let records: Vec<String> = (0..300)
            .map(|i| format!("text {i},{}\n", i % n_classes))
            .collect();
        fs::write(&path, format!("text,label\n{}", records.concat())).unwrap();
        LabelledTexts::open_table(&path)
    };
    assert_eq!(table(150).unwrap().classes().len(), 150);
    let error = table(200).unwrap_err().to_string();
    assert!(
        error.contains("has 200 different labels for 300 texts (`0`, `1`, ...)"),
        "{error}"
    );
}

#[test]
fn utf16_is_decoded_and_said() {
    let corpus = ByteCorpus::open(file("f03c_utf16.txt")).unwrap();
    let text = str::from_utf8(corpus.as_bytes()).unwrap();
    assert!(!text.contains('\0') && !text.starts_with('\u{feff}'));
    assert_eq!(corpus.report().notes, ["decoded from UTF-16LE"]);
}

#[test]
fn questions_are_read_in_every_form() {
    // The file, its questions, those without an answer, what is said of it.
    for (name, n_unanswered, said) in [
        ("int_ids.json", 0, ""),
        ("string_start.json", 0, ""),
        (
            "one_off_by_one.json",
            0,
            "1 answers found near their offset",
        ),
        (
            "f09e_one_without_answer.json",
            1,
            "1 questions have no answer in their text",
        ),
        (
            "f09f_not_given.json",
            1,
            "1 questions have no answer in their text",
        ),
        (
            "f09g_minus_one_impossible.json",
            1,
            "1 questions have no answer in their text",
        ),
        ("f09h_hf_rows.json", 0, ""),
        ("f09i_hf_rows.jsonl", 0, ""),
        ("near.json", 0, ""),
        ("far.json", 0, ""),
        ("mixed.json", 0, ""),
    ] {
        let questions = Questions::open_squad(file(name)).unwrap();
        let n_asked = fs::read_to_string(file(name))
            .unwrap()
            .matches("\"question\"")
            .count();
        assert_eq!(questions.len(), n_asked, "{name}");
        let unanswered = questions
            .iter()
            .filter(|question| question.answers.is_empty());
        assert_eq!(unanswered.count(), n_unanswered, "{name}");
        let report = questions.report();
        assert!(report.skipped.is_empty(), "{name}: {report}");
        assert_eq!(report.notes.concat(), said, "{name}");
    }
}

#[test]
fn cut_images_are_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cut.jpg", "whole.jpg"] {
        fs::copy(file(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "none").unwrap();
    let images = ImageSet::open_images(folder.path(), 16).unwrap();
    assert_eq!(images.len(), 1);
    let report = images.report().to_string();
    assert!(report.contains("2 files, 1 image, 768 tokens"), "{report}");
    assert!(
        report.contains("1 damaged or truncated images (first: ") && report.contains("cut.jpg"),
        "{report}"
    );
    assert!(
        report.contains("1 files that are not images (first: "),
        "{report}"
    );
    let error = images.split(10).unwrap_err().to_string();
    assert!(
        error.contains("1 different images") && error.contains("cut.jpg"),
        "{error}"
    );
    fs::remove_file(folder.path().join("whole.jpg")).unwrap();
    let error = ImageSet::open_images(folder.path(), 16)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cut.jpg") && error.contains("it is cut off"),
        "{error}"
    );
}

#[test]
fn images_are_turned_upright() {
    let upright = Picture::open(file("exif-orientation-6.jpg"), 8).unwrap();
    let stored = image::open(file("exif-orientation-6.jpg"))
        .unwrap()
        .rotate90()
        .into_rgb8();
    let expected = image::imageops::resize(&stored, 8, 8, image::imageops::FilterType::Triangle);
    assert_eq!(upright.as_bytes(), expected.as_raw());
    let lying = image::open(file("exif-orientation-6.jpg"))
        .unwrap()
        .into_rgb8();
    let lying = image::imageops::resize(&lying, 8, 8, image::imageops::FilterType::Triangle);
    assert_ne!(upright.as_bytes(), lying.as_raw());
}

#[test]
fn common_formats_are_read() {
    use image::ImageFormat::{Bmp, Gif, Png, Tiff, WebP};
    let folder = tempfile::tempdir().unwrap();
    let gray = image::RgbImage::from_pixel(4, 4, image::Rgb([9, 9, 9]));
    for (format, name) in [
        (Bmp, "a.bmp"),
        (Gif, "b.gif"),
        (Png, "c.png"),
        (Tiff, "d.tif"),
        (WebP, "e.webp"),
    ] {
        gray.save_with_format(folder.path().join(name), format)
            .unwrap();
    }
    let images = ImageSet::open_images(folder.path(), 4).unwrap();
    assert_eq!(images.len(), 5);
    for index in 0..5 {
        assert_eq!(images.picture(index).as_bytes(), [9; 48], "{index}");
    }
    let same = images.split(20).unwrap_err().to_string();
    assert!(
        same.contains("has 1 different images, and at least 2 are needed"),
        "{same}"
    );
}

#[cfg(unix)]
#[test]
fn linked_texts_are_there_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "b.txt", "c.txt"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    for link in ["x", "y"] {
        std::os::unix::fs::symlink(".", folder.path().join(link)).unwrap();
    }
    let texts = FolderCorpus::open(folder.path()).unwrap();
    assert_eq!(texts.corpus().as_bytes(), b"a.txtb.txtc.txt");
    assert_eq!(texts.corpus().report().skipped[0].count, 2);
}
