// Sixteen numbers at a time in four registers: NEON of aarch64, with its products of bytes where compiled for.
#pragma once
#include <arm_neon.h>

#include <cstdint>

namespace {

struct F { float32x4_t v[4]; };
struct I { int32x4_t v[4]; };
struct Bytes { uint8x16_t v[4]; };

constexpr int kMostRows = 2;  // that share a weight while it is in a register
constexpr int kFloatSums = 1;  // of one row's floats, side by side
constexpr int kMostFloatRows = 2;
constexpr int kMostHeads = 1;  // that share a key

template <class Y, class Make>
inline Y each(Make make) {
    return {{make(0), make(1), make(2), make(3)}};
}
inline F all(float x) { return each<F>([=](int) { return vdupq_n_f32(x); }); }
inline F zero() { return all(0.0f); }
inline F load(const float* p) { return each<F>([=](int i) { return vld1q_f32(p + 4 * i); }); }
inline void store(float* p, F x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
inline F add(F x, F y) { return each<F>([&](int i) { return vaddq_f32(x.v[i], y.v[i]); }); }
inline F mul(F x, F y) { return each<F>([&](int i) { return vmulq_f32(x.v[i], y.v[i]); }); }
inline F fma(F x, F y, F z) { return each<F>([&](int i) { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); }); }
inline F divide(F x, F y) { return each<F>([&](int i) { return vdivq_f32(x.v[i], y.v[i]); }); }
inline F smaller(F x, F y) { return each<F>([&](int i) { return vminq_f32(x.v[i], y.v[i]); }); }
inline F larger(F x, F y) { return each<F>([&](int i) { return vmaxq_f32(x.v[i], y.v[i]); }); }
inline F absolute(F x) { return each<F>([&](int i) { return vabsq_f32(x.v[i]); }); }
inline F nearest(F x) { return each<F>([&](int i) { return vrndnq_f32(x.v[i]); }); }
inline F times_power_of_two(F x, F n) {
    return each<F>([&](int i) {
        const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n.v[i]), vdupq_n_s32(127));
        return vmulq_f32(x.v[i], vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
    });
}
inline float sum(F x) { return vaddvq_f32(vaddq_f32(vaddq_f32(x.v[0], x.v[1]), vaddq_f32(x.v[2], x.v[3]))); }
inline float largest(F x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[1]), vmaxq_f32(x.v[2], x.v[3]))); }
inline void store_sums(float* p, F a, F b, F c, F d) {  // the sum of each
    p[0] = sum(a), p[1] = sum(b), p[2] = sum(c), p[3] = sum(d);
}

inline F load_bf16(const uint16_t* p) {
    return each<F>([=](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
inline void store_bf16(uint16_t* p, F x) {
    for (int i = 0; i < 4; ++i) {
        const uint32x4_t bits = vreinterpretq_u32_f32(x.v[i]);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        vst1_u16(p + 4 * i, vshrn_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16));
    }
}
inline F load_f16(const uint8_t* p) {
    return each<F>([=](int i) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i))); });
}
inline F load_some(const float* p, int count) {
    float room[16] = {};
    __builtin_memcpy(room, p, 4 * count);
    return load(room);
}
inline F load_some_bf16(const uint16_t* p, int count) {
    uint16_t room[16] = {};
    __builtin_memcpy(room, p, 2 * count);
    return load_bf16(room);
}

inline Bytes load_bytes(const uint8_t* p) { return each<Bytes>([=](int i) { return vld1q_u8(p + 16 * i); }); }
inline Bytes low_halves(Bytes x) { return each<Bytes>([&](int i) { return vandq_u8(x.v[i], vdupq_n_u8(15)); }); }
inline Bytes high_halves(Bytes x) { return each<Bytes>([&](int i) { return vshrq_n_u8(x.v[i], 4); }); }
inline I whole(int32_t x) { return each<I>([=](int) { return vdupq_n_s32(x); }); }
inline F to_float(I x) { return each<F>([&](int i) { return vcvtq_f32_s32(x.v[i]); }); }
inline void store_int8(int8_t* p, F x) {
    const auto words = [&](int i) {
        return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(x.v[i])), vqmovn_s32(vcvtnq_s32_f32(x.v[i + 1])));
    };
    vst1q_s8(p, vcombine_s8(vqmovn_s16(words(0)), vqmovn_s16(words(2))));
}

inline int8x16_t four(const int8_t* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}
inline int32x4_t dot_signed(int32x4_t sums, int8x16_t w, int8x16_t x) {
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sums, w, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    return vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
constexpr int32_t kByteZero = 0;  // what `dot_bytes` takes as the zero of weights
inline I dot_bytes(I sums, Bytes w, const int8_t* a) {
    const uint8x16_t sign = vdupq_n_u8(128);
    return each<I>([&](int i) {
        return dot_signed(sums.v[i], vreinterpretq_s8_u8(veorq_u8(w.v[i], sign)), four(a));
    });
}
inline I dot_halves(I sums, Bytes w, const int8_t* a) {
    return each<I>([&](int i) { return dot_signed(sums.v[i], vreinterpretq_s8_u8(w.v[i]), four(a)); });
}

// Of 16 bits: bytes of weights are taken as numbers from 0 on, which meet a[0], a[2], a[1], a[3].
inline int32x4_t dot_shorts(int32x4_t sums, uint16x8_t w, const int16_t* a) {
    const int16x8_t x = vreinterpretq_s16_s8(four((const int8_t*)a)), q = vreinterpretq_s16_u16(w);
    return vaddq_s32(sums, vpaddq_s32(vmull_s16(vget_low_s16(q), vget_low_s16(x)), vmull_high_s16(q, x)));
}
inline I dot_bytes(I sums, Bytes w, const int16_t* a) {
    return each<I>([&](int i) {
        const uint16x8_t pairs = vreinterpretq_u16_u8(w.v[i]);
        return dot_shorts(dot_shorts(sums.v[i], vandq_u16(pairs, vdupq_n_u16(255)), a), vshrq_n_u16(pairs, 8), a + 2);
    });
}
inline I dot_halves(I sums, Bytes w, const int16_t* a) { return dot_bytes(sums, w, a); }

using Ready = float;  // inputs of products with bf16 weights
inline void store_ready(Ready* p, F x) { store(p, x); }
inline F dot_pairs(F sums, Bytes w, const Ready* a) {
    return each<F>([&](int i) {
        const uint32x4_t pairs = vreinterpretq_u32_u8(w.v[i]);
        const float32x4_t even = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
        const float32x4_t odd = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000)));
        return vfmaq_n_f32(vfmaq_n_f32(sums.v[i], even, a[0]), odd, a[1]);
    });
}

}  // namespace
