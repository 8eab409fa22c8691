#!/bin/sh
# Measures training steps on one GPU: ours, PyTorch's exact attention and reformer_pytorch.
#
#   sh run.sh BENCH_STEP OUTPUT.jsonl [cuda|wgpu]
#
# BENCH_STEP is a built binary; nothing is built or fetched here. Each line of the output is the
# result of one process. Whatever fails (no memory, no package) leaves a line that says so.
set -eu
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bench=$1 output=$2 device=${3:-cuda}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
written=$output.part
: > "$written"

note() {
    printf '%s\n' "$1" >> "$written"
}

# One JSON line of a program, or its last error.
measure() {
    name=$1
    shift
    echo "$name: $*" >&2
    if line=$("$@" 2> "$written.error"); then
        note "{\"name\": \"$name\", \"result\": $line}"
    else
        reason=$(tail -n 1 "$written.error" | tr -d '"\\' | tr '\t\n' '  ')
        note "{\"name\": \"$name\", \"error\": \"$reason\"}"
    fi
    rm -f "$written.error"
}

note "{\"name\": \"machine\", \"gpu\": \"$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -n 1 | tr -d '"\\')\"}"

# The step of the README's tables in f32, and one with twice the width and heads in bf16.
lsh="--attention lsh --window-kind bucket --local-round --always-hash"
for size in "small f32 256 4" "medium bf16 512 8"; do
    set -- $size
    model="--precision $2 --d-model $3 --n-heads $4 --d-ff $((4 * $3)) --steps 10"
    for length in 4096 16384 65536; do
        ours="$bench --device $device --json --length $length $model"
        measure "ours lsh $1 $length" $ours $lsh
        measure "ours local $1 $length" $ours --attention local
        measure "ours full $1 $length" $ours --attention full
        for peer in sdpa sdpa-checkpointed lucid; do
            measure "$peer $1 $length" "$python" "$here/peers.py" $peer --length $length $model
        done
    done
done

# The paper's model on 64K tokens: 12 layers, d_model 1024, d_ff 4096, 8 heads of 128.
large="--length 65536 --layers 12 --d-model 1024 --d-ff 4096 --n-heads 8 --steps 3"
for rounds in 1 4; do
    measure "ours lsh large, $rounds rounds" \
        "$bench" --device "$device" --json $large --d-head 128 --n-rounds $rounds --ff-chunk-length 4096
    measure "lucid large, $rounds rounds" "$python" "$here/peers.py" lucid $large --n-rounds $rounds
done
measure "sdpa-checkpointed large" "$python" "$here/peers.py" sdpa-checkpointed $large
mv "$written" "$output"
