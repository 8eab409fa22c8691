#!/bin/sh
# Counts launches, bytes, copies and memory of a training step on a GPU, without one:
#
#   sh benchmarks/gpu/dry/run.sh OUTPUT [NAME=VALUE...]
#
# Needs g++ and python3. Settings are those of reformer-core/examples/dry.rs, and DRY_MEM (80): the memory of
# the card in GiB. OUTPUT becomes a folder with the CUDA text of every kernel and the logs; counts go to the
# standard output. What cannot be had is said, and counts as success.
set -eu
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
output=$1
shift
for tool in g++ python3 cargo; do
    command -v $tool > /dev/null || { echo "SKIPPED: there is no $tool, so nothing is counted" >&2; exit 0; }
done
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$output/driver/cuda/include" "$output/one" "$output/two"
output=$(cd "$output" && pwd)
rm -f "$output"/one/* "$output"/two/*
driver=$output/driver
g++ -std=c++17 -O2 -fPIC -shared -o "$driver/libcuda.so" "$here/driver.cpp"
ln -sf libcuda.so "$driver/libnvrtc.so"
cd "$here/../../.."
# With all members, so that Burn has the features that it has elsewhere. DRY_PROGRAM is one that is built.
if [ -z "${DRY_PROGRAM:-}" ]; then
    cargo build --release --workspace --features experiments/wgpu,reformer-core/cuda --example dry
    DRY_PROGRAM=${CARGO_TARGET_DIR:-target}/release/examples/dry
fi
for run in one=1 two=2; do
    env "$@" DEPTH=${run#*=} DRY_OUT="$output/${run%=*}" LD_LIBRARY_PATH="$driver" CUDA_PATH="$driver/cuda" \
        "$DRY_PROGRAM" 2> "$output/${run%=*}/errors" || { cat "$output/${run%=*}/errors" >&2; exit 1; }
done
python3 "$here/count.py" "$output/one" "$output/two" --kernels
