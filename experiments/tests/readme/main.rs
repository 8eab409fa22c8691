//! What the documents say was measured is in the files that were measured, their links lead somewhere, and their commands
//! are those of the programs.

mod commands;
#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a regular expression")
}

/// All numbers of a text, and how many decimals each is written with.
fn numbers(text: &str) -> Vec<(f64, usize)> {
    let number = regex(r"\d[\d,]*(?:\.(\d+))?");
    let found = number.captures_iter(text).map(|found| {
        let decimals = found.get(1).map_or(0, |decimals| decimals.len());
        (found[0].replace(',', "").parse().expect("digits"), decimals)
    });
    found.collect()
}

/// Whether some number of a file is this one, rounded; shares may be in percent.
fn is_among(measured: &[f64], number: f64, decimals: usize) -> bool {
    let half = 0.5001 * 10f64.powi(-(decimals as i32));
    let near = |value: f64| (value - number).abs() <= half;
    measured
        .iter()
        .any(|&value| near(value) || near(100.0 * value))
}

/// Numbers of a passage that have decimals and are in none of its files, nor the mean of the others in their
/// line.
fn unknown(passage: &str, files: &[&str]) -> Vec<f64> {
    let mut measured = Vec::new();
    for file in files {
        let path = root().join("benchmarks").join(file);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Signs say nothing in a sentence, and commas part cells.
        measured.extend(numbers(&text.replace(',', " ")).into_iter().map(|(n, _)| n));
    }
    let comment = regex(r"(?s)<!--.*?-->");
    let passage = comment.replace_all(passage, "");
    let of_line = |line| {
        let numbers: Vec<(f64, usize)> = numbers(line);
        let written: Vec<_> = numbers.into_iter().filter(|n| n.1 > 0).collect();
        let sum: f64 = written.iter().map(|(number, _)| number).sum();
        let measured = &measured;
        let n = written.len();
        let is_unknown = move |&(number, decimals): &(f64, usize)| {
            let mean = (sum - number) / (n as f64 - 1.0);
            !is_among(measured, number, decimals) && !is_among(&[mean], number, decimals)
        };
        let unknown: Vec<f64> = written
            .into_iter()
            .filter(is_unknown)
            .map(|n| n.0)
            .collect();
        unknown
    };
    passage.lines().flat_map(of_line).collect()
}

/// Passages that name their files: `<!-- measured: FILE FILE -->`, up to `<!-- /measured -->`.
fn check(document: &str) -> usize {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let marked = regex(r"(?s)<!-- measured: ([^>]*?) -->(.*?)<!-- /measured -->");
    let mut n = 0;
    for passage in marked.captures_iter(&text) {
        let files: Vec<&str> = passage[1].split_whitespace().collect();
        let unknown = unknown(&passage[2], &files);
        assert!(
            unknown.is_empty(),
            "{document} has {unknown:?}, and {files:?} have not: {}",
            &passage[2]
        );
        n += 1;
    }
    n
}

#[test]
fn numbers_of_the_documents_were_measured() {
    assert!(check("README.md") >= 1);
    assert!(check("docs/paper.md") >= 10);
    assert!(check("docs/performance.md") >= 1);
    assert!(check("experiments/README.md") >= 6);
}

/// All documents, by their paths below the root.
fn documents() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut documents = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What is built, and what is kept besides.
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "runs", "results"].contains(&&*name)
            {
                folders.push(path);
            } else if name.ends_with(".md") {
                documents.push(path);
            }
        }
    }
    documents
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Where a link leads that is not there.
fn dead_links(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).expect("a document");
    let link = regex(r"\]\(([^)\s]+)\)");
    let heading = regex(r"(?m)^#+ (.*)$");
    let is_dead = |target: &&str| {
        let (path, part) = target.split_once('#').unwrap_or((target, ""));
        let path = match path.is_empty() {
            true => document.to_owned(),
            false => document.parent().expect("a folder").join(path),
        };
        let has_part = || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            heading
                .captures_iter(&text)
                .any(|found| anchor(&found[1]) == part)
        };
        !path.exists() || !part.is_empty() && !has_part()
    };
    let targets = link
        .captures_iter(&text)
        .map(|found| found.get(1).expect("a target").as_str());
    let targets =
        targets.filter(|target| !target.starts_with("http") && !target.starts_with("mailto"));
    targets.filter(is_dead).map(str::to_owned).collect()
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    assert!(documents.len() > 20, "{documents:?}");
    for document in documents {
        assert_eq!(dead_links(&document), [""; 0], "in {}", document.display());
    }
}

#[test]
fn the_first_page_is_short() {
    let text = fs::read_to_string(root().join("README.md")).expect("a document");
    assert!(text.lines().count() <= 160, "the rest belongs to docs/");
}

#[test]
fn what_was_not_measured_is_found() {
    let files = ["paper/figure5_depth/results.csv"];
    assert_eq!(unknown("3.27 and 2.87 bits, and 42.91 %", &files), [0.0; 0]);
    assert_eq!(unknown("3.28 and 2.8", &files), [3.28, 2.8]);
}
