//! The tables, figures and ablations at their smallest: they end, and leave what they promise.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use common::{printed, refused, run};
use experiments::programs::Program;
use experiments::programs::studies::STUDIES;

const REFORMER: &str = env!("CARGO_BIN_EXE_reformer");

/// Runs a study, called by its words after `study` or by the name of its results, in a folder and to its end.
fn study(called: &str, folder: &Path, arguments: &[&str]) -> Output {
    run(REFORMER, folder, &[&["study", called], arguments].concat())
}

/// The words after `study` that call a study.
fn short(study: &Program) -> &'static str {
    study.words.strip_prefix("study ").expect("a study")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_study_ends_and_nothing_is_measured_twice() {
    let folder = tempfile::tempdir().unwrap();
    // Those of several tasks have tests of their own.
    let of_one_task = STUDIES
        .iter()
        .filter(|study| !["finding", "lra"].contains(&study.name));
    assert!(of_one_task.clone().count() >= 17);
    for study in of_one_task {
        ends(folder.path(), study.name, short(study), &[]);
    }
}

#[test]
fn every_task_of_finding_ends() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["pairs", "passages", "passages-backwards", "needles"] {
        let name = format!("finding_{}", task.replace('-', "_"));
        ends(folder.path(), &name, "finding", &["--task", task]);
    }
}

#[test]
fn tasks_of_the_long_range_arena_end() {
    let folder = tempfile::tempdir().unwrap();
    ends(folder.path(), "lra_listops", "lra", &[]);
    let results = folder.path().join("results/lra_listops/smoke");
    let table = read(&results.join("results.csv"));
    for row in [
        "the most frequent class,",
        "by the outermost list,",
        "\"LSH, 4 rounds\",",
        "published: Reformer,37.27,",
    ] {
        assert!(table.contains(row), "{table}");
    }
    let text = read(&results.join("table.md"));
    assert!(
        text.contains("at most 40 tokens here, and 2000 there"),
        "{text}"
    );

    cifar(&folder.path().join("cifar"));
    let image = ["--task", "image", "--data", "cifar"];
    ends(folder.path(), "lra_image", "lra", &image);
    let table = read(&folder.path().join("results/lra_image/smoke/results.csv"));
    assert!(table.contains("\"naive Bayes, pixels\",100.00"), "{table}");
    let smoke = |more: &[&str]| {
        study(
            "lra",
            folder.path(),
            &[&["--preset", "smoke"], more].concat(),
        )
    };
    refused(&smoke(&["--task", "text"]), &["`text`", "--data"]);
    refused(
        &smoke(&["--task", "text", "--data", "cifar"]),
        &["cifar/train"],
    );
}

/// Files like those of CIFAR-10, with images that are as bright as their class.
fn cifar(folder: &Path) {
    fs::create_dir(folder).expect("a folder");
    let names = (1..=5).map(|n| format!("data_batch_{n}"));
    for name in names.chain(["test_batch".to_owned()]) {
        let images = (0..10_u8).flat_map(|class| {
            let pixels = [class * 25; 3072];
            std::iter::once(class).chain(pixels)
        });
        let images: Vec<u8> = images.collect();
        fs::write(folder.join(format!("{name}.bin")), images).expect("a file");
    }
}

/// Runs a study at its smallest, twice. `name` is that of its results.
fn ends(folder: &Path, name: &str, called: &str, arguments: &[&str]) {
    let arguments = [arguments, &["--preset", "smoke"]].concat();
    let smoke = || printed(&study(called, folder, &arguments));
    let first = smoke();
    let results = folder.join("results").join(name).join("smoke");
    let text = read(&results.join("table.md"));
    let command = format!("`reformer study {called} ");
    assert!(text.starts_with("# ") && text.contains(&command), "{text}");
    // A table of some rows, which is printed too.
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 4, "{name}: {text}");
    assert!(rows.iter().all(|row| first.contains(row)), "{name}");
    let columns = |row: &str| row.matches('|').count();
    assert!(
        rows.iter().all(|row| columns(row) == columns(rows[0])),
        "{name}"
    );
    assert!(!text.contains("NaN"), "{name}: {text}");
    let csv = read(&results.join("results.csv"));
    assert_eq!(csv.lines().count() + 1, rows.len(), "{name}: {csv}");
    assert!(read(&results.join("curves.csv")).lines().count() > 2);
    assert!(read(&results.join("figure.svg")).contains("<svg"));
    let png = image::open(results.join("figure.png")).expect("a picture");
    assert!(png.width() >= 500 && png.height() >= 400);

    let numbers = read(&results.join("results.json"));
    let values: serde_json::Value = serde_json::from_str(&numbers).expect("JSON");
    assert!(values.is_array() || values.is_object(), "{name}");
    let again = smoke();
    assert!(again.contains("Resuming in"), "{again}");
    assert_eq!(read(&results.join("results.json")), numbers, "{name}");
}

#[test]
fn an_interrupted_sweep_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = || printed(&study("figure4", folder.path(), &["--preset", "smoke"]));
    smoke();
    let results = folder.path().join("results/figure4_hash_rounds/smoke");
    let weights = || -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
        let runs = fs::read_dir(results.join("runs")).unwrap();
        let weights = runs.map(|entry| {
            let path = entry.unwrap().path();
            let file = path.join("model.mpk");
            let written = fs::metadata(&file).unwrap().modified().unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, (fs::read(file).unwrap(), written))
        });
        weights.collect()
    };
    let before = weights();
    assert!(before.len() >= 3);
    // As if it had been killed in the last training, after its first checkpoint.
    let last = results.join("runs/text-lsh-4-42");
    fs::remove_file(last.join("model.mpk")).unwrap();
    for entry in fs::read_dir(last.join("checkpoint")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("-4.mpk") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_file(results.join("results.json")).unwrap();
    let text = smoke();
    assert!(text.contains("step 4/4"), "{text}");
    assert!(!text.contains("step 2/4"), "the first half is done: {text}");
    let after = weights();
    for (name, (bytes, written)) in &before {
        assert!(after[name].0 == *bytes, "{name} has other weights");
        let is_same = after[name].1 == *written;
        assert_eq!(is_same, *name != "text-lsh-4-42", "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = |more: &[&str]| {
        let arguments = [&["--preset", "smoke"], more].concat();
        study("figure4", folder.path(), &arguments)
    };
    refused(&smoke(&["--images", "none"]), &["`none` does not exist"]);
    refused(&smoke(&["--device", "cuda"]), &["--features cuda"]);
    printed(&smoke(&["--out", "here"]));
    let text = "To be, or not to be. ".repeat(400);
    fs::write(folder.path().join("book.txt"), text).unwrap();
    let other = smoke(&["--out", "here", "--text", "book.txt"]);
    refused(&other, &["other settings", "--out"]);
}

/// What `--plan` says is in the last column of the documents' table.
#[test]
fn what_a_study_takes_is_what_the_documents_say() {
    let folder = tempfile::tempdir().unwrap();
    let documents = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let measured = [
        "figure5_speed",
        "long_context",
        "table1_complexity",
        "table3_memory",
    ];
    let is_row = |name: &str| !name.starts_with("ablation_") && !measured.contains(&name);
    for program in STUDIES.iter().filter(|study| is_row(study.name)) {
        let name = short(program);
        let mut arguments = vec!["--preset", "paper", "--plan"];
        match program.name {
            "figure3_sharing_and_reversibility" | "figure4_hash_rounds" => {
                arguments.extend(["--images", "."]);
            }
            "table4_translation" => arguments.extend(["--data", "train.en", "train.de"]),
            _ => {}
        }
        let plan = printed(&study(name, folder.path(), &arguments));
        let (_, time) = plan.rsplit_once("products: ").expect("a time");
        let (time, _) = time.split_once(" at ").expect("an assumption");
        let row = format!("| `{name}`");
        let said = documents.lines().find(|line| line.starts_with(&row));
        let said = said.unwrap_or_else(|| panic!("{name} is not in the documents"));
        println!("{name}: {time}");
        assert!(
            said.contains(time),
            "{name}: {time}, and not what is in: {said}"
        );
    }
}

#[test]
fn a_study_that_trains_nothing_has_no_plan() {
    let folder = tempfile::tempdir().unwrap();
    // Called by the name of its results.
    let plan = study("figure5_speed", folder.path(), &["--plan"]);
    refused(&plan, &["figure5_speed", "--plan"]);
}
