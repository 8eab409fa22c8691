//! Figure 4: hash rounds against full attention.

use std::process::ExitCode;

use super::About;
use crate::study::{BaseTraining, Comparison, Contest, DataKind, Scale, Variant};

const NAME: &str = "figure4_hash_rounds";

pub(super) fn main() -> ExitCode {
    About {
        name: NAME,
        about: "Train with 1 to 16 hash rounds and with full attention",
        flags: " --enwik8 enwik8.zip --images imagenet64/",
        cpu: "Two hours on two CPU cores",
        paper: "The paper's 3 layers of width 1,024; full attention is quadratic, and takes days on a large \
             GPU",
        notes: "",
    }
    .comparison(figure)
}

fn figure(scale: Scale) -> Comparison {
    let contest = |key, title, data, cpu| Contest {
        key,
        title,
        base: BaseTraining {
            data,
            all: &[r#"model.reformer.layers=["Lsh"]"#],
            cpu,
            paper: &["steps=100000", "model.reformer.lsh.chunk_length=128"],
        },
        variants: variants(scale, r#"model.reformer.layers=["Full"]"#),
    };
    let passages = Contest {
        key: "passages",
        title: "passages that return",
        base: PASSAGES,
        variants: variants(scale, r#"model.reformer.layers=["Local","Full"]"#),
    };
    Comparison {
        name: NAME,
        title: "Figure 4: hash rounds against full attention",
        claim: "Paper (imagenet64): with more rounds the loss comes closer to that of full attention, \
                and with 8 rounds almost reaches it. It prints curves and no numbers. All layers are of \
                the kind that is named, with shared queries and keys; for passages, which return \
                backwards, the second of two is, above a local one that sees the token before.",
        contests: vec![
            contest("images", "images", DataKind::Images, IMAGES),
            passages,
            contest("text", "text", DataKind::Text, TEXT),
        ],
    }
}

const IMAGES: &[&str] = &[
    "steps=1500",
    "steps_per_epoch=250",
    "eval_windows=24",
    "batch_size=3",
    "model.reformer.lsh.chunk_length=32",
];
const TEXT: &[&str] = &[
    "steps=500",
    "window_length=512",
    "batch_size=4",
    "eval_windows=48",
    "model.reformer.lsh.n_buckets=\"Auto\"",
];

/// Half of all tokens can be predicted by finding their earlier occurrence; a window holds few of all tokens.
const PASSAGES: BaseTraining = BaseTraining {
    data: DataKind::Passages,
    all: &[],
    cpu: &[
        "steps=1500",
        "steps_per_epoch=100",
        "eval_windows=128",
        "model.reformer.lsh.n_buckets={\"Count\":16}",
        "model.reformer.lsh.chunk_length=8",
        "model.reformer.lsh.window={\"Bucket\":{\"len\":8}}",
    ],
    paper: &[
        "steps=20000",
        "window_length=1024",
        "model.reformer.lsh.n_buckets={\"Count\":32}",
        "model.reformer.lsh.chunk_length=32",
        "model.reformer.lsh.window={\"Bucket\":{\"len\":32}}",
    ],
};

fn variants(scale: Scale, full: &str) -> Vec<Variant> {
    let rounds: &[usize] = scale.pick(&[1, 4], &[1, 2, 4, 8, 16], &[2, 4, 8, 16]);
    let full = Variant::new("full", "full attention", &[full]);
    let lsh = rounds.iter().map(|n| {
        let label = match n {
            1 => "LSH, 1 round".to_owned(),
            n => format!("LSH, {n} rounds"),
        };
        let set = format!("model.reformer.lsh.n_rounds={n}");
        Variant::new(format!("lsh-{n}"), label, &[&set])
    });
    std::iter::once(full).chain(lsh).collect()
}
