//! Ablations of choices that the paper makes without alternatives, or in which implementations differ.

use std::process::ExitCode;

use super::About;
use crate::study::{BaseTraining, Comparison, Contest, DataKind, Scale, Variant};

/// Chunks of the sorted sequence with one chunk back, as in the peers.
const ACROSS: &str =
    r#"model.reformer.lsh.window={"Chunk":{"before":1,"after":0,"within_bucket":false}}"#;
const WITHIN: &str =
    r#"model.reformer.lsh.window={"Chunk":{"before":1,"after":0,"within_bucket":true}}"#;

/// Keys that several rounds find are counted once, or in each round.
pub(super) fn duplicates() -> ExitCode {
    let duplicates = |rule| format!("model.reformer.lsh.duplicates={rule}");
    ablation(
        "ablation_duplicates",
        "Count keys that several rounds find once, or once per round",
        "Ablation: keys that are seen in several rounds",
        "Paper (appendix A): the logits of a key lose log N, where N is the number of rounds that find it. \
         Hugging Face and trax leave this out.",
        Bases {
            text: &["model.reformer.lsh.n_rounds=8"],
            pairs: &["model.reformer.lsh.n_rounds=4"],
        },
        vec![
            Variant::new("exact", "counted once", &[&duplicates("Exact")]),
            Variant::new("keep", "counted in each round", &[&duplicates("Keep")]),
        ],
    )
}

/// Chunks of the sorted sequence against the last positions of a bucket.
pub(super) fn window() -> ExitCode {
    ablation(
        "ablation_window",
        "Look at chunks of the sorted sequence, or at the last positions of a query's bucket",
        "Ablation: what a query sees in a round",
        "The paper and its peers cut the sorted sequence into chunks, whose borders later tokens move. A \
         window of the bucket is strictly causal. Both see at most as many keys: 2 chunks, or twice a \
         chunk's length of the bucket.",
        Bases::default(),
        vec![
            Variant::new("bucket", "the last of the bucket", &[]),
            Variant::new("chunk", "chunks, within the bucket", &[WITHIN]),
        ],
    )
}

/// Chunks see other buckets, or only their own.
pub(super) fn across_buckets() -> ExitCode {
    ablation(
        "ablation_across_buckets",
        "Look at chunks of the sorted sequence within a query's bucket, or across buckets",
        "Ablation: within or across buckets",
        "The paper's text has a query attend within its bucket; the code of trax (as trained later), \
         Hugging Face and reformer_pytorch lets it see whatever is in its chunk and the one before.",
        Bases::default(),
        vec![
            Variant::new("within", "within the bucket", &[WITHIN]),
            Variant::new("across", "across buckets", &[ACROSS]),
        ],
    )
}

/// Scale of the logits where keys are normalised queries.
pub(super) fn logit_scale() -> ExitCode {
    ablation(
        "ablation_logit_scale",
        "Multiply the logits of shared queries and keys with 1, or with 1 / sqrt(d_head)",
        "Ablation: the scale of logits",
        "Keys are queries of length 1. trax and Hugging Face take logits as they are; reformer_pytorch \
         divides them by the root of d_head; the paper says nothing.",
        Bases::default(),
        vec![
            Variant::new("one", "1", &["model.reformer.logit_scale=1.0"]),
            // For heads of width 32.
            Variant::new(
                "root",
                "1 / sqrt(d_head)",
                &["model.reformer.logit_scale=0.17678"],
            ),
            Variant::new(
                "root-up",
                "sqrt(d_head)",
                &["model.reformer.logit_scale=5.65685"],
            ),
        ],
    )
}

/// Rotations drawn anew in each step, or once.
pub(super) fn rotations() -> ExitCode {
    ablation(
        "ablation_rotations",
        "Draw the rotations of hashing anew in each step, or once",
        "Ablation: fixed and redrawn rotations",
        "Training draws new rotations in each step in all implementations; Hugging Face can fix them by \
         `hash_seed`. Evaluation has rotations of its own when training redraws them, and the same when it \
         does not.",
        Bases::default(),
        vec![
            Variant::new("redrawn", "redrawn in each step", &[]),
            Variant::new(
                "fixed",
                "fixed",
                &["model.reformer.lsh.fixed_rotations=true"],
            ),
        ],
    )
}

/// Activations are recomputed with rounding errors, recomputed exactly, or stored.
pub(super) fn reversal() -> ExitCode {
    ablation(
        "ablation_reversal",
        "Recompute activations from the output, exactly or with rounding errors, or store them",
        "Ablation: exact and ordinary reversal",
        "Reversing a block in floating point gives its input but for rounding. Exact reversal rounds what \
         layers add to a grid instead. All three start from the same weights and see the same batches.",
        Bases {
            text: &["model.reformer.n_layers=8"],
            pairs: &[],
        },
        vec![
            Variant::new(
                "plain",
                "activations are kept",
                &[r#"model.reformer.mode="Plain""#],
            ),
            Variant::new("reversible", "reversed", &[]),
            Variant::new(
                "exact",
                "reversed exactly",
                &[r#"model.reformer.mode={"Exact":{"fraction_bits":16}}"#],
            ),
        ],
    )
}

/// Changes that all variants of an ablation share.
#[derive(Clone, Copy, Default)]
struct Bases {
    text: &'static [&'static str],
    pairs: &'static [&'static str],
}

/// An ablation on text and on associative recall.
fn ablation(
    name: &'static str,
    about: &'static str,
    title: &'static str,
    claim: &'static str,
    bases: Bases,
    variants: Vec<Variant>,
) -> ExitCode {
    About {
        name,
        about,
        flags: " --enwik8 enwik8.zip",
        cpu: "Minutes on two CPU cores",
        paper: "The paper's width and lengths; a day or two on a large GPU",
        notes: "",
    }
    .comparison(|scale| Comparison {
        name,
        title,
        claim,
        contests: contests(scale, bases, variants),
    })
}

fn contests(scale: Scale, bases: Bases, variants: Vec<Variant>) -> Vec<Contest> {
    let text = Contest {
        key: "text",
        title: "text",
        base: TEXT,
        variants: with(bases.text, variants.clone()),
    };
    let pairs = Contest {
        key: "pairs",
        title: "associative recall",
        base: PAIRS,
        variants: with(bases.pairs, variants),
    };
    // The task is small at any scale.
    match scale {
        Scale::Paper => vec![text],
        Scale::Smoke | Scale::Cpu => vec![text, pairs],
    }
}

/// Puts the ablation's changes before those of its variants.
fn with(all: &[&str], mut variants: Vec<Variant>) -> Vec<Variant> {
    for variant in &mut variants {
        let own = std::mem::take(&mut variant.sets);
        let all = all.iter().map(|&set| set.to_owned());
        variant.sets = all.chain(own).collect();
    }
    variants
}

/// A stack of LSH layers.
const TEXT: BaseTraining = BaseTraining {
    data: DataKind::Text,
    all: &[r#"model.reformer.layers=["Lsh"]"#],
    cpu: &[
        "steps=600",
        "window_length=512",
        "batch_size=4",
        "eval_windows=48",
        "model.reformer.lsh.n_rounds=4",
        "model.reformer.lsh.n_buckets=\"Auto\"",
        "model.reformer.lsh.chunk_length=32",
        "model.reformer.lsh.window={\"Bucket\":{\"len\":64}}",
    ],
    paper: &[
        "model.reformer.lsh.chunk_length=128",
        "model.reformer.lsh.window={\"Bucket\":{\"len\":256}}",
    ],
};
/// An LSH layer above a local one, which joins a key with its value. Two rounds whose windows hold an average
/// bucket do not find everything, so that improvements in finding are visible.
const PAIRS: BaseTraining = BaseTraining {
    data: DataKind::Pairs,
    all: &[],
    cpu: &[
        "steps=1500",
        "steps_per_epoch=250",
        "model.reformer.lsh.n_rounds=2",
        "model.reformer.lsh.n_buckets={\"Count\":8}",
        "model.reformer.lsh.chunk_length=8",
        "model.reformer.lsh.window={\"Bucket\":{\"len\":16}}",
    ],
    paper: &[],
};
