//! The tasks of the Long Range Arena: rows of every format, what damaged files are answered with, and generated ListOps.

use std::fs;
use std::path::Path;

use image::GrayImage;
use proptest::prelude::*;
use reformer_datasets::SplitName::{Test, Train, Valid};
use reformer_datasets::labelled::{BEGIN, ClassifiedRows, SEPARATOR};
use reformer_datasets::long_range::{
    ListOpsConfig, LongRangeTask, OutermostList, list_notation, list_symbols, list_value,
};
use reformer_datasets::{DatasetError, SplitName};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The tokens of a row as text, without the first one.
fn text(rows: &ClassifiedRows, row: usize) -> String {
    let (begin, rest) = rows.rows().tokens(row).split_first().expect("a token");
    assert_eq!(*begin, BEGIN);
    let character = |&token: &u16| char::from_u32(token.into()).expect("a character");
    rest.iter().map(character).collect()
}

/// The message of an error, which is one line.
fn message(result: Result<ClassifiedRows, DatasetError>) -> String {
    let message = result.expect_err("it cannot be read").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let folder = path.as_ref().parent().expect("in a folder");
    fs::create_dir_all(folder).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

/// The value of a list, by its definition and by recursion, unlike the one that is tested.
fn recursive_value(words: &mut std::str::SplitWhitespace<'_>) -> usize {
    fn value(word: &str, words: &mut std::str::SplitWhitespace<'_>) -> usize {
        let Some(operator) = word.strip_prefix('[') else {
            return word.parse().expect("a digit");
        };
        let mut elements = Vec::new();
        loop {
            match words.next().expect("a list is closed") {
                "]" => break,
                word => elements.push(value(word, words)),
            }
        }
        elements.sort_unstable();
        let n = elements.len();
        match operator {
            "MIN" => elements[0],
            "MAX" => elements[n - 1],
            "SM" => elements.iter().sum::<usize>() % 10,
            // NumPy's median as a whole number.
            "MED" if n % 2 == 1 => elements[n / 2],
            "MED" => ((elements[n / 2 - 1] + elements[n / 2]) as f64 / 2.0) as usize,
            other => panic!("{other}"),
        }
    }
    let first = words.next().expect("a word");
    value(first, words)
}

#[test]
fn values_of_lists_are_those_of_the_benchmark() {
    for (source, value) in [
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
        ("[MIN 2 9 [MAX 4 7 ] 1 ]", 1),
        ("[SM 9 8 7 ]", 4),
        ("[MED 1 5 9 ]", 5),
        // int(np.median([1, 4])) is int(2.5).
        ("[MED 4 1 ]", 2),
        ("[MED 1 2 8 9]", 5),
        ("[MED 3 3 3 4 ]", 3),
        ("( ( ( ( [SM 4 ) ( ( ( [MAX 1 ) 6 ) ] ) ) 5 ) ] )", 5),
        ("7", 7),
    ] {
        let symbols = list_symbols(source).unwrap();
        assert_eq!(list_value(&symbols), Ok(value), "{source}");
        assert_eq!(
            list_symbols(&list_notation(&symbols)),
            Ok(symbols),
            "{source}"
        );
    }
    for (source, found) in [
        ("[MAX 1", "1 of its lists are not closed"),
        ("[MAX ]", "a list is empty"),
        ("1 ]", "goes on after its end"),
        ("]", "closes no list"),
        ("1 2", "goes on after its end"),
        ("", "it is empty"),
        ("[MAX 1 ] [MIN", "goes on after its end"),
    ] {
        let error = list_value(&list_symbols(source).unwrap()).expect_err(source);
        assert!(error.contains(found), "{source}: {error}");
    }
    for source in ["[FIRST 1 ]", "10", "[max 1 ]", "[ MAX 1 ]", "é"] {
        let error = list_symbols(source).expect_err(source);
        assert!(
            error.contains("is no digit and no operator"),
            "{source}: {error}"
        );
    }
}

#[test]
fn the_outermost_list_is_seen_without_what_is_in_it() {
    let of = |source: &str| OutermostList::of(&list_symbols(source).unwrap());
    let expected = |operator, of_digits, n_lists| {
        Some(OutermostList {
            operator,
            of_digits,
            n_lists,
        })
    };
    assert_eq!(
        of("[MAX 3 [MIN 9 [SM 1 1 ] ] 5 [MED 2 2 ] ]"),
        expected(b'X', Some(5), 2)
    );
    assert_eq!(of("[SM 7 8 ]"), expected(b'M', Some(5), 0));
    assert_eq!(of("[MIN [MAX 1 2 ] ]"), expected(b'N', None, 1));
    assert_eq!(of("5"), None);
    assert_eq!(OutermostList::of(&[]), None);
}

#[test]
fn listops_is_read_from_its_files() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    // As Python's csv module writes it.
    let train = "Source\tTarget\r\n\
        ( ( ( [MAX 4 ) 3 ) ] )\t4\r\n\
        ( ( ( [SM ( ( ( [MED 1 ) 4 ) ] ) ) 9 ) ] )\t1\r\n";
    write(at("basic_train.tsv"), train);
    write(at("basic_val.tsv"), "Source\tTarget\r\n5\t5\r\n");
    let rows = LongRangeTask::ListOps.open(folder.path(), Train, 2_000)?;
    assert_eq!(
        (text(&rows, 0), text(&rows, 1)),
        ("X43]".into(), "MD14]9]".into())
    );
    assert_eq!((rows.class(0), rows.class(1)), (4, 1));
    assert_eq!(rows.classes().len(), 10);
    assert_eq!(rows.rows().vocab_size(), 257);
    let report = rows.report();
    assert_eq!((report.files, report.count("records")), (1, Some(2)));
    let cut = LongRangeTask::ListOps.open(folder.path(), Train, 6)?;
    assert_eq!(text(&cut, 1), "MD14]");
    assert_eq!(cut.report().notes, ["1 rows are cut to 6 tokens"]);
    let valid = LongRangeTask::ListOps.open(folder.path(), Valid, 2_000)?;
    assert_eq!(text(&valid, 0), "5");

    let missing = LongRangeTask::ListOps.open(folder.path(), Test, 2_000);
    assert!(message(missing).contains("basic_test.tsv"));
    for (table, found) in [
        (
            "Source\tTarget\n[MAX 4 3 ]\t3\n",
            "is 4, but its target is `3`",
        ),
        ("Source\tTarget\n[MAX 4 3 ]\t\n", "its target is ``"),
        (
            "Source\tTarget\n5\t5\n[MAX 4\t4\n",
            "line 3: 1 of its lists",
        ),
        ("Source\tTarget\n[FIRST 4 ]\t4\n", "`[FIRST` is no digit"),
        ("Source\tTarget\n5\n", "line 2 has 1 fields"),
        ("Source\tTarget\n", "no record"),
        ("a\tb\n5\t5\n", "no column `Source`"),
        ("", "no column `Source`"),
        ("Source\tTarget\n\u{0}\t5\n", "is no digit"),
    ] {
        write(at("basic_test.tsv"), table);
        let error = message(LongRangeTask::ListOps.open(folder.path(), Test, 2_000));
        assert!(
            error.contains(found) && error.contains("basic_test.tsv"),
            "{error}"
        );
    }
    Ok(())
}

fn small() -> ListOpsConfig {
    ListOpsConfig::new()
        .with_min_length(10)
        .with_max_length(60)
        .with_n_train(300)
        .with_n_valid(100)
        .with_n_test(100)
}

#[test]
fn generated_lists_have_their_values_and_lengths() -> Outcome {
    let config = small().with_max_depth(4).with_max_args(5);
    let task = config.init()?;
    let mut lists = Vec::new();
    for (part, n) in [(Train, 300), (Valid, 100), (Test, 100)] {
        let rows = task.rows(part, 60);
        assert_eq!(rows.len(), n);
        assert!(rows.report().notes.is_empty());
        for row in 0..n {
            let symbols = task.list(part, row as u64);
            assert_eq!(text(&rows, row).as_bytes(), symbols);
            assert!((11..60).contains(&symbols.len()), "{}", symbols.len());
            let notation = list_notation(&symbols);
            let value = recursive_value(&mut notation.split_whitespace());
            assert_eq!(rows.class(row), value, "{notation}");
            let (mut depth, mut deepest) = (1, 1);
            for word in notation.split_whitespace() {
                depth = match word {
                    "]" => depth - 1,
                    word if word.starts_with('[') => depth + 1,
                    _ => depth,
                };
                deepest = deepest.max(depth);
            }
            assert!(deepest <= 4, "{notation}");
            lists.push((part.to_string(), symbols));
        }
    }
    // No list is in two parts, and hardly any is there twice.
    lists.sort_by(|a, b| a.1.cmp(&b.1));
    for pair in lists.windows(2) {
        assert!(pair[0].1 != pair[1].1 || pair[0].0 == pair[1].0);
    }
    lists.dedup();
    assert!(lists.len() > 490, "{}", lists.len());
    Ok(())
}

#[test]
fn generated_lists_depend_on_the_seed_alone() -> Outcome {
    let rows = |config: ListOpsConfig| -> Result<Vec<String>, DatasetError> {
        let rows = config.init()?.rows(Train, 100);
        Ok((0..rows.len()).map(|row| text(&rows, row)).collect())
    };
    let first = rows(small())?;
    assert_eq!(rows(small())?, first);
    assert_eq!(rows(small().with_n_train(10))?, first[..10]);
    let other = rows(small().with_seed(1))?;
    assert!(
        first
            .iter()
            .all(|list| !other.contains(list) || list.len() < 14)
    );
    // A change of these values is a change of the data of every run.
    assert_eq!(
        first[..2],
        ["D143M1ND907]628]485]558631]", "M9D651903X303]746]9]"]
    );
    Ok(())
}

#[test]
fn the_benchmarks_own_lists_are_long() -> Outcome {
    let task = ListOpsConfig::new().init()?;
    for number in 0..5 {
        let symbols = task.list(Test, number);
        assert!((501..2000).contains(&symbols.len()));
        assert!(symbols.iter().filter(|&&symbol| symbol == b']').count() > 10);
    }
    Ok(())
}

#[test]
fn lists_that_cannot_be_are_refused() {
    let refused = |config: ListOpsConfig| config.init().expect_err("refused").to_string();
    for (config, setting) in [
        (small().with_max_depth(1), "max_depth is 1"),
        (small().with_max_args(1), "max_args is 1"),
        (small().with_n_train(0), "n_train is 0"),
        (small().with_n_test(usize::MAX), "n_test is"),
        (small().with_max_length(11), "min_length is 10"),
        (small().with_min_length(usize::MAX), "min_length is"),
        (small().with_max_length(0), "max_length is 0"),
        (small().with_max_length(1 << 21), "max_length is 2097152"),
        (
            small()
                .with_min_length(500)
                .with_max_length(600)
                .with_max_depth(3),
            "min_length is 500",
        ),
    ] {
        let error = refused(config);
        assert!(error.starts_with(setting), "{error}");
    }
    // A deep tree ends at the maximum length.
    let deep = small().with_max_depth(usize::MAX);
    assert!(deep.init().is_ok());
}

#[test]
fn reviews_have_a_part_for_validation() -> Outcome {
    let folder = tempfile::tempdir()?;
    for part in ["train", "test"] {
        for (class, n) in [("pos", 20), ("neg", 20)] {
            for i in 0..n {
                let file = format!("{part}/{class}/{i}.txt");
                write(
                    folder.path().join(file),
                    format!("{part} {class} {i}").as_bytes(),
                );
            }
        }
    }
    write(folder.path().join("train/unsup/0.txt"), "no class");
    let open = |part| LongRangeTask::Text.open(folder.path(), part, 4_096);
    let [train, valid, test] = [open(Train)?, open(Valid)?, open(Test)?];
    assert_eq!([train.len(), valid.len(), test.len()], [36, 4, 40]);
    assert_eq!(test.classes(), ["neg", "pos"]);
    assert_eq!((text(&test, 0), test.class(0)), ("test neg 0".into(), 0));
    let all: Vec<String> = (0..36).map(|row| text(&train, row)).collect();
    assert!((0..4).all(|row| !all.contains(&text(&valid, row))));
    fs::remove_dir_all(folder.path().join("test"))?;
    assert!(message(open(Test)).contains("test"));
    Ok(())
}

#[test]
fn two_papers_are_one_row() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut train = b"1\tA-1\tB-2\tfirst \"text\ts\xffcond\n".to_vec();
    train.extend(b"0.0\tA-1\tC-3\t\tlonger than that\r\n\n");
    write(at("new_aan_pairs.train.tsv"), &train);
    write(at("new_aan_pairs.eval.tsv"), "1.0\ta\tb\tx\ty");
    let rows = LongRangeTask::Retrieval.open(folder.path(), Train, 8_002)?;
    assert_eq!((rows.len(), rows.class(0), rows.class(1)), (2, 1, 0));
    let begin = [BEGIN];
    let bytes = |bytes: &[u8]| bytes.iter().copied().map(u16::from).collect::<Vec<_>>();
    let expected = [
        &begin[..],
        &bytes(b"first \"text"),
        &[SEPARATOR],
        &bytes(b"s\xffcond"),
    ];
    assert_eq!(rows.rows().tokens(0), expected.concat());
    assert_eq!(rows.rows().vocab_size(), 258);
    // Each document has half of the row.
    let cut = LongRangeTask::Retrieval.open(folder.path(), Train, 9)?;
    let expected = [&begin[..], &bytes(b"fir"), &[SEPARATOR], &bytes(b"s\xffc")];
    assert_eq!(cut.rows().tokens(0), expected.concat());
    let valid = LongRangeTask::Retrieval.open(folder.path(), Valid, 100)?;
    assert_eq!(valid.class(0), 1);
    for (line, found) in [
        ("1\ta\tb\tc\n", "line 1: it has 4 fields"),
        ("1\ta\tb\tc\td\te\n", "line 1: it has more than 5 fields"),
        ("0\ta\tb\tc\td\n2\ta\tb\tc\td\n", "line 2: its label is `2`"),
        ("NaN\ta\tb\tc\td\n", "its label is `NaN`"),
        ("label\tid1\tid2\ttext1\ttext2\n", "its label is `label`"),
        ("\n\n", "no record for this part"),
    ] {
        write(at("new_aan_pairs.test.tsv"), line);
        let error = message(LongRangeTask::Retrieval.open(folder.path(), Test, 100));
        assert!(error.contains(found), "{error}");
    }
    Ok(())
}

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
        (&test[..3000], "3000 bytes, and must have 3073"),
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
    assert!(message(open(Test)).contains("may have 100000"));
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
        ("../other x.png 0 1\n", "no path inside the folder"),
        ("imgs/0 /etc/passwd 0 1\n", "no path inside the folder"),
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
    assert!(message(open()).contains("may have 1048576"));
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

#[test]
fn a_single_input_is_encoded_like_a_row() {
    let row = |task: LongRangeTask, text: &str| task.encode(text, 7);
    let tokens = |text: &str| {
        let bytes = text.bytes().map(u16::from);
        std::iter::once(BEGIN).chain(bytes).collect::<Vec<_>>()
    };
    use LongRangeTask::{Image, ListOps, Retrieval, Text};
    assert_eq!(row(ListOps, "[MAX 4 [MIN 7 2]]"), Ok(tokens("X4N72]")));
    assert_eq!(row(Text, "a review"), Ok(tokens("a revi")));
    assert_eq!(
        row(Retrieval, "one\ttwo"),
        Ok(vec![BEGIN, 111, 110, SEPARATOR, 116, 119])
    );
    for (task, text, found) in [
        (ListOps, "[MAX 4", "not closed"),
        (ListOps, "a list", "no digit and no operator"),
        (Retrieval, "one", "no tab"),
        (Image, "an image", "no text"),
    ] {
        assert!(row(task, text).unwrap_err().contains(found));
    }
}

proptest! {
    #[test]
    fn no_file_makes_a_task_panic(
        list in r"(Source\tTarget\n)?([\[\]MAXIN 0-9\t\n()]{0,40})",
        pairs in r"([01]\t[a\t\n]{0,9}){0,4}",
        image in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(at("basic_train.tsv"), &list);
        write(at("new_aan_pairs.train.tsv"), &pairs);
        write(at("data_batch_1.bin"), &image);
        write(at("metadata/0.npy"), "imgs/0 0.png 0 0\nimgs/0 1.png 0 1\nimgs/0 2.png 0 1\n");
        for i in 0..3 {
            write(at(&format!("imgs/0/{i}.png")), &image);
        }
        for task in LongRangeTask::ALL {
            match task.open(folder.path(), SplitName::Train, 16) {
                Ok(rows) => prop_assert!(!rows.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
