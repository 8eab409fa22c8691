//! Figure 5, left: deeper Reformers on enwik8.

use std::process::ExitCode;

use super::About;
use crate::study::{BaseTraining, Comparison, Contest, DataKind, Scale, Variant};

const NAME: &str = "figure5_depth";

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Train Reformers of several depths on text",
        flags: " --enwik8 enwik8.zip",
        cpu: "Ten minutes on two CPU cores",
        paper: "The paper's 3 to 20 layers of width 1,024 on 64K bytes; some 16 GB, and weeks on one GPU",
        notes: "",
    }
    .comparison(figure)
}

fn figure(scale: Scale) -> Comparison {
    let depths: &[usize] = scale.pick(&[1, 2], &[1, 2, 4, 8], &[3, 6, 12, 20]);
    let variants = depths.iter().map(|n| {
        let label = match n {
            1 => "1 layer".to_owned(),
            n => format!("{n} layers"),
        };
        Variant {
            // The paper has a number for this depth alone.
            paper: (scale == Scale::Paper && *n == 12).then_some("1.19"),
            ..Variant::new(
                format!("depth-{n}"),
                label,
                &[&format!("model.reformer.n_layers={n}")],
            )
        }
    });
    Comparison {
        name: NAME,
        title: "Figure 5, left: bits per byte over depth",
        claim: "Paper (enwik8, windows of 64K bytes): the deeper, the better, up to 20 layers; after \
                20,000 steps 12 layers reach 1.19 bits per byte on the test text, and 1.05 when trained \
                longer with other settings.",
        contests: vec![Contest {
            key: "text",
            title: "text",
            base: BaseTraining {
                data: DataKind::Text,
                all: &[r#"model.reformer.layers=["Local","Lsh"]"#],
                cpu: &[
                    "steps=400",
                    "window_length=512",
                    "eval_windows=48",
                    "model.reformer.lsh.n_rounds=2",
                ],
                paper: &["steps=20000", "model.reformer.dropout=0.1"],
            },
            variants: variants.collect(),
        }],
    }
}
