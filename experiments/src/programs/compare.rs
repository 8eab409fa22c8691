//! Compares runs on an HTML page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use reformer_train::TrainConfig;
use reformer_train::metrics::{Quantity, Row, read_rows};
use reformer_train::record::{read_regular, setting_below};
use reformer_train::report::{HtmlPage, escape};
use serde_json::Value;

use crate::cli;
use crate::out;
use crate::plot::figure::{self, Axis, Curve, Panel};
use crate::plot::{bits, seconds, step};
use crate::study::Table;
use crate::study::statistics::{between, mean};

const EXAMPLES: &str = "\
Examples:
  reformer compare runs/tiny-1 runs/tiny-2 runs/small-1
  All runs of a folder, with another name for the page:
    reformer compare runs/* --html all.html

The page is self-contained: held-out bits over steps, tokens and seconds, the best results of each run, and the
settings in which they differ. Runs that differ only in their seed share a row, with their mean and range.";

/// Tables can be wider than the page.
const STYLE: &str = "\
section { overflow-x: auto; }
section > svg { max-width: 100%; height: auto; border-radius: 12px; }";

/// Compare runs: curves, best results and settings that differ.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// HTML page to write
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    html: PathBuf,
}

/// Configuration and metrics of a run.
struct ComparedRun {
    name: String,
    config: TrainConfig,
    rows: Vec<Row>,
}

pub(super) fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        out::check_output("--html", Some(&arguments.html), [""; 0])?;
        let runs = arguments.runs.iter().map(|path| read(path));
        let runs: Vec<ComparedRun> = runs.collect::<Result<_>>()?;
        let (results, settings) = (results(&runs), settings(&runs)?);
        println!("{}\n{}", results.markdown(), settings.markdown());
        let page = page(&runs, &results, &settings)?;
        out::save(&arguments.html, page.as_bytes())?;
        println!("Written to {}", arguments.html.display());
        Ok(())
    })
}

fn read(path: &Path) -> Result<ComparedRun> {
    let file = path.join("config.json");
    let config = read_regular(&file)
        .with_context(|| format!("`{}` is not the folder of a run", path.display()))?;
    let config = TrainConfig::from_json(&config)
        .with_context(|| format!("`{}` is not a configuration", file.display()))?;
    let rows = read_rows(&path.join("metrics.csv"))?;
    if bits(&rows, "valid", step).is_empty() {
        bail!(
            "`{}` has no evaluation yet: train it further",
            path.display()
        );
    }
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(ComparedRun {
        name: name.to_string_lossy().into_owned(),
        config,
        rows,
    })
}

/// Groups runs that differ only in their seed, in the given order.
fn groups(runs: &[ComparedRun]) -> Vec<Vec<&ComparedRun>> {
    let mut groups: Vec<(TrainConfig, Vec<&ComparedRun>)> = Vec::new();
    for run in runs {
        let mut config = run.config.clone();
        config.seed = 0;
        match groups.iter_mut().find(|(other, _)| *other == config) {
            Some((_, group)) => group.push(run),
            None => groups.push((config, vec![run])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Best results of each run, or of each group of runs that differ in their seed.
fn results(runs: &[ComparedRun]) -> Table {
    let mut table = Table::new([
        "run",
        "seeds",
        "best bits",
        "range",
        "at step",
        "seconds to it",
    ]);
    for group in groups(runs) {
        let best = group.iter().map(|run| {
            let valid = run.rows.iter().filter(|row| row.split == "valid");
            let bits = |row: &Row| row.get(Quantity::Bits).unwrap_or(f64::INFINITY);
            let best = valid.min_by(|a, b| bits(a).total_cmp(&bits(b)));
            let best = best.expect("a run that was evaluated");
            let seconds = best.get(Quantity::Seconds).unwrap_or(f64::NAN);
            (bits(best), (best.step as f64, seconds))
        });
        let (bits, at): (Vec<f64>, (Vec<f64>, Vec<f64>)) = best.unzip();
        let names: Vec<&str> = group.iter().map(|run| run.name.as_str()).collect();
        table.row([
            names.join(", "),
            group.len().to_string(),
            format!("{:.3}", mean(&bits)),
            match group.len() {
                1 => "-".to_owned(),
                _ => between(&bits, 3),
            },
            format!("{:.0}", mean(&at.0)),
            format!("{:.0}", mean(&at.1)),
        ]);
    }
    table
}

/// The settings that differ between runs: a column for each run.
fn settings(runs: &[ComparedRun]) -> Result<Table> {
    let mut flat = Vec::new();
    for run in runs {
        let mut settings = BTreeMap::new();
        flatten("", &serde_json::to_value(&run.config)?, &mut settings);
        flat.push(settings);
    }
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let mut table = Table::new(std::iter::once("setting").chain(names));
    let paths: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    for path in paths {
        let values: Vec<&str> = flat
            .iter()
            .map(|settings| settings.get(path).map_or("-", String::as_str))
            .collect();
        if values.iter().any(|value| *value != values[0]) {
            table.row(std::iter::once(path.as_str()).chain(values));
        }
    }
    Ok(table)
}

/// Lists every scalar of a configuration by its path.
fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&setting_below(path, name), value, settings);
            }
        }
        value => {
            settings.insert(path.to_owned(), value.to_string());
        }
    }
}

fn page(runs: &[ComparedRun], results: &Table, settings: &Table) -> Result<String> {
    let panel = |title: &str, x: Axis, of: &dyn Fn(&ComparedRun, &Row) -> Option<f64>| Panel {
        title: title.to_owned(),
        x,
        y: Axis::linear("bits per token, held-out"),
        curves: runs
            .iter()
            .map(|run| Curve::new(&run.name, bits(&run.rows, "valid", |row| of(run, row))))
            .collect(),
    };
    let tokens = |run: &ComparedRun, row: &Row| {
        let a_step = run.config.batch_size as f64 * run.config.window_length as f64;
        Some(row.step as f64 * a_step)
    };
    let panels = [
        panel("steps", Axis::linear("step"), &|_, row| step(row)),
        panel("tokens", Axis::linear("token"), &tokens),
        panel("time", Axis::linear("second"), &|_, row| seconds(row)),
    ];
    let mut units: Vec<&str> = runs
        .iter()
        .map(|run| run.config.data.token_name())
        .collect();
    units.dedup();
    let note = match units.len() {
        1 if units[0] == "token" && runs[0].config.data.is_language() => {
            "Bits per token compare only for tokens of the same tokenizer; evaluate measures bits per byte.".to_owned()
        }
        1 => format!("A token is a {}.", units[0]),
        _ => format!(
            "Bits of different tokens ({}) do not compare.",
            units.join(", ")
        ),
    };
    let page = HtmlPage {
        title: "Runs side by side",
        header: format!("  <p class=\"progress-text\">{}</p>", escape(&note)),
        main: format!(
            "<section>\n{}\n</section>\n<section>\n{}</section>\n\
             <section>\n<h2>Settings that differ</h2>\n{}\n</section>",
            results.html(),
            figure::svg(&panels)?,
            settings.html()
        ),
        style: STYLE,
        ..HtmlPage::default()
    };
    Ok(page.render())
}
