#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
struct EmuDim {
    unsigned x, y, z;
};
struct EmuThread {
    EmuDim idx;
    int lane;
};
struct EmuWarp {
    unsigned long long slot[32];
    // Factors of a matrix product: four registers of the first one, two of the second one.
    unsigned factors[32][6];
};
struct EmuContext {
    EmuThread *cur;
    EmuDim block, dim, grid;
    unsigned char *shared;
    void (*sync_all)();
    void (*sync_warp)();
    void (*yield)();
    EmuWarp *(*warp)();
};
typedef EmuDim uint3;
typedef EmuDim dim3;
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
