//! The table and the figure of a task.

use anyhow::Result;
use reformer_datasets::long_range::LongRangeTask;
use reformer_train::TrainConfig;
use reformer_train::metrics::{Quantity, Row};

use super::{MODELS, ModelResult, Values};
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::statistics::{between, margin, mean};
use crate::study::{Report, Study, Table, Trained};

/// Test accuracies of the paper's table 1, in the order of [`LongRangeTask::ALL`].
const PUBLISHED: [(&str, [f64; 5]); 3] = [
    ("Transformer", [36.37, 64.27, 57.46, 42.44, 71.40]),
    ("Local attention", [15.82, 52.98, 53.39, 41.46, 66.63]),
    ("Reformer", [37.27, 56.10, 53.40, 38.07, 68.50]),
];

pub(super) fn report(
    study: &Study,
    base: &TrainConfig,
    task: LongRangeTask,
    trained: &[Trained],
    values: &Values,
    n_seeds: usize,
) -> Result<()> {
    Report {
        title: &format!("Long Range Arena: {}", task.name()),
        notes: notes(base, task, values, n_seeds),
        table: table(task, values, n_seeds),
        panels: panels(trained, n_seeds),
        values,
    }
    .write(study)
}

fn table(task: LongRangeTask, values: &Values, n_seeds: usize) -> Table {
    let mut table = Table::new([
        "model",
        "% right",
        "range",
        "difference",
        "95 %",
        "bits a label",
        "seconds a step",
    ]);
    let alone = |label: String, accuracy: f64| {
        let mut cells = vec![label, format!("{accuracy:.2}")];
        cells.resize(7, "-".to_owned());
        cells
    };
    for baseline in &values.baselines {
        table.row(alone(baseline.label.clone(), baseline.accuracy));
    }
    let accuracies = |results: &[ModelResult]| -> Vec<f64> {
        results.iter().map(|own| own.tested.accuracy).collect()
    };
    let first = accuracies(&values.results[..n_seeds]);
    for ((_, label, _), results) in MODELS.iter().zip(values.results.chunks(n_seeds)) {
        let own = accuracies(results);
        let pairs = own.iter().zip(&first);
        let differences: Vec<f64> = pairs.map(|(own, first)| own - first).collect();
        let mean_of = |get: fn(&ModelResult) -> f64| {
            let values: Vec<f64> = results.iter().map(get).collect();
            mean(&values)
        };
        table.row([
            (*label).to_owned(),
            format!("{:.2}", mean(&own)),
            between(&own, 2),
            format!("{:+.2}", mean(&differences)),
            margin(&differences),
            format!("{:.3}", mean_of(|own| own.tested.bits)),
            format!("{:.3}", mean_of(|own| own.seconds_per_step)),
        ]);
    }
    let place = LongRangeTask::ALL.iter().position(|own| *own == task);
    for (label, accuracies) in PUBLISHED {
        let accuracy = accuracies[place.unwrap_or_default()];
        table.row(alone(format!("published: {label}"), accuracy));
    }
    table
}

fn notes(base: &TrainConfig, task: LongRangeTask, values: &Values, n_seeds: usize) -> Vec<String> {
    let n_rows = values.results.first().map_or(0, |own| own.tested.n_rows);
    let mut notes = vec![format!(
        "Rows of the part for the test ({n_rows}) with the right class after {} steps of {} rows: means over \
         {n_seeds} seeds, their range, and differences to full attention from the same seeds with the 95 % interval \
         of their mean (Student's t). All layers are of the kind that is named; those with LSH have a local round \
         in addition to the hash rounds. Baselines are counted on all training rows.",
        base.steps, base.batch_size
    )];
    let mut published =
        "Published are table 1 of Tay et al. (2021), of other models and trainings.".to_owned();
    let (length, benchmark) = (base.window_length, task.max_length());
    if length != benchmark {
        published += &format!(
            " They do not compare: a row has at most {length} tokens here, and {benchmark} there."
        );
    }
    published += match task {
        LongRangeTask::ListOps => {
            " They are older than the repair of the benchmark's tokenizer, which had left out all brackets."
        }
        LongRangeTask::Retrieval => {
            " They do not compare: there each document is read alone, here both are one row."
        }
        _ => "",
    };
    notes.push(published);
    notes
}

/// Accuracy on the validation data, from the first seed.
fn panels(trained: &[Trained], n_seeds: usize) -> Vec<Panel> {
    let panel = |title: &str, x: &str, at: fn(&Row) -> Option<f64>| {
        let curves = MODELS.iter().zip(trained.chunks(n_seeds));
        let curves = curves.map(|((_, label, _), trained)| {
            let valid = trained[0].rows.iter().filter(|row| row.split == "valid");
            let point = |row: &Row| Some((at(row)?, row.get(Quantity::Accuracy)?));
            Curve::new(*label, valid.filter_map(point).collect())
        });
        Panel {
            title: title.to_owned(),
            x: Axis::linear(x),
            y: Axis::linear("% right, validation"),
            curves: curves.collect(),
        }
    };
    vec![
        panel("over steps, first seed", "step", |row| {
            Some(row.step as f64)
        }),
        panel("over time, first seed", "seconds", |row| {
            row.get(Quantity::Seconds)
        }),
    ]
}
