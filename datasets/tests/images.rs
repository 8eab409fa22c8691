//! Guarantees for images: which pixels become which tokens, from every kind of file.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use burn_flex::Flex;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use reformer_datasets::images::{ImageSet, Picture};
use reformer_datasets::{DatasetError, EvalLoaderConfig, START_TOKEN, SizeError};

type Outcome = Result<(), Box<dyn Error>>;

/// In which every byte is its position.
fn coloured(size: u32) -> RgbImage {
    RgbImage::from_fn(size, size, |x, y| {
        Rgb([x as u8, y as u8, (x + y) as u8 * 3])
    })
}

fn bytes_of(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .into()
        .write_to(&mut bytes, format)
        .expect("writing to memory");
    bytes.into_inner()
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, &bytes[..])
            .expect("writing to memory");
    }
    archive.into_inner().expect("writing to memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut writer, bytes).expect("writing to memory");
    writer.finish().expect("writing to memory")
}

#[test]
fn tokens_are_pixels_in_raster_order_and_make_the_image_again() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("a.png"),
        bytes_of(coloured(64), ImageFormat::Png),
    )?;
    let images = ImageSet::open_images(folder.path(), 64)?;
    let loader = EvalLoaderConfig::new(12_288, 1)
        .init_sequences::<Flex>(Arc::new(images), &Default::default())?;
    let batch = loader.iter().next().expect("one image");
    let tokens: Vec<i32> = batch.tokens.to_data().iter().collect();
    let targets: Vec<i32> = batch.targets.to_data().iter().collect();
    // Pixel (x, y) has its three colours at 3 * (64 * y + x).
    assert_eq!(targets[3 * (64 * 5 + 7)..][..3], [7, 5, 36]);
    assert_eq!(tokens[0], START_TOKEN);
    assert_eq!(tokens[1..], targets[..12_287]);
    let picture = Picture::from_tokens(&targets).expect("64 x 64");
    assert_eq!(picture.as_bytes(), coloured(64).as_raw());
    Ok(())
}

#[test]
fn folders_and_archives_give_the_same_images() -> Outcome {
    let jpeg = bytes_of(coloured(16), ImageFormat::Jpeg);
    let files = [
        ("class1/a.PNG", bytes_of(coloured(16), ImageFormat::Png)),
        ("class1/b.JPEG", jpeg),
        ("class2/c.png", bytes_of(coloured(48), ImageFormat::Png)),
        ("notes.txt", b"no image".to_vec()),
    ];
    let folder = tempfile::tempdir()?;
    for (name, bytes) in &files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder"))?;
        fs::write(path, bytes)?;
    }
    let from_folder = ImageSet::open_images(folder.path(), 16)?;
    assert_eq!(from_folder.len(), 3);
    assert_eq!(from_folder.picture(0).as_bytes(), coloured(16).as_raw());

    let file = tempfile::NamedTempFile::new()?;
    for packed in [tar_of(&files), gzip(&tar_of(&files))] {
        fs::write(file.path(), packed)?;
        let from_archive = ImageSet::open_images(file.path(), 16)?;
        assert_eq!(from_archive.len(), 3);
        for index in 0..3 {
            assert_eq!(from_archive.picture(index), from_folder.picture(index));
        }
    }
    Ok(())
}

#[test]
fn gray_images_get_three_equal_colours_and_large_ones_their_mean() -> Outcome {
    let folder = tempfile::tempdir()?;
    // Stripes of 0 and 100, and not square.
    let gray = GrayImage::from_fn(64, 32, |x, _| Luma([(x % 2) as u8 * 100]));
    fs::write(
        folder.path().join("gray.png"),
        bytes_of(gray, ImageFormat::Png),
    )?;
    let picture = ImageSet::open_images(folder.path(), 4)?.picture(0);
    assert_eq!(picture.size(), [4, 4]);
    for pixel in picture.as_bytes().chunks(3) {
        assert_eq!((pixel[0], pixel[0]), (pixel[1], pixel[2]));
        assert!(pixel[0].abs_diff(50) <= 2, "{pixel:?}");
    }
    Ok(())
}

#[test]
fn files_that_numpy_wrote_are_read() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for name in ["numpy_savez.npz", "numpy_savez_compressed.npz"] {
        let images = ImageSet::open_npz(folder.join(name))?;
        assert_eq!((images.len(), images.size()), (3, 4));
        // Pixel 5 of image 2: byte i of image n is 100 n + i, and a plane has 16.
        let pixel = [5, 21, 37].map(|i| (200 + i) as u8);
        assert_eq!(images.picture(2).as_bytes()[15..18], pixel);
    }
    Ok(())
}

#[test]
fn sets_follow_each_other_in_the_first_ones_size() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("a.png"),
        bytes_of(coloured(8), ImageFormat::Png),
    )?;
    let open = |size| ImageSet::open_images(folder.path(), size);
    let both = open(8)?.followed_by(open(4)?);
    assert_eq!((both.len(), both.size()), (2, 8));
    assert_eq!(both.picture(0), open(8)?.picture(0));
    assert_eq!(both.picture(1).size(), [8, 8]);
    assert_eq!(open(8)?.with_size(4)?.picture(0), open(4)?.picture(0));
    Ok(())
}

#[test]
fn files_that_are_no_images_are_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let error = |path: &Path| ImageSet::open_images(path, 8).expect_err("no images");
    assert!(matches!(
        error(folder.path()),
        DatasetError::NothingIn { .. }
    ));

    let path = folder.path().join("broken.png");
    let png = bytes_of(coloured(8), ImageFormat::Png);
    for broken in [&b""[..], b"not a PNG", &png[..png.len() / 2]] {
        fs::write(&path, broken)?;
        let message = error(folder.path()).to_string();
        assert!(
            message.contains("broken.png` is not a PNG, JPEG, WebP, GIF, BMP or TIFF image"),
            "{message}"
        );
    }

    let archive = tempfile::NamedTempFile::new()?;
    let whole = tar_of(&[("a.png", png)]);
    for len in [0, 100, 513, 600] {
        fs::write(archive.path(), &whole[..len])?;
        assert!(
            ImageSet::open_images(archive.path(), 8).is_err(),
            "{len} bytes"
        );
    }
    let missing = error(Path::new("no/such/folder"));
    assert!(matches!(missing, DatasetError::NotFound { .. }));
    let size = ImageSet::open_images(folder.path(), 0).expect_err("no pixels");
    assert!(matches!(
        size,
        DatasetError::Size(SizeError::Setting { value: 0, .. })
    ));
    Ok(())
}

/// Reads real photographs: `REFORMER_IMAGES` names a folder or a tar archive of them.
#[test]
fn photographs_can_be_read_where_there_are_some() -> Outcome {
    let Some(path) = std::env::var_os("REFORMER_IMAGES") else {
        eprintln!("skipped: set REFORMER_IMAGES to a folder or archive of PNG or JPEG files");
        return Ok(());
    };
    let images = ImageSet::open_images(path, 64)?;
    let distinct = |index: usize| {
        let picture = images.picture(index);
        picture
            .as_bytes()
            .iter()
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    let colourful = (0..images.len())
        .filter(|&index| distinct(index) > 50)
        .count();
    println!(
        "{} images, {colourful} of them with more than 50 values",
        images.len()
    );
    assert!(colourful * 10 > images.len() * 9);
    Ok(())
}
