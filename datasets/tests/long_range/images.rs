//! CIFAR-10 and Pathfinder.

use std::fs;
use std::path::Path;

use image::GrayImage;
use reformer_datasets::SplitName::{Test, Train, Valid};
use reformer_datasets::labelled::BEGIN;
use reformer_datasets::long_range::LongRangeTask;

use crate::{Outcome, message, write};

/// A record of CIFAR-10 of one colour.
fn record(label: u8, colour: [u8; 3]) -> Vec<u8> {
    let planes = colour.into_iter().flat_map(|value| [value; 1024]);
    std::iter::once(label).chain(planes).collect()
}

#[test]
fn cifar_is_gray_and_its_last_tenth_validates() -> Outcome {
    let folder = tempfile::tempdir()?;
    let inside = folder.path().join("cifar-10-batches-bin");
    for n in 1..=5_u8 {
        let records = (0..4).flat_map(|i| record(n, [n * 10 + i, 0, 0]));
        write(
            inside.join(format!("data_batch_{n}.bin")),
            records.collect::<Vec<u8>>(),
        );
    }
    let mut test = record(9, [255, 255, 255]);
    test.extend(record(0, [0, 255, 0]));
    // Its last pixel alone is blue.
    test[3072] = 255;
    write(inside.join("test_batch.bin"), &test);
    // By the folder and by the one it lies in.
    for path in [folder.path(), &inside] {
        let open = |part| LongRangeTask::Image.open(path, part, 1_025);
        let [train, valid, test] = [open(Train)?, open(Valid)?, open(Test)?];
        assert_eq!([train.len(), valid.len(), test.len()], [18, 2, 2]);
        assert_eq!((train.class(0), train.class(17), valid.class(0)), (1, 5, 5));
        let tokens = test.rows().tokens(1);
        assert_eq!(tokens.len(), 1_025);
        assert_eq!(tokens[..2], [BEGIN, 149]);
        assert_eq!(test.rows().tokens(0)[1..], [255; 1024]);
        assert_eq!(test.classes()[9], "truck");
        // 0.2989 * 52 / 255 * 255.5 is 15.57.
        assert_eq!(valid.rows().tokens(0)[1], 15);
    }
    let open = |part| LongRangeTask::Image.open(folder.path(), part, 1_025);
    for (bytes, found) in [
        (&test[..3000], "3000 bytes, which is not a multiple of 3073"),
        (&[][..], "it has 0 bytes"),
        (&record(10, [0; 3])[..], "image 0 of it: its label is 10"),
    ] {
        write(inside.join("test_batch.bin"), bytes);
        let error = message(open(Test));
        assert!(
            error.contains(found) && error.contains("test_batch.bin"),
            "{error}"
        );
    }
    // A hole of a terabyte is refused before it is read.
    let file = fs::File::create(inside.join("test_batch.bin"))?;
    file.set_len(3073 << 28)?;
    assert!(message(open(Test)).contains("at most 100000 are allowed"));
    fs::remove_file(inside.join("data_batch_3.bin"))?;
    assert!(message(open(Valid)).contains("data_batch_3.bin"));
    Ok(())
}

/// A folder of Pathfinder with `n` images of each class, whose pixels are the image's number.
fn pathfinder(folder: &Path, n: u32, side: u32) {
    for list in 0..2 {
        let mut lines = String::new();
        for i in 0..n {
            let number = list * n + i;
            let path = format!("imgs/{list}/sample_{i}.png");
            fs::create_dir_all(folder.join(format!("imgs/{list}"))).expect("a folder");
            let image = GrayImage::from_pixel(side, side, image::Luma([number as u8]));
            image.save(folder.join(path)).expect("a file");
            let label = i % 2;
            lines += &format!("imgs/{list} sample_{i}.png {i} {label} 6.0 4 1.8 0.25 0.9 6\n");
        }
        write(folder.join(format!("metadata/{list}.npy")), lines);
    }
}

#[test]
fn every_image_of_pathfinder_is_in_one_part() -> Outcome {
    let folder = tempfile::tempdir()?;
    let inside = folder.path().join("curv_contour_length_14");
    pathfinder(&inside, 40, 32);
    // The benchmark's files have some empty images.
    fs::write(inside.join("imgs/0/sample_7.png"), "")?;
    let mut numbers = Vec::new();
    let mut lens = Vec::new();
    for part in [Train, Valid, Test] {
        let rows = LongRangeTask::Pathfinder.open(folder.path(), part, 1_025)?;
        lens.push(rows.len());
        for row in 0..rows.len() {
            let tokens = rows.rows().tokens(row);
            assert_eq!((tokens.len(), tokens[0]), (1_025, BEGIN));
            assert!(tokens[1..].iter().all(|token| *token == tokens[1]));
            let number = usize::from(tokens[1]);
            assert_eq!(rows.class(row), number % 2);
            numbers.push(number);
        }
        let again = LongRangeTask::Pathfinder.open(&inside, part, 1_025)?;
        assert_eq!(again.len(), rows.len());
    }
    assert_eq!(lens.iter().sum::<usize>(), 79);
    assert!(
        (7..=8).contains(&lens[1]) && (7..=8).contains(&lens[2]),
        "{lens:?}"
    );
    numbers.sort_unstable();
    let all: Vec<usize> = (0..80).filter(|&number| number != 7).collect();
    assert_eq!(numbers, all);
    Ok(())
}

#[test]
fn damaged_pathfinders_are_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let open = || LongRangeTask::Pathfinder.open(folder.path(), Train, 1_025);
    assert!(message(open()).contains("metadata"));
    pathfinder(folder.path(), 10, 8);
    assert_eq!(open()?.rows().tokens(0).len(), 65);
    for (line, found) in [
        ("imgs/0 sample_0.png 0\n", "line 1: it must have"),
        ("imgs/0 sample_0.png 0 2\n", "its label is `2`"),
        ("../other x.png 0 1\n", "is not a path inside the folder"),
        (
            "imgs/0 /etc/passwd 0 1\n",
            "is not a path inside the folder",
        ),
        (
            "imgs/9 a.png 0 1\nimgs/9 b.png 0 0\nimgs/9 c.png 0 1\n",
            "there is no file",
        ),
        ("imgs/0 sample_0.png 0 1\n", "1 different images"),
        ("", "0 different images"),
    ] {
        fs::remove_file(at("metadata/1.npy")).ok();
        write(at("metadata/0.npy"), line);
        let error = message(open());
        assert!(error.contains(found), "{line}: {error}");
    }
    let lines: String = (0..10)
        .map(|i| format!("imgs/0 sample_{i}.png {i} {}\n", i % 2))
        .collect();
    write(at("metadata/0.npy"), lines);
    let damage_all = |bytes: &[u8]| {
        for i in 0..10 {
            write(at(&format!("imgs/0/sample_{i}.png")), bytes);
        }
    };
    damage_all(b"no image");
    assert!(message(open()).contains("is not a PNG image"));
    damage_all(&[0; (1 << 20) + 1]);
    assert!(message(open()).contains("at most 1048576 are allowed"));
    damage_all(b"");
    assert!(message(open()).contains("no record for this part"));
    let wide = at("wide.png");
    GrayImage::new(300, 300).save(&wide)?;
    damage_all(&fs::read(&wide)?);
    assert!(message(open()).contains("is not a PNG image"));
    pathfinder(folder.path(), 10, 8);
    GrayImage::new(9, 8).save(&wide)?;
    for i in 0..10 {
        fs::copy(&wide, at(&format!("imgs/1/sample_{i}.png")))?;
    }
    assert!(message(open()).contains("it is 9 x 8, and the images before it are 8 x 8"));
    Ok(())
}
