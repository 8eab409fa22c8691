//! Progress of a training as a bar, or as lines where there is no terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use burn::train::LearnerSummary;
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, EvaluationProgress, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining, ProgressType, TrainingProgress,
};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use reformer_train::TrainConfig;
use reformer_train::metrics::{Averages, Quantity};
use reformer_train::screen::Screen;

/// A spinner on a terminal, which disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(ProgressBar);

/// Shows a spinner with a message.
pub(crate) fn waiting(what: &'static str) -> Waiting {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    Waiting(spinner)
}

/// Opens a model, with a spinner.
pub(crate) fn loading<T>(open: impl FnOnce() -> T) -> T {
    let _waiting = waiting("Loading the model");
    open()
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Time between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress through a number of items: a bar on a terminal, otherwise a line every few seconds.
#[derive(Debug)]
pub(crate) struct Counter {
    bar: ProgressBar,
    what: &'static str,
    started: Instant,
    last_line: Instant,
}

impl Counter {
    /// Starts at none of the items, which are called `what`, such as sequences.
    pub(crate) fn new(doing: &str, what: &'static str) -> Self {
        let style = format!("{doing} {{bar:30}} {{pos}}/{{len}} {what}, {{eta}} left");
        let style = ProgressStyle::with_template(&style);
        Self {
            bar: ProgressBar::no_length().with_style(style.expect("the template is a constant")),
            what,
            started: Instant::now(),
            last_line: Instant::now(),
        }
    }

    /// Sets how many are done, and how many there are.
    pub(crate) fn set(&mut self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY && done < all {
            self.last_line = Instant::now();
            let left = self.started.elapsed().as_secs_f64() / done.max(1) as f64;
            let left = clock(left * (all - done) as f64);
            eprintln!("{done} of {all} {}  {left} left", self.what);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressName {
    /// Burn's dashboard on a terminal, otherwise lines
    Auto,
    /// Burn's dashboard; without a terminal, lines
    Dashboard,
    /// A bar on a terminal, otherwise lines
    Plain,
}

impl ProgressName {
    /// The screen for a run of which `steps_done` steps are done. A launcher of several processes makes the
    /// first one's output look like a terminal, but shows it line by line.
    pub(crate) fn screen(
        self,
        steps_done: usize,
        config: &TrainConfig,
        is_launched: bool,
    ) -> Screen<ProgressLines> {
        let is_terminal = io::stdout().is_terminal();
        match self {
            Self::Auto | Self::Dashboard if is_terminal && !is_launched => Screen::Dashboard,
            _ => Screen::Renderer(ProgressLines::new(steps_done, config)),
        }
    }
}

/// A bar on a terminal, otherwise a line every few seconds. A line for each validation.
pub(crate) struct ProgressLines {
    bar: ProgressBar,
    /// Text before every line.
    prefix: String,
    token_name: &'static str,
    /// Unit of the throughput, per second.
    unit: String,
    steps: usize,
    step: usize,
    first_step: usize,
    started: Instant,
    last_line: Instant,
    train: Averages,
    valid: Averages,
}

impl ProgressLines {
    /// Progress of a run of which `steps_done` steps are done.
    pub(crate) fn new(steps_done: usize, config: &TrainConfig) -> Self {
        let steps = config.steps;
        let style = ProgressStyle::with_template("{prefix}{bar:30} {pos}/{len} {msg}");
        let bar = ProgressBar::new(steps as u64)
            .with_position(steps_done as u64)
            .with_style(style.expect("the template is a constant"));
        Self {
            bar,
            prefix: String::new(),
            token_name: config.data.token_name(),
            unit: config.data.unit(),
            steps,
            step: steps_done,
            first_step: steps_done,
            started: Instant::now(),
            last_line: Instant::now(),
            train: Averages::new(),
            valid: Averages::new(),
        }
    }

    /// Adds a text before every line, which names one of several trainings.
    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = format!("{prefix}  ");
        self.bar.set_prefix(self.prefix.clone());
        self
    }

    fn line(&self, line: &str) {
        let line = format!("{}{line}", self.prefix);
        if self.bar.is_hidden() {
            println!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Averages of the training steps since the last line.
    fn train_message(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let per_step = seconds / (self.step - self.first_step).max(1) as f64;
        let left = per_step * (self.steps - self.step) as f64;
        format!("{}  {} left", self.message(&self.train), clock(left))
    }

    fn message(&self, averages: &Averages) -> String {
        let mean = |quantity| averages.mean(quantity).unwrap_or(f64::NAN);
        let Self {
            token_name, unit, ..
        } = self;
        format!(
            "loss {:.4}  {:.4} bits/{token_name}  {:.0} {unit}/s",
            mean(Quantity::Loss),
            mean(Quantity::Bits),
            mean(Quantity::TokensPerSecond)
        )
    }
}

/// A duration in minutes and seconds, or hours and minutes.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02} h", seconds / 60 % 60),
    }
}

fn add(averages: &mut Averages, state: &MetricState) {
    if let MetricState::Numeric(entry, value) = state {
        averages.add(&entry.metric_id, value);
    }
}

impl MetricsRendererTraining for ProgressLines {
    fn update_train(&mut self, state: MetricState) {
        add(&mut self.train, &state);
    }

    fn update_valid(&mut self, state: MetricState) {
        add(&mut self.valid, &state);
    }

    fn render_train(&mut self, _item: TrainingProgress, _indicators: Vec<ProgressType>) {
        self.step += 1;
        self.bar.set_position(self.step as u64);
        if !self.bar.is_hidden() {
            self.bar.set_message(self.train_message());
        }
        if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            if self.bar.is_hidden() {
                let message = self.train_message();
                self.line(&format!("step {}/{}  {message}", self.step, self.steps));
            }
            self.train = Averages::new();
        }
    }

    fn render_valid(&mut self, item: TrainingProgress, _indicators: Vec<ProgressType>) {
        let is_end = item
            .progress
            .is_none_or(|progress| progress.items_processed >= progress.items_total);
        if is_end {
            let valid = std::mem::take(&mut self.valid);
            let accuracy = valid.mean(Quantity::Accuracy).unwrap_or(f64::NAN);
            self.line(&format!(
                "step {}/{}  validation: {}  {accuracy:.1} % right",
                self.step,
                self.steps,
                self.message(&valid)
            ));
        }
    }

    fn on_train_end(
        &mut self,
        _summary: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn core::error::Error>> {
        self.bar.finish_and_clear();
        Ok(())
    }
}

impl MetricsRendererEvaluation for ProgressLines {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
    fn render_test(&mut self, _item: EvaluationProgress, _indicators: Vec<ProgressType>) {}
}

impl MetricsRenderer for ProgressLines {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _definition: MetricDefinition) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_shows_what_fits() {
        assert_eq!(clock(0.4), "0:00 min");
        assert_eq!(clock(125.0), "2:05 min");
        assert_eq!(clock(7_500.0), "2:05 h");
    }
}
