//! Plots right answers over length, and over the number of items to find.

use anyhow::Result;

use super::decode::Decoded;
use super::task::Task;
use super::{LayerResult, LayerVariant, VARIANTS};
use crate::plot::figure::{Axis, Curve, Panel};
use crate::study::statistics::{between, mean};
use crate::study::{Report, Study, Table};

/// Writes the report.
pub(super) fn report(study: &Study, task: Task, results: &[LayerResult]) -> Result<()> {
    Report {
        title: title(task),
        notes: notes(task, results),
        table: table(results),
        panels: panels(results),
        values: &results,
    }
    .write(study)
}

fn title(task: Task) -> &'static str {
    match task {
        Task::Pairs => "Associative recall: the value paired with a key",
        Task::Passages => "Repeated passages",
        Task::PassagesBackwards => "Passages repeated backwards",
        Task::Needles => "A needle in a novel",
    }
}

fn notes(task: Task, results: &[LayerResult]) -> Vec<String> {
    let chance = match task {
        Task::Pairs => "1 of 64 values, 1.6 %",
        Task::Passages | Task::PassagesBackwards => "1 of 128 symbols, 0.8 %",
        Task::Needles => "1 of 26 letters, 3.8 %",
    };
    let steps = results.first().map_or(0, |result| result.steps);
    let seeds = results
        .iter()
        .filter(|result| result.variant == results[0].variant)
        .count();
    vec![format!(
        "Right answers in percent, mean and range over {seeds} seeds; chance is {chance}. Layers are local and as named, in turn; \
         {steps} steps, after a beginning with short sequences. In training: of the last evaluation, questions \
         anywhere. Elsewhere all questions come last: the text before them is read in one pass, the rest \
         token by token with the decoder's cache, and what depends on a length (the number of buckets) stays \
         that of training. Times are those of this machine: a step of training with its share of \
         evaluations, and the median of a token."
    )]
}

/// The trained kinds of the second layer, in the order of [`VARIANTS`].
fn trained(results: &[LayerResult]) -> impl Iterator<Item = &'static LayerVariant> {
    let is_trained =
        |variant: &&LayerVariant| results.iter().any(|result| result.variant == variant.label);
    VARIANTS.iter().filter(is_trained)
}

/// Decoding results of a kind: for each length and number of items, those of all seeds.
fn decoded<'a>(results: &'a [LayerResult], variant: &str) -> Vec<Vec<&'a Decoded>> {
    let mut places: Vec<Vec<&Decoded>> = Vec::new();
    for result in results.iter().filter(|result| result.variant == variant) {
        for (number, decoded) in result.decoded.iter().enumerate() {
            match places.get_mut(number) {
                Some(place) => place.push(decoded),
                None => places.push(vec![decoded]),
            }
        }
    }
    places
}

fn right(decoded: &[&Decoded]) -> Vec<f64> {
    decoded.iter().map(|decoded| decoded.right()).collect()
}

fn token_ms(decoded: &[&Decoded]) -> f64 {
    let times: Vec<f64> = decoded.iter().map(|decoded| decoded.token_ms).collect();
    mean(&times)
}

fn table(results: &[LayerResult]) -> Table {
    let mut table = Table::new([
        "second layer",
        "tokens",
        "to find",
        "% right",
        "range",
        "ms a token",
        "s a step",
    ]);
    let cells = |values: &[f64]| [format!("{:.1}", mean(values)), between(values, 1)];
    for variant in trained(results) {
        let of_variant = results
            .iter()
            .filter(|result| result.variant == variant.label);
        let [trained, seconds]: [Vec<f64>; 2] = [
            of_variant.clone().map(|result| result.trained).collect(),
            of_variant.map(|result| result.step_seconds).collect(),
        ];
        let [percent, range] = cells(&trained);
        let label = variant.label.to_owned();
        table.row([
            label.clone(),
            "in training".to_owned(),
            "-".to_owned(),
            percent,
            range,
            "-".to_owned(),
            format!("{:.3}", mean(&seconds)),
        ]);
        for place in decoded(results, variant.label) {
            let [percent, range] = cells(&right(&place));
            table.row([
                label.clone(),
                place[0].length.to_string(),
                place[0].n.to_string(),
                percent,
                range,
                format!("{:.2}", token_ms(&place)),
                "-".to_owned(),
            ]);
        }
    }
    table
}

fn panels(results: &[LayerResult]) -> Vec<Panel> {
    let first = results.first().map_or(&[][..], |result| &result.decoded);
    let most = first.iter().map(|decoded| decoded.n).max().unwrap_or(0);
    let shortest = first.iter().map(|decoded| decoded.length).min();
    let panel = |title: &str,
                 x,
                 y,
                 keep: &dyn Fn(&Decoded) -> bool,
                 point: &dyn Fn(&[&Decoded]) -> (f64, f64)| Panel {
        title: title.to_owned(),
        x,
        y,
        curves: trained(results)
            .map(|variant| {
                let places = decoded(results, variant.label).into_iter();
                let points = places.filter(|place| keep(place[0]));
                Curve::new(variant.label, points.map(|place| point(&place)).collect())
            })
            .collect(),
    };
    let mut panels = vec![
        panel(
            "right answers over length",
            Axis::log("tokens"),
            Axis::linear("% right"),
            &|decoded| decoded.n == most,
            &|place| (place[0].length as f64, mean(&right(place))),
        ),
        panel(
            "time of a token",
            Axis::log("tokens"),
            Axis::log("ms"),
            &|decoded| decoded.n == most,
            &|place| (place[0].length as f64, token_ms(place)),
        ),
    ];
    if first.iter().any(|decoded| decoded.n < most) {
        panels.insert(
            1,
            panel(
                "right answers over pairs",
                Axis::log("pairs"),
                Axis::linear("% right"),
                &|decoded| Some(decoded.length) == shortest,
                &|place| (place[0].n as f64, mean(&right(place))),
            ),
        );
    }
    panels
}
