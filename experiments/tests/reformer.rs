//! All programs as one.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{TRAIN, printed, refused, run};
use experiments::programs::studies::STUDIES;

const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");

#[test]
fn every_program_is_called_by_words_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let help = printed(&run(REFORMER, folder.path(), &[]));
    assert_eq!(help, printed(&run(REFORMER, folder.path(), &["--help"])));
    let is_program = |line: &&str| line.starts_with("  ") && !line.trim().starts_with("reformer ");
    let lines: Vec<&str> = help.lines().filter(is_program).collect();
    let words: BTreeSet<&str> = lines.iter().map(|line| line[2..24].trim()).collect();
    assert_eq!(words.len(), lines.len(), "{help}");
    let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    // All but itself, two that are here alone, and the studies.
    let n = fs::read_dir(binaries).unwrap().count() - 1 + 2 + STUDIES.len();
    assert_eq!(
        words
            .iter()
            .filter(|words| !words.starts_with("source"))
            .count(),
        n,
        "{help}"
    );
    for words in words.iter().filter(|words| !words.starts_with("source")) {
        let arguments: Vec<&str> = words.split(' ').chain(["--help"]).collect();
        let help = printed(&run(REFORMER, folder.path(), &arguments));
        assert!(
            help.contains(&format!("Usage: reformer {words} ")),
            "{help}"
        );
        assert!(
            help.contains(&format!("  reformer {words}")),
            "{words} has no example: {help}"
        );
        let names = help.split(|c: char| !c.is_alphanumeric() && c != '_');
        let binary = |name: &&str| name.starts_with("train_") || name.starts_with("generate_");
        assert_eq!(names.clone().find(binary), None, "{help}");
    }
    for (name, words) in [
        (&["train_text"][..], "train text"),
        (&["study", "ablation_window"], "study window"),
        (&["study", "table1_complexity"], "study table1"),
    ] {
        let arguments = [name, &["--help"]].concat();
        let help = printed(&run(REFORMER, folder.path(), &arguments));
        assert!(
            help.contains(&format!("Usage: reformer {words} ")),
            "{help}"
        );
    }
    for (words, called) in [
        (&["train", "text"][..], "train text"),
        (&["train_text"], "train text"),
        (&["train", "text", "--steps"], "train text"),
        (&["bench_step"], "bench step"),
        (&["evaluate", "--checkpoint", "x"], "evaluate"),
        (&["study", "table1"], "study table1"),
    ] {
        let own = [&called.split(' ').collect::<Vec<_>>()[..], &["--help"]].concat();
        let own = printed(&run(REFORMER, folder.path(), &own));
        let arguments = [&["help"], words].concat();
        assert_eq!(printed(&run(REFORMER, folder.path(), &arguments)), own);
    }
    let training = printed(&run(REFORMER, folder.path(), &["help", "train"]));
    assert_eq!(training, printed(&run(REFORMER, folder.path(), &["train"])));
    assert!(
        training.contains("train images") && !training.contains("bench"),
        "{training}"
    );
}

#[test]
fn what_is_no_program_brings_the_nearest_one() {
    let folder = tempfile::tempdir().unwrap();
    let refuse =
        |words: &[&str], parts: &[&str]| refused(&run(REFORMER, folder.path(), words), parts);
    refuse(
        &["trian", "text"],
        &["`trian text` is not a program", "`reformer train text`"],
    );
    refuse(
        &["generate_txt"],
        &["did you mean `reformer generate text`"],
    );
    refuse(&["evaluat", "--checkpoint", "x"], &["`reformer evaluate`"]);
    refuse(&["train", "txt"], &["did you mean `reformer train text`"]);
    refuse(&["study", "tabel1"], &["`reformer study table1`"]);
    refuse(&["help", "evaluat"], &["`reformer evaluate`"]);
    // The beginning of a word.
    refuse(&["train", "tex"], &["did you mean `reformer train text`"]);
    refuse(&["train", "c"], &["after `reformer train` comes one of"]);
    refuse(&["gen", "im"], &["did you mean `reformer generate image`"]);
    // A letter that is missing, rather than the beginning of another word.
    refuse(&["tran", "text"], &["did you mean `reformer train text`?"]);
    refuse(&["tran"], &["did you mean `reformer train`?"]);
    refuse(&["transl"], &["did you mean `reformer translate`?"]);
    refuse(
        &["study", "table"],
        &["did you mean `reformer study table1`?"],
    );
    refuse(&["train", "train_txt"], &["`reformer train text`"]);
    refuse(&["train", "texts"], &["`reformer train text`"]);
    refuse(&["training"], &["did you mean `reformer train`?"]);
    // Programs of earlier versions.
    for words in [
        &["bench", "memory", "--depths", "4"][..],
        &["bench_memory"],
        &["bench", "bench_memory"],
        &["help", "bench", "memory"],
    ] {
        refuse(words, &["use `reformer bench step --sweep-layers"]);
    }
    refuse(
        &["--version", "foo"],
        &["`--version` comes alone", "`foo`", "leave it out"],
    );
    // Nothing is near.
    refuse(
        &["train", "training"],
        &["`train training` is not a program: after `reformer train` comes one of text, images"],
    );
    refuse(
        &["nosuch"],
        &["`nosuch` is not a program: `reformer help` lists all"],
    );
    refuse(&["--nosuch"], &["`reformer help` lists all"]);
    for (group, members) in [
        ("train", "text, images, translation"),
        ("generate", "text, image"),
        ("predict", "classes, answers"),
        ("bench", "step, generation, plot"),
        ("study", "table1, table2"),
    ] {
        let of_group = format!("after `reformer {group}` comes one of {members}");
        refuse(&[group, "nosuch"], &[&of_group]);
        let add = format!("`{group}` is more than one program: add one of {members}");
        refuse(&[group, "--steps", "3"], &[&add]);
        refuse(&["help", group, "--steps"], &[&add]);
    }
    refuse(&["completions", "tcsh"], &["`tcsh`", "bash, zsh or fish"]);
    refuse(&["completions"], &["bash, zsh or fish"]);
    let wrong = run(REFORMER, folder.path(), &["train", "text", "--stepz", "1"]);
    assert_eq!(wrong.status.code(), Some(2));
    let message = String::from_utf8_lossy(&wrong.stderr);
    assert!(message.contains("'--stepz' found; tip: "), "{message}");
}

#[test]
fn words_of_its_own_have_a_help() {
    let folder = tempfile::tempdir().unwrap();
    let reformer = |words: &[&str]| printed(&run(REFORMER, folder.path(), words));
    for word in ["help", "completions", "complete"] {
        let help = reformer(&["help", word]);
        assert!(help.contains(&format!("Usage: reformer {word} ")), "{help}");
    }
    assert_eq!(
        reformer(&["completions", "--help"]),
        reformer(&["help", "completions"])
    );
    assert_eq!(reformer(&["help", "--help"]), reformer(&["help"]));
    let version = env!("CARGO_PKG_VERSION");
    for words in ["", "train text ", "evaluate ", "study table1 "] {
        let given: Vec<&str> = words.split_whitespace().chain(["--version"]).collect();
        assert_eq!(reformer(&given), format!("reformer {words}{version}\n"));
    }
    let own = printed(&run(TRAIN, folder.path(), &["--version"]));
    assert_eq!(own, format!("train_text {version}\n"));
}

#[test]
fn hints_say_what_was_called() {
    let folder = tempfile::tempdir().unwrap();
    let train = "train text --length 16 --batch-size 2 --d-model 16 --layers 2 --eval-windows 2 --steps 1 --name x \
                 --sample-tokens 10";
    let train: Vec<&str> = train.split_whitespace().collect();
    let text = printed(&run(REFORMER, folder.path(), &train));
    assert!(
        text.contains("--bin reformer -- generate text --checkpoint runs/x"),
        "{text}"
    );
    assert!(!text.contains("generate_text"), "{text}");
    let report = fs::read_to_string(folder.path().join("runs/x/report.html")).unwrap();
    assert!(
        report.contains("train text"),
        "a report says what was called"
    );
    // A program that calls itself again.
    let study = ["study", "table1", "--preset", "smoke"];
    printed(&run(REFORMER, folder.path(), &study));
    let table = folder
        .path()
        .join("results/table1_complexity/smoke/table.md");
    let table = fs::read_to_string(table).unwrap();
    assert!(
        table.contains("`reformer study table1 --preset smoke`"),
        "{table}"
    );
}

#[test]
fn shells_complete_words_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let complete = |words: &[&str]| {
        let words = [&["complete"], words].concat();
        printed(&run(REFORMER, folder.path(), &words))
    };
    assert!(complete(&[]).starts_with("train generate translate predict evaluate"));
    assert!(complete(&[]).ends_with(" help completions\n"));
    assert_eq!(complete(&["predict"]), "classes answers\n");
    assert!(complete(&["help"]).starts_with("train generate translate predict evaluate"));
    assert_eq!(complete(&["help", "predict"]), "classes answers\n");
    assert_eq!(complete(&["help", "train", "text"]), "\n");
    assert_eq!(complete(&["completions"]), "bash zsh fish\n");
    let flags = complete(&["generate", "text"]);
    for flag in ["--checkpoint", "--prompt-file", "--help"] {
        assert!(
            flags.split_whitespace().any(|word| word == flag),
            "{flag}: {flags}"
        );
    }
    // As the shell does it.
    let script = printed(&run(REFORMER, folder.path(), &["completions", "bash"]));
    let ask = format!(
        "{script}\nCOMP_WORDS=(reformer generate te); COMP_CWORD=2; _reformer; echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(reformer generate text --prompt-); COMP_CWORD=3; _reformer; echo \"${{COMPREPLY[@]}}\""
    );
    let bin = Path::new(REFORMER).parent().unwrap();
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    match Command::new("bash")
        .args(["-c", &ask])
        .env("PATH", path)
        .output()
    {
        Ok(output) => assert_eq!(printed(&output), "text\n--prompt-file\n"),
        Err(error) => eprintln!("skipped: there is no bash: {error}"),
    }
}

#[test]
fn runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = |more: &str| {
        let train = "train text --length 16 --batch-size 2 --d-model 16 --layers 2 --eval-windows 2 --steps 2 \
                     --sample-tokens 2";
        let train: Vec<&str> = train.split_whitespace().chain(more.split(' ')).collect();
        printed(&run(REFORMER, path, &train));
    };
    train("--name a --seed 1");
    train("--name b --seed 2");
    train("--name <c> --learning-rate 0.02");
    let text = printed(&run(
        REFORMER,
        path,
        &["compare", "runs/a", "runs/b", "runs/<c>"],
    ));
    assert!(
        text.contains("| a, b | 2 |") && text.contains("| <c> | 1 |"),
        "{text}"
    );
    assert!(
        text.contains("| schedule.Cosine.rate |") && text.contains("| seed |"),
        "{text}"
    );
    assert!(!text.contains("window_length"), "{text}");
    let page = fs::read_to_string(path.join("compare.html")).unwrap();
    assert!(
        page.contains("<svg") && page.contains("&lt;c&gt;") && !page.contains("<c>"),
        "a page"
    );

    let refuse = |words: &[&str], parts: &[&str]| refused(&run(REFORMER, path, words), parts);
    refuse(
        &["compare", "runs/none"],
        &["`runs/none` is not the folder of a run"],
    );
    fs::remove_file(path.join("runs/b/metrics.csv")).unwrap();
    refuse(&["compare", "runs/b"], &["metrics.csv"]);
}
