#!/bin/sh
# Times training steps over length and kind of attention, one after another, and draws them.
# usage: sweep.sh [KIND:LENGTH ...]      (from the top of the repository, nothing else running)
set -eu
out=benchmarks/steps
cargo build --release -p experiments --bin bench_step --bin plot_steps
: > $out/steps.jsonl
for pair in "${@:-lsh:4096}"; do
    kind=${pair%%:*}
    length=${pair##*:}
    steps=5
    [ "$length" -ge 8192 ] && steps=3
    [ "$length" -ge 32768 ] && steps=1
    ./target/release/bench_step --attention "$kind" --length "$length" --steps $steps --json |
        tee -a $out/steps.jsonl
done
./target/release/plot_steps $out/steps.jsonl --svg $out/steps.svg | tee $out/steps.md
