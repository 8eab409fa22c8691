#pragma once
#include "emu.h"
static thread_local EmuContext *emu_ctx;
extern "C" __attribute__((visibility("default"))) void emu_bind(EmuContext *c) { emu_ctx = c; }
extern "C" __attribute__((visibility("default"))) void emu_invoke(void **p);
template <class... A, size_t... I>
inline void emu_call_(void (*f)(A...), void **p, std::index_sequence<I...>) {
    f(*(std::remove_cv_t<std::remove_reference_t<A>> *)p[I]...);
}
template <class... A> inline void emu_call(void (*f)(A...), void **p) {
    emu_call_(f, p, std::index_sequence_for<A...>());
}
#define __global__
#define __device__
// A block is carried out by one thread from its beginning to its end.
#define __shared__ static thread_local
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(n)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
#define threadIdx (emu_ctx->cur->idx)
#define blockIdx (emu_ctx->block)
#define blockDim (emu_ctx->dim)
#define gridDim (emu_ctx->grid)
#define warpSize 32
inline void __syncthreads() { emu_ctx->sync_all(); }
inline void __syncwarp(unsigned = -1) { emu_ctx->sync_warp(); }
inline void __threadfence() {}
template <class T> inline T emu_shuffle(T v, int from) {
    static_assert(sizeof(T) <= 8);
    EmuWarp *w = emu_ctx->warp();
    int me = emu_ctx->cur->lane;
    memcpy(&w->slot[me], &v, sizeof(T));
    emu_ctx->sync_warp();
    T out;
    memcpy(&out, &w->slot[from & 31], sizeof(T));
    emu_ctx->sync_warp();
    return out;
}
template <class T> inline T __shfl_sync(unsigned, T v, int from) { return emu_shuffle(v, from); }
template <class T> inline T __shfl_xor_sync(unsigned, T v, int x) {
    return emu_shuffle(v, emu_ctx->cur->lane ^ x);
}
template <class T> inline T __shfl_up_sync(unsigned, T v, int d) {
    int l = emu_ctx->cur->lane;
    return emu_shuffle(v, l >= d ? l - d : l);
}
template <class T> inline T __shfl_down_sync(unsigned, T v, int d) {
    int l = emu_ctx->cur->lane;
    return emu_shuffle(v, l + d < 32 ? l + d : l);
}
inline unsigned __ballot_sync(unsigned, bool b) {
    unsigned r = 0;
    EmuWarp *w = emu_ctx->warp();
    w->slot[emu_ctx->cur->lane] = b;
    emu_ctx->sync_warp();
    for (int i = 0; i < 32; i++) r |= (unsigned)(w->slot[i] & 1) << i;
    emu_ctx->sync_warp();
    return r;
}
inline bool __any_sync(unsigned m, bool b) { return __ballot_sync(m, b) != 0; }
inline bool __all_sync(unsigned m, bool b) { return __ballot_sync(m, b) == 0xffffffffu; }
inline unsigned __activemask() { return -1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline int __mulhi(int a, int b) { return (long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline unsigned __brev(unsigned a) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (a >> i & 1) << (31 - i);
    return r;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __tanhf(float x) { return std::tanh(x); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frsqrt_rn(float a) { return 1.0f / std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float rsqrt(float a) { return 1.0f / std::sqrt(a); }
using std::abs;
using std::ceil;
using std::cos;
using std::erf;
using std::exp;
using std::floor;
using std::fma;
using std::isinf;
using std::isnan;
using std::log;
using std::log1p;
using std::max;
using std::min;
using std::pow;
using std::rint;
using std::sin;
using std::sqrt;
using std::tanh;
using std::trunc;
inline unsigned max(unsigned a, int b) { return a > (unsigned)b ? a : b; }
inline unsigned min(unsigned a, int b) { return a < (unsigned)b ? a : b; }
template <class T> inline T atomicAdd(T *p, T v) {
    T old, nw;
    typedef std::conditional_t<sizeof(T) == 4, unsigned, unsigned long long> U;
    U o = *(volatile U *)p, n;
    do {
        memcpy(&old, &o, sizeof(T));
        nw = old + v;
        memcpy(&n, &nw, sizeof(T));
    } while (
        !__atomic_compare_exchange_n((U *)p, &o, n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return old;
}
template <class T> inline T atomicExch(T *p, T v) {
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}
