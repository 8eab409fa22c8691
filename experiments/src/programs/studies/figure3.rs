//! Figure 3: sharing queries and keys, and reversible layers, against a Transformer's.

use std::process::ExitCode;

use super::About;
use crate::study::{BaseTraining, Comparison, Contest, DataKind, Scale, Variant};

const NAME: &str = "figure3_sharing_and_reversibility";

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Train with shared and with separate queries and keys, and reversible against ordinary layers",
        flags: " --enwik8 enwik8.zip --images imagenet64/",
        cpu: "Forty minutes on two CPU cores",
        paper: "The paper's 3 layers of width 1,024 on 64K bytes and 12K dims; days on a large GPU",
        notes: "",
    }
    .comparison(figure)
}

fn figure(_: Scale) -> Comparison {
    let contest = |key, title, data, cpu: &'static [&'static str]| Contest {
        key,
        title,
        base: BaseTraining {
            data,
            all: &[r#"model.reformer.layers=["Full"]"#],
            cpu,
            paper: &["steps=60000"],
        },
        variants: variants(),
    };
    Comparison {
        name: NAME,
        title: "Figure 3: shared queries and keys, reversible layers",
        claim: "Paper: sharing queries and keys is not worse than keeping them apart (on enwik8 it \
                learns slightly faster), and reversible layers learn as ordinary ones do. It prints \
                curves and no numbers. All variants attend exactly; the ordinary one has a single \
                residual stream and otherwise the same parameters.",
        contests: vec![
            contest("text", "text", DataKind::Text, TEXT),
            contest("images", "images", DataKind::Images, IMAGES),
        ],
    }
}

const TEXT: &[&str] = &[
    "steps=600",
    "window_length=256",
    "batch_size=8",
    "eval_windows=64",
    "model.reformer.d_model=96",
];
const IMAGES: &[&str] = &[
    "steps=1500",
    "steps_per_epoch=250",
    "eval_windows=24",
    "batch_size=3",
];

fn variants() -> Vec<Variant> {
    let separate = "model.reformer.full_share_qk=false";
    let ordinary = r#"model.reformer.mode="Ordinary""#;
    vec![
        Variant::new(
            "transformer",
            "separate Q and K, ordinary (Transformer)",
            &[separate, ordinary],
        ),
        Variant::new("shared", "shared QK, ordinary", &[ordinary]),
        Variant::new("reversible", "separate Q and K, reversible", &[separate]),
        Variant::new("both", "shared QK, reversible", &[]),
    ]
}
