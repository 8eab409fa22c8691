#pragma once
#include "emu_half.h"
namespace nvcuda {
namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
} // namespace precision
template <class T> struct emu_elem {
    typedef T type;
};
template <> struct emu_elem<precision::tf32> {
    typedef float type;
};
// The first lane has the matrix; elements lie [rows][columns].
template <class Use, int M, int N, int K, class T, class L = void> struct fragment {
    static const int rows = std::is_same_v<Use, matrix_b> ? K : M,
                     cols = std::is_same_v<Use, matrix_a> ? K : N;
    static const int num_elements = rows * cols;
    typename emu_elem<T>::type x[rows * cols];
};
#ifdef EMU_STRICT
#define EMU_MEET
#else
#define EMU_MEET emu_ctx->sync_warp();
#endif
#define EMU_FIRST if (emu_ctx->cur->lane == 0)
template <class F, class V> inline void fill_fragment(F &f, V v) {
    EMU_FIRST for (auto &x : f.x) x = v;
}
inline void emu_aligned(const void *p, size_t n) {
    if ((size_t)p % n) {
        fprintf(stderr, "EMU: unaligned matrix\n");
        abort();
    }
}
template <class U, int M, int N, int K, class T, class L, class P>
inline void load_matrix_sync(fragment<U, M, N, K, T, L> &f, const P *p, unsigned ld) {
    EMU_MEET EMU_FIRST {
        emu_aligned(p, 32);
        emu_aligned((void *)(size_t)(ld * sizeof(P)), 16);
        for (int r = 0; r < f.rows; r++)
            for (int c = 0; c < f.cols; c++)
                f.x[r * f.cols + c] = p[std::is_same_v<L, row_major> ? r * ld + c : c * ld + r];
    }
}
template <int M, int N, int K, class T, class P>
inline void load_matrix_sync(fragment<accumulator, M, N, K, T> &f, const P *p, unsigned ld,
                             layout_t l) {
    EMU_MEET EMU_FIRST {
        emu_aligned(p, 32);
        for (int r = 0; r < M; r++)
            for (int c = 0; c < N; c++)
                f.x[r * N + c] = p[l == mem_row_major ? r * ld + c : c * ld + r];
    }
}
template <int M, int N, int K, class T, class P>
inline void store_matrix_sync(P *p, const fragment<accumulator, M, N, K, T> &f, unsigned ld,
                              layout_t l) {
    EMU_MEET EMU_FIRST {
        emu_aligned(p, 32);
        emu_aligned((void *)(size_t)(ld * sizeof(P)), 16);
        for (int r = 0; r < M; r++)
            for (int c = 0; c < N; c++)
                p[l == mem_row_major ? r * ld + c : c * ld + r] = f.x[r * N + c];
    }
    EMU_MEET
}
template <class D, class A, class B, class C>
inline void mma_sync(D &d, const A &a, const B &b, const C &c) {
    EMU_FIRST {
        float s[D::rows * D::cols];
        for (int i = 0; i < D::rows; i++)
            for (int j = 0; j < D::cols; j++) {
                float t = (float)c.x[i * D::cols + j];
                for (int k = 0; k < A::cols; k++)
                    t += (float)a.x[i * A::cols + k] * (float)b.x[k * B::cols + j];
                s[i * D::cols + j] = t;
            }
        for (int i = 0; i < D::rows * D::cols; i++) d.x[i] = s[i];
    }
}
} // namespace wmma
} // namespace nvcuda
