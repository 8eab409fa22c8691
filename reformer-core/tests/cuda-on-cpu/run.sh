#!/bin/sh
# Runs the tests of the kernels for GPUs as CUDA on a CPU: sh run.sh [FILTER...]
#
# Needs g++ on x86-64. driver.cpp stands in for libcuda and NVRTC: it compiles the CUDA text of each kernel
# with g++ and carries blocks out as fibers, one for each unit, products of matrices included (`nvcuda::wmma`, and
# `mma.sync` and `ldmatrix` outside CubeCL's own products). It says that it is of compute capability 8.0
# (EMU_SM=70: 7.0, where attention has no tensor cores). Other PTX does not compile.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
sh "$here/driver.sh" "$made"
export LD_LIBRARY_PATH="$made" CUDA_PATH="$made/cuda" EMU_CACHE="$made/kernels"
# Beside `experiments`, so that Burn has the features that it has elsewhere.
cargo test --release --workspace --locked --features experiments/cuda --test cube -- "$@"
