//! ListOps: its values, its files, and lists without files.

use reformer_datasets::DatasetError;
use reformer_datasets::SplitName::{Test, Train, Valid};
use reformer_datasets::long_range::{
    ListOpsConfig, LongRangeTask, OutermostList, list_notation, list_symbols, list_value,
};

use crate::{Outcome, message, text, write};

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
        ("1 ]", "continues after its end"),
        ("]", "closes no list"),
        ("1 2", "continues after its end"),
        ("", "it is empty"),
        ("[MAX 1 ] [MIN", "continues after its end"),
    ] {
        let error = list_value(&list_symbols(source).unwrap()).expect_err(source);
        assert!(error.contains(found), "{source}: {error}");
    }
    for source in ["[FIRST 1 ]", "10", "[max 1 ]", "[ MAX 1 ]", "é"] {
        let error = list_symbols(source).expect_err(source);
        assert!(
            error.contains("is neither a digit nor an operator"),
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
        (
            "Source\tTarget\n[FIRST 4 ]\t4\n",
            "`[FIRST` is neither a digit",
        ),
        ("Source\tTarget\n5\n", "line 2 has 1 fields"),
        ("Source\tTarget\n", "no record"),
        ("a\tb\n5\t5\n", "no column `Source`"),
        ("", "no column `Source`"),
        ("Source\tTarget\n\u{0}\t5\n", "is neither a digit"),
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
        (
            small().with_n_train(0),
            "n_train is 0, and must be 1 to 2147483648 / max_length: choose 1 or more",
        ),
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
