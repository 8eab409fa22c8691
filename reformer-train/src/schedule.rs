//! Warm-up, then a cosine.

use std::f64::consts::PI;

use burn::lr_scheduler::LrScheduler;
use burn::optim::LearningRate;
use burn::tensor::backend::Backend;

/// A learning rate that rises in a line to its peak and falls along half a cosine to its floor.
///
/// ```
/// use burn::lr_scheduler::LrScheduler;
/// use reformer_train::WarmupCosine;
///
/// let mut schedule = WarmupCosine::new(1.0, 0.0, 2, 6); // peak, floor, warmup_steps, steps
/// let rates: Vec<f64> = (0..6).map(|_| schedule.step()).collect();
/// assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
/// assert!((rates[4] - 0.5).abs() < 1e-9); // half-way down
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmupCosine {
    peak: LearningRate,
    floor: LearningRate,
    warmup_steps: usize,
    steps: usize,
    next: usize,
}

impl WarmupCosine {
    /// A schedule before its first step. The floor would be reached at the step after the last.
    pub fn new(peak: LearningRate, floor: LearningRate, warmup_steps: usize, steps: usize) -> Self {
        Self {
            peak,
            floor,
            warmup_steps,
            steps,
            next: 0,
        }
    }

    /// The learning rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> LearningRate {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let falling = self.steps.saturating_sub(self.warmup_steps).max(1);
        let share = ((step - self.warmup_steps) as f64 / falling as f64).min(1.0);
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (PI * share).cos())
    }
}

impl LrScheduler for WarmupCosine {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> LearningRate {
        let rate = self.rate(self.next);
        self.next += 1;
        rate
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.next
    }

    fn load_record<B: Backend>(self, next: usize) -> Self {
        Self { next, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn rises_to_the_peak_and_falls_to_the_floor() {
        let schedule = WarmupCosine::new(2.0, 0.5, 4, 14);
        let rates: Vec<f64> = (0..16).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!(rates[4..].windows(2).all(|pair| pair[0] >= pair[1]));
        assert!(
            (rates[9] - 1.25).abs() < 1e-9,
            "half-way down: {}",
            rates[9]
        );
        assert_eq!(rates[14..], [0.5, 0.5]);
    }

    #[test]
    fn works_without_warmup_and_with_nothing_else() {
        assert_eq!(WarmupCosine::new(1.0, 0.1, 0, 10).rate(0), 1.0);
        let only_warmup = WarmupCosine::new(1.0, 0.1, 10, 10);
        assert_eq!(only_warmup.rate(9), 1.0);
        assert!(only_warmup.rate(10).is_finite());
    }

    #[test]
    fn record_remembers_the_step() {
        let mut schedule = WarmupCosine::new(1.0, 0.0, 3, 9);
        for _ in 0..5 {
            schedule.step();
        }
        let record = schedule.to_record::<Flex>();
        let mut resumed = WarmupCosine::new(1.0, 0.0, 3, 9).load_record::<Flex>(record);
        assert_eq!(resumed.step(), schedule.step());
    }
}
