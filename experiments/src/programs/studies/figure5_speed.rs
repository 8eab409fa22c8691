//! Figure 5, right: the time of a step over length, with the number of tokens fixed.

use std::process::ExitCode;

use anyhow::Result;

use super::About;
use crate::measure::step::{Measurement, StepArguments, measure};
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::{Report, Scale, StudyArguments, Table, open_and_measure, step};

const NAME: &str = "figure5_speed";
const ROUNDS: [usize; 4] = [1, 2, 4, 8];

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Time a step at several lengths with as many tokens, with 1 to 8 hash rounds and exactly",
        cpu: "Five minutes on two CPU cores",
        paper: "The paper's 3 layers of width 1,024 and 64K tokens; minutes on a large GPU",
        ..About::default()
    }
    .measured(measure, figure)
}

/// Tokens of a step, lengths, and the model.
fn setting(scale: Scale) -> (usize, Vec<usize>, &'static str) {
    let powers = |from: u32, to: u32| (from..=to).map(|exponent| 1 << exponent).collect();
    scale.pick(
        (
            256,
            powers(7, 8),
            "--layers 1 --d-model 16 --n-heads 2 --d-head 8 --d-ff 32 --chunk-length 16 --steps 1 --bare",
        ),
        (
            16_384,
            powers(10, 14),
            "--layers 1 --d-model 256 --chunk-length 64 --steps 3",
        ),
        (
            65_536,
            powers(10, 16),
            "--layers 3 --d-model 1024 --n-heads 8 --d-head 64 --d-ff 4096 --chunk-length 64 --steps 5",
        ),
    )
}

fn points(scale: Scale) -> Vec<(String, StepArguments)> {
    let (tokens, lengths, model) = setting(scale);
    let mut points = Vec::new();
    for &length in &lengths {
        let size = format!("{model} --length {length} --batch-size {}", tokens / length);
        for rounds in ROUNDS {
            points.push((
                format!("lsh-{rounds}-{length}"),
                step(&format!("{size} --n-rounds {rounds} --always-hash")),
            ));
        }
        points.push((
            format!("full-{length}"),
            step(&format!("{size} --attention full")),
        ));
    }
    points
}

fn figure(arguments: &StudyArguments) -> Result<()> {
    let points = points(arguments.preset);
    let (study, measured) = open_and_measure(NAME, arguments, &points)?;
    let (tokens, lengths, _) = setting(arguments.preset);
    let mut columns = vec!["length".to_owned()];
    columns.extend(ROUNDS.map(|rounds| format!("LSH-{rounds}, s")));
    columns.extend(["full, s".to_owned(), "full / LSH-8".to_owned()]);
    let mut table = Table::new(columns);
    let rows: Vec<&[Measurement]> = measured.chunks(ROUNDS.len() + 1).collect();
    for (length, row) in lengths.iter().zip(&rows) {
        let seconds = row
            .iter()
            .map(|measured| format!("{:.3}", measured.seconds));
        let ratio = row[ROUNDS.len()].seconds / row[ROUNDS.len() - 1].seconds;
        let cells = std::iter::once(length.to_string()).chain(seconds);
        table.row(cells.chain([format!("{ratio:.2}")]));
    }
    let curve = |column: usize, label: String| {
        let points = lengths.iter().zip(&rows);
        let points = points.map(|(length, row)| (*length as f64, row[column].seconds));
        Curve::new(label, points.collect())
    };
    let mut curves: Vec<Curve> = ROUNDS
        .iter()
        .enumerate()
        .map(|(column, rounds)| curve(column, format!("LSH, {rounds} rounds")))
        .collect();
    curves.push(curve(ROUNDS.len(), "full attention".to_owned()));
    Report {
        title: "Figure 5, right: seconds a step over length",
        notes: vec![format!(
            "Paper: with the number of tokens fixed, a step of full attention takes longer the longer the \
             sequences are, and a step of LSH attention as long. It prints curves and no numbers. Here \
             {tokens} tokens; forward, loss and backward."
        )],
        table,
        panels: vec![Panel {
            title: format!("{tokens} tokens a step"),
            x: Axis::log("length"),
            y: Axis::log("seconds a step"),
            curves,
        }],
        values: &measured,
    }
    .write(&study)
}
