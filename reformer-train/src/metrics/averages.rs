//! Means of the values that Burn reports in each step.

use std::f64::consts::LN_2;

use burn::train::metric::{MetricId, NumericEntry};

use crate::metrics::Quantity;

/// Weighted means of all quantities over some steps.
#[derive(Debug, Clone, Default)]
pub struct Averages {
    sums: [(f64, f64); Quantity::ALL.len()],
}

impl Averages {
    /// Means over no steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the entry of a step. Metrics that are not a [`Quantity`] are left out.
    pub fn add(&mut self, id: &MetricId, entry: &NumericEntry) {
        let is_its_id = |quantity: &Quantity| {
            quantity.is_measured() && MetricId::new(quantity.name().to_owned().into()) == *id
        };
        let Some(index) = Quantity::ALL.iter().position(is_its_id) else {
            return;
        };
        let (value, weight) = match entry {
            NumericEntry::Value(value) => (*value, 1.0),
            NumericEntry::Aggregated {
                aggregated_value,
                count,
            } => (*aggregated_value, *count as f64),
        };
        if weight > 0.0 {
            let (sum, weights) = &mut self.sums[index];
            *sum += value * weight;
            *weights += weight;
        }
    }

    /// The mean of a quantity, if it was measured. Quantities derived from the loss use its mean.
    pub fn mean(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Bits => return Some(self.mean(Quantity::Loss)? / LN_2),
            Quantity::Perplexity => return Some(self.mean(Quantity::Loss)?.exp()),
            _ => {}
        }
        let index = Quantity::ALL.iter().position(|other| *other == quantity)?;
        let (sum, weights) = self.sums[index];
        (weights > 0.0).then(|| sum / weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighted_and_strangers_left_out() {
        let id = |name: &str| MetricId::new(name.to_owned().into());
        let entry = |value, count| NumericEntry::Aggregated {
            aggregated_value: value,
            count,
        };
        let mut averages = Averages::new();
        averages.add(&id("Loss"), &entry(1.0, 3));
        averages.add(&id("Loss"), &entry(5.0, 1));
        averages.add(&id("CPU usage"), &entry(5.0, 1));
        averages.add(&id("Accuracy"), &entry(f64::NAN, 0));
        assert_eq!(averages.mean(Quantity::Loss), Some(2.0));
        assert_eq!(averages.mean(Quantity::Accuracy), None);
        assert_eq!(averages.mean(Quantity::Bits), Some(2.0 / LN_2));
        assert_eq!(averages.mean(Quantity::Perplexity), Some(2f64.exp()));
    }
}
