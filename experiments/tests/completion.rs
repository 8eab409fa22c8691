//! Trained models of images and of translation.

mod common;

use std::fs;

use common::{printed, refused, run, run_with};
use reformer_datasets::images::Picture;

const TEXT: &str = env!("CARGO_BIN_EXE_generate_text");
const IMAGE: &str = env!("CARGO_BIN_EXE_generate_image");
const TRAIN_IMAGES: &str = env!("CARGO_BIN_EXE_train_images");
const TRAIN_TRANSLATION: &str = env!("CARGO_BIN_EXE_train_translation");
const TRANSLATE: &str = env!("CARGO_BIN_EXE_translate");

#[test]
fn images_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for number in 0..21 {
        let tokens: Vec<i32> = (0..3 * 16 * 16).map(|at| (at * number) % 256).collect();
        let picture = Picture::from_tokens(&tokens).unwrap();
        picture
            .save_png(photos.join(format!("{number:02}.png")))
            .unwrap();
    }
    let train = [
        "--data",
        "photos",
        "--name",
        "i",
        "--steps",
        "1",
        "--layers",
        "2",
        "--batch-size",
        "1",
        "--eval-windows",
        "1",
    ];
    printed(&run(TRAIN_IMAGES, folder.path(), &train));

    let complete = |arguments: &[&str]| {
        let checkpoint = ["--checkpoint", "runs/i", "--samples", "2"];
        run(IMAGE, folder.path(), &[&checkpoint, arguments].concat())
    };
    let half = [
        "--complete-from",
        "photos/03.png",
        "--scale",
        "1",
        "--output",
        "grid.png",
    ];
    assert!(printed(&complete(&half)).contains("grid.png"));
    let grid = fs::read(folder.path().join("grid.png")).unwrap();
    let grid = image::load_from_memory(&grid).unwrap().into_rgb8();
    // Given, two completions, original.
    assert_eq!(grid.dimensions(), (4 * 16 + 3, 16));
    let column = |number: u32, y: u32| *grid.get_pixel(number * 17 + 5, y);
    for number in 0..4 {
        assert_eq!(column(number, 7), column(3, 7), "the upper half is given");
    }
    assert_eq!(column(0, 8), image::Rgb([0; 3]));
    printed(&complete(&["--keep", "0.9", "--output", "nothing.png"]));
    // What is looked at is enlarged.
    let shown = image::open(folder.path().join("nothing.png")).unwrap();
    assert_eq!((shown.width(), shown.height()), (16 * (2 * 16 + 1), 256));

    refused(&complete(&["--complete-from", "none.png"]), &["none.png"]);
    let over = [
        "--complete-from",
        "photos/03.png",
        "--output",
        "photos/03.png",
    ];
    refused(&complete(&over), &["`--output` is", "is read"]);
    refused(&complete(&["--keep", "1"]), &["`--keep` is 1"]);
    refused(
        &run(
            TEXT,
            folder.path(),
            &["--checkpoint", "runs/i", "--prompt", "A"],
        ),
        &["does not continue texts"],
    );
}

#[test]
fn lines_are_translated() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let train = "--name t --steps 2 --layers 1 --d-model 16 --n-heads 2 --batch-size 8 \
                 --eval-windows 8 --bleu-sentences 4 --beam-size 2 --set model.reformer.vocab_size=300 \
                 --set model.reformer.position={\"Learned\":{\"max_length\":60,\"std\":1.0,\"sinusoidal\":false}}";
    let train: Vec<&str> = train.split_whitespace().collect();
    printed(&run(TRAIN_TRANSLATION, folder.path(), &train));
    let translate = |arguments: &[&str]| {
        let checkpoint = ["--checkpoint", "runs/t", "--beam-size", "2"];
        run(TRANSLATE, folder.path(), &[&checkpoint, arguments].concat())
    };

    // The sentences of the end of the training, as they were translated there.
    let scored = fs::read_to_string(at("runs/t/translations.tsv")).unwrap();
    let column = |number| {
        let lines = scored.lines();
        let column = lines.map(move |line| line.split('\t').nth(number).unwrap());
        column.collect::<Vec<&str>>()
    };
    let (sources, translations) = (column(0), column(2));
    assert_eq!(sources.len(), 4);
    // Empty lines, ends of two bytes, and none at the end.
    let input = format!("{}\r\n\n  \n{}", sources[0], sources[1..].join("\n"));
    fs::write(at("in.txt"), &input).unwrap();
    let expected = format!(
        "{}\n\n\n{}\n",
        translations[0],
        translations[1..].join("\n")
    );
    for batch in ["1", "3", "50"] {
        let file = translate(&[
            "--input",
            "in.txt",
            "--output",
            "out.txt",
            "--batch-size",
            batch,
        ]);
        assert_eq!(printed(&file), "");
        assert_eq!(fs::read_to_string(at("out.txt")).unwrap(), expected);
        let piped = run_with(
            TRANSLATE,
            folder.path(),
            "--checkpoint runs/t --beam-size 2",
            &input,
        );
        assert_eq!(printed(&piped), expected);
    }
    fs::write(at("marked.txt"), format!("\u{feff}{}", sources[0])).unwrap();
    let marked = translate(&["--input", "marked.txt"]);
    assert_eq!(printed(&marked), format!("{}\n", translations[0]));
    let two = ["--text", sources[2], "--text", sources[0]];
    let two_translations = format!("{}\n{}\n", translations[2], translations[0]);
    assert_eq!(printed(&translate(&two)), two_translations);

    let long = format!("Yes.\n{}\n", "so ".repeat(100));
    fs::write(at("long.txt"), long).unwrap();
    let long = translate(&["--input", "long.txt", "--output", "out.txt"]);
    refused(
        &long,
        &[
            "line 2 of `long.txt`",
            "the 60 that the model has positions for",
        ],
    );
    assert_eq!(
        fs::read_to_string(at("out.txt")).unwrap(),
        expected,
        "the old one stays"
    );
    fs::write(at("latin1.txt"), b"Yes.\nM\xfcnchen\n").unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["--input", "in.txt", "--output", "in.txt"],
            &["`--output` is `in.txt`, but `in.txt` is read"],
        ),
        (
            &["--input", "latin1.txt"],
            &["line 2 of `latin1.txt`", "not UTF-8"],
        ),
        (&["--input", "none.txt"], &["`none.txt` cannot be read"]),
        (
            &["--text", "a", "--output", "no/where"],
            &["`no/where` cannot be written"],
        ),
        (
            &["--text", "a", "--batch-size", "0"],
            &["`--batch-size` is 0"],
        ),
        (
            &["--text", "a", "--length-penalty", "-1"],
            &["`--length-penalty` is -1"],
        ),
    ];
    for (arguments, parts) in cases {
        refused(&translate(arguments), parts);
    }
    assert_eq!(fs::read_to_string(at("in.txt")).unwrap(), input);
    let none = "--checkpoint runs/none --text a --beam-size 0";
    let none: Vec<&str> = none.split_whitespace().collect();
    refused(
        &run(TRANSLATE, folder.path(), &none),
        &["`--beam-size` is 0", "raise it"],
    );
    let other = ["--checkpoint", "runs/none", "--text", "a"];
    refused(&run(TRANSLATE, folder.path(), &other), &["runs/none"]);
}
