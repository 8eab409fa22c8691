#pragma once
#include "cuda_runtime.h"
struct __half {
    _Float16 v;
    __half() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    __half(T x) : v((_Float16)(float)x) {}
    operator float() const { return (float)v; }
    __half &operator+=(__half o) {
        *this = __half((float)*this + (float)o);
        return *this;
    }
    __half &operator-=(__half o) {
        *this = __half((float)*this - (float)o);
        return *this;
    }
    __half &operator*=(__half o) {
        *this = __half((float)*this * (float)o);
        return *this;
    }
    __half &operator/=(__half o) {
        *this = __half((float)*this / (float)o);
        return *this;
    }
};
struct __nv_bfloat16 {
    uint16_t b;
    __nv_bfloat16() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> __nv_bfloat16(T y) {
        float x = y;
        uint32_t u;
        memcpy(&u, &x, 4);
        if (x != x)
            b = 0x7fff;
        else
            b = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    }
    operator float() const {
        uint32_t u = (uint32_t)b << 16;
        float x;
        memcpy(&x, &u, 4);
        return x;
    }
    __nv_bfloat16 &operator+=(__nv_bfloat16 o) {
        *this = __nv_bfloat16((float)*this + (float)o);
        return *this;
    }
};
#define EMU_OPS(H)                                                                                 \
    inline H operator+(H a, H b) { return H((float)a + (float)b); }                                \
    inline H operator-(H a, H b) { return H((float)a - (float)b); }                                \
    inline H operator*(H a, H b) { return H((float)a * (float)b); }                                \
    inline H operator/(H a, H b) { return H((float)a / (float)b); }                                \
    inline H operator-(H a) { return H(-(float)a); }                                               \
    inline bool operator<(H a, H b) { return (float)a < (float)b; }                                \
    inline bool operator>(H a, H b) { return (float)a > (float)b; }                                \
    inline bool operator<=(H a, H b) { return (float)a <= (float)b; }                              \
    inline bool operator>=(H a, H b) { return (float)a >= (float)b; }                              \
    inline bool operator==(H a, H b) { return (float)a == (float)b; }                              \
    inline bool operator!=(H a, H b) { return (float)a != (float)b; }                              \
    inline H __hmax(H a, H b) { return a > b ? a : b; }                                            \
    inline H __hmin(H a, H b) { return a < b ? a : b; }                                            \
    inline H hexp(H a) { return H(std::exp((float)a)); }                                           \
    inline H hlog(H a) { return H(std::log((float)a)); }                                           \
    inline H hsqrt(H a) { return H(std::sqrt((float)a)); }                                         \
    inline H hrsqrt(H a) { return H(1 / std::sqrt((float)a)); }                                    \
    inline H hfloor(H a) { return H(std::floor((float)a)); }                                       \
    inline H hceil(H a) { return H(std::ceil((float)a)); }                                         \
    inline H htrunc(H a) { return H(std::trunc((float)a)); }                                       \
    inline H hrint(H a) { return H(std::rint((float)a)); }                                         \
    inline H hsin(H a) { return H(std::sin((float)a)); }                                           \
    inline H hcos(H a) { return H(std::cos((float)a)); }                                           \
    inline H __hfma(H a, H b, H c) { return H((float)a * (float)b + (float)c); }                   \
    inline H __habs(H a) { return H(std::fabs((float)a)); }                                        \
    inline H fma(H a, H b, H c) { return __hfma(a, b, c); }                                        \
    inline bool __hisnan(H a) { return a != a; }
EMU_OPS(__half) EMU_OPS(__nv_bfloat16) template <class H> struct __align__(4) emu_two {
    H x, y;
    emu_two() = default;
    emu_two(H a, H b) : x(a), y(b) {}
    emu_two(H a) : x(a), y(a) {}
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    emu_two(T a) : x(H(a)), y(H(a)) {}
};
typedef emu_two<__half> __half2;
typedef emu_two<__nv_bfloat16> __nv_bfloat162;
#define EMU_TWO(op)                                                                                \
    template <class H> inline emu_two<H> operator op(emu_two<H> a, emu_two<H> b) {                 \
        return {a.x op b.x, a.y op b.y};                                                           \
    }
EMU_TWO(+)
EMU_TWO(-) EMU_TWO(*) EMU_TWO(/) template <class H>
inline emu_two<H> operator-(emu_two<H> a) {
    return {-a.x, -a.y};
}
#define EMU_FN(f, g)                                                                               \
    template <class H> inline emu_two<H> f(emu_two<H> a) { return {g(a.x), g(a.y)}; }
EMU_FN(h2exp, hexp)
EMU_FN(h2log, hlog) EMU_FN(h2sqrt, hsqrt) EMU_FN(h2rsqrt, hrsqrt) EMU_FN(h2floor, hfloor)
    EMU_FN(h2ceil, hceil) EMU_FN(h2trunc, htrunc) EMU_FN(h2rint, hrint) EMU_FN(h2sin, hsin)
        EMU_FN(h2cos, hcos) EMU_FN(__habs2, __habs) template <class H>
        inline emu_two<H> __hmax2(emu_two<H> a, emu_two<H> b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
template <class H> inline emu_two<H> __hmin2(emu_two<H> a, emu_two<H> b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}
template <class H> inline emu_two<H> __hfma2(emu_two<H> a, emu_two<H> b, emu_two<H> c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return {a, b}; }
inline __half __float2half_rn(float a) { return __half(a); }
inline __nv_bfloat16 __float2bfloat16(float a) { return __nv_bfloat16(a); }
