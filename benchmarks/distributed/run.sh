#!/bin/sh
# Sums of gradients, whole steps and memory of 1, 2 and 4 processes on this machine, in turn.
# Usage: benchmarks/distributed/run.sh [OUT]; needs a build with --features experiments/mpi.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-benchmarks/distributed}
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 RAYON_NUM_THREADS=1
mpi="mpirun --quiet --oversubscribe --bind-to none"

: > "$out/sums.jsonl"
for n in 2 4; do
    $mpi -n $n "$target/examples/all_reduce" >> "$out/sums.jsonl"
done

# 6.4 million parameters; every process computes its rows of a batch of four.
: > "$out/steps.jsonl"
step() {
    name=$1 n=$2
    shift 2
    run="$work/$name"
    $mpi -n "$n" benchmarks/distributed/peak.sh "$work/$name" "$target/train_text" \
        --out "$work" --name "$name-run" --progress plain --preset small --d-model 512 --layers 2 \
        --length 256 --batch-size 4 --steps 6 --steps-per-epoch 6 --eval-windows 4 --sample-tokens 0 "$@" > /dev/null
    awk -F, -v name="$name" -v n="$n" -v peak="$(cat "$run".peak.* | sort -n | tr '\n' ' ' | sed 's/ $//; s/ /, /g')" '
        $3 == "train" { rows++; rate = $8; seconds[rows] = $NF }
        END { printf "{\"case\": \"%s\", \"processes\": %d, \"tokens_per_second\": %.0f, \"peak_mib\": [%s]}\n", name, n, rate, peak }
    ' "$work/$name-run/metrics.csv" >> "$out/steps.jsonl"
}
for n in 1 2 4; do
    step "whole-$n" $n
done
for n in 2 4; do
    step "sharded-$n" $n --shard-optimizer
    step "half-$n" $n --half-gradients
done
cat "$out/sums.jsonl" "$out/steps.jsonl"
