#pragma once
// Matrices in registers: what `ldmatrix` and `mma.sync` of shape m16n8k16 do. driver.cpp puts calls of
// these where the text of a kernel has the instructions.
#include "emu_half.h"
inline size_t __cvta_generic_to_shared(const void *p) { return (size_t)p; }
template <class H> inline H emu_element(unsigned pair, int i) {
    H h;
    memcpy(&h, (char *)&pair + 2 * i, 2);
    return h;
}
// `n` matrices of eight rows by eight columns; lane 8 i + j has the address of row j of matrix i.
template <int n> inline void emu_ldmatrix(unsigned *(&to)[n], bool transposed, const void *row) {
    EmuWarp *w = emu_ctx->warp();
    int lane = emu_ctx->cur->lane;
    if ((size_t)row % 16) {
        fprintf(stderr, "EMU: unaligned row of a matrix\n");
        abort();
    }
    w->slot[lane] = (unsigned long long)row;
    emu_ctx->sync_warp();
    for (int i = 0; i < n; i++) {
        uint16_t pair[2];
        for (int j = 0; j < 2; j++) {
            int r = lane / 4, c = lane % 4 * 2 + j;
            if (transposed)
                std::swap(r, c);
            pair[j] = ((const uint16_t *)w->slot[8 * i + r])[c];
        }
        memcpy(to[i], pair, 4);
    }
    emu_ctx->sync_warp();
}
template <class H>
inline void emu_mma(const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
                    float *(&d)[4]) {
    EmuWarp *w = emu_ctx->warp();
    int lane = emu_ctx->cur->lane;
    memcpy(w->factors[lane], a, 16);
    memcpy(w->factors[lane] + 4, b, 8);
    emu_ctx->sync_warp();
    for (int i = 0; i < 4; i++) {
        int row = lane / 4, column = lane % 4 * 2 + i % 2, lower = i / 2;
        float sum = c[i];
        for (int k = 0; k < 16; k++) {
            int of_k = k % 8 / 2, right = k / 8;
            float x = emu_element<H>(w->factors[row * 4 + of_k][lower + 2 * right], k % 2);
            float y = emu_element<H>(w->factors[column * 4 + of_k][4 + right], k % 2);
            sum += x * y;
        }
        *d[i] = sum;
    }
    emu_ctx->sync_warp();
}
