#!/bin/sh
# Makes a folder with the driver: sh driver.sh FOLDER. Programs find it by LD_LIBRARY_PATH=FOLDER and
# CUDA_PATH=FOLDER/cuda; EMU_CACHE is where it keeps compiled kernels.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
g++ -std=c++17 -O2 -fPIC -shared -o "$1/libcuda.so" "$here/driver.cpp" -ldl -lpthread
ln -s libcuda.so "$1/libnvrtc.so"
mkdir "$1/cuda"
ln -s "$here/include" "$1/cuda/include"
