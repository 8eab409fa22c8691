//! How LSH attention hashes a text, as an HTML page and as JSON.

use reformer_core::attention::InspectedHead;
use reformer_train::report::{HtmlPage, escape};
use serde::Serialize;

const MAIN: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Factor for rounding shares to four decimals.
const DIGITS: f32 = 1e4;

/// A text, and what each LSH layer does to it.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// The text of each token.
    pub(crate) tokens: Vec<String>,
    pub(crate) layers: Vec<Layer>,
}

/// An LSH layer.
#[derive(Debug, Serialize)]
pub(crate) struct Layer {
    /// Number of the block, from 0 up.
    pub(crate) number: usize,
    pub(crate) heads: Vec<Head>,
}

/// A head.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    /// Bucket of each position in each round: `[n_rounds][tokens]`.
    pub(crate) buckets: Vec<Vec<u32>>,
    /// Share of full attention that each position finds (its coverage).
    pub(crate) coverage: Vec<f32>,
    /// Keys that each position attends to: position and weight, the largest first.
    pub(crate) weights: Vec<Vec<(usize, f32)>>,
}

impl Layer {
    /// Converts the inspected heads of a block, with the `n_largest` weights of each position.
    pub(crate) fn new(number: usize, heads: Vec<InspectedHead>, n_largest: usize) -> Self {
        let round = |share: f32| (share * DIGITS).round() / DIGITS;
        let heads = heads.into_iter().map(|head| Head {
            buckets: head.buckets,
            coverage: head.coverage.into_iter().map(round).collect(),
            weights: head
                .weights
                .into_iter()
                .map(|weights| {
                    let largest = weights.into_iter().take(n_largest);
                    largest.map(|(key, weight)| (key, round(weight))).collect()
                })
                .collect(),
        });
        Self {
            number,
            heads: heads.collect(),
        }
    }
}

impl Inspection {
    /// A self-contained HTML page.
    pub(crate) fn page(&self, title: &str) -> serde_json::Result<String> {
        let page = HtmlPage {
            title,
            header: format!(
                "  <p class=\"progress-text\">{}</p>",
                escape(&self.summary())
            ),
            main: MAIN.to_owned(),
            style: STYLE,
            script: Some((SCRIPT, serde_json::to_string(self)?)),
            refresh_seconds: None,
        };
        Ok(page.render())
    }

    /// Mean coverage of each layer in words.
    pub(crate) fn summary(&self) -> String {
        let layers = self.layers.iter().map(|layer| {
            let shares: Vec<f32> = layer
                .heads
                .iter()
                .flat_map(|h| &h.coverage)
                .copied()
                .collect();
            let mean = 100.0 * shares.iter().sum::<f32>() / shares.len().max(1) as f32;
            let rounds = layer.heads.first().map_or(0, |head| head.buckets.len());
            match rounds {
                0 => format!("layer {} attends exactly", layer.number + 1),
                _ => format!(
                    "layer {} finds {mean:.1} % in {rounds} rounds",
                    layer.number + 1
                ),
            }
        });
        let layers: Vec<String> = layers.collect();
        format!("{} tokens · {}", self.tokens.len(), layers.join(" · "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_everything_and_no_content_becomes_markup() {
        let head = InspectedHead {
            buckets: vec![vec![0, 1], vec![2, 2]],
            coverage: vec![1.0, 0.123_456],
            weights: vec![vec![(0, 1.0)], vec![(0, 0.7), (1, 0.3)]],
        };
        let inspection = Inspection {
            tokens: vec!["</script><b>".to_owned(), "{{data}}".to_owned()],
            layers: vec![Layer::new(3, vec![head], 1)],
        };
        let page = inspection.page("<i>").unwrap();
        assert!(page.contains("<title>&lt;i&gt;</title>"));
        assert!(page.contains("2 tokens · layer 4 finds 56.2 % in 2 rounds"));
        assert!(!page.contains("<b>"));
        let (_, data) = page.split_once("type=\"application/json\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["tokens"][0], "</script><b>");
        let head = &data["layers"][0]["heads"][0];
        assert_eq!(head["buckets"][1][1], 2);
        assert_eq!(
            head["weights"][1].as_array().unwrap().len(),
            1,
            "the largest"
        );
    }
}
