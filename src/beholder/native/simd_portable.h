// Sixteen numbers at a time in plain C++, for every processor; compilers make of it what they can.
#pragma once
#include <math.h>

#include <cstdint>

namespace {

struct F { float v[16]; };
struct I { int32_t v[16]; };
struct Bytes { uint8_t v[64]; };

constexpr int kMostRows = 2;  // that share a weight while it is in a register
constexpr int kFloatSums = 1;  // of one row's floats, side by side
constexpr int kMostFloatRows = 2;
constexpr int kMostHeads = 1;  // that share a key

template <class Make>
inline F each(Make make) {
    F y;
    for (int i = 0; i < 16; ++i) y.v[i] = make(i);
    return y;
}
inline F zero() { return each([](int) { return 0.0f; }); }
inline F all(float x) { return each([=](int) { return x; }); }
inline F load_some(const float* p, int count) {
    F y = zero();
    __builtin_memcpy(y.v, p, 4 * count);
    return y;
}
inline F load(const float* p) { return load_some(p, 16); }
inline void store(float* p, F x) { __builtin_memcpy(p, x.v, 64); }
inline F add(F x, F y) { return each([&](int i) { return x.v[i] + y.v[i]; }); }
inline F mul(F x, F y) { return each([&](int i) { return x.v[i] * y.v[i]; }); }
inline F fma(F x, F y, F z) { return each([&](int i) { return x.v[i] * y.v[i] + z.v[i]; }); }
inline F divide(F x, F y) { return each([&](int i) { return x.v[i] / y.v[i]; }); }
inline F smaller(F x, F y) { return each([&](int i) { return x.v[i] < y.v[i] ? x.v[i] : y.v[i]; }); }
inline F larger(F x, F y) { return each([&](int i) { return x.v[i] > y.v[i] ? x.v[i] : y.v[i]; }); }
inline F absolute(F x) { return each([&](int i) { return fabsf(x.v[i]); }); }
inline F nearest(F x) { return each([&](int i) { return nearbyintf(x.v[i]); }); }
inline F times_power_of_two(F x, F n) { return each([&](int i) { return ldexpf(x.v[i], int(n.v[i])); }); }
inline float sum(F x) {
    float total = 0;
    for (float each : x.v) total += each;
    return total;
}
inline float largest(F x) {
    float best = x.v[0];
    for (float each : x.v) best = each > best ? each : best;
    return best;
}
inline void store_sums(float* p, F a, F b, F c, F d) {  // the sum of each
    p[0] = sum(a), p[1] = sum(b), p[2] = sum(c), p[3] = sum(d);
}

inline float from_bits(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
inline F load_some_bf16(const uint16_t* p, int count) {
    return each([&](int i) { return i < count ? from_bits(uint32_t(p[i]) << 16) : 0.0f; });
}
inline F load_bf16(const uint16_t* p) { return load_some_bf16(p, 16); }
inline void store_bf16(uint16_t* p, F x) {
    for (int i = 0; i < 16; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, &x.v[i], 4);
        p[i] = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
}
inline float half(uint32_t h) {  // finite numbers alone: scales are
    const uint32_t sign = (h & 0x8000) << 16, rest = h & 0x7fff;
    return from_bits(sign | (rest << 13)) * from_bits(0x77800000);  // 2^112 moves the exponent; subnormals come right
}
inline F load_f16(const uint8_t* p) {
    return each([&](int i) { return half(p[2 * i] | uint32_t(p[2 * i + 1]) << 8); });
}

inline Bytes load_bytes(const uint8_t* p) {
    Bytes y;
    __builtin_memcpy(y.v, p, 64);
    return y;
}
inline Bytes low_halves(Bytes x) {
    for (uint8_t& each : x.v) each &= 15;
    return x;
}
inline Bytes high_halves(Bytes x) {
    for (uint8_t& each : x.v) each >>= 4;
    return x;
}
inline I whole(int32_t x) {
    I y;
    for (int32_t& each : y.v) each = x;
    return y;
}
inline F to_float(I x) { return each([&](int i) { return float(x.v[i]); }); }
inline void store_int8(int8_t* p, F x) {
    for (int i = 0; i < 16; ++i) p[i] = int8_t(nearbyintf(x.v[i]));
}

constexpr int32_t kByteZero = 128;  // what `dot_bytes` takes as the zero of weights
inline I dot_bytes(I sums, Bytes w, const int8_t* a) {
    for (int i = 0; i < 16; ++i) {
        for (int j = 0; j < 4; ++j) sums.v[i] += int32_t(w.v[4 * i + j]) * a[j];
    }
    return sums;
}
inline I dot_halves(I sums, Bytes w, const int8_t* a) { return dot_bytes(sums, w, a); }

// Of 16 bits: bytes of weights are taken as numbers from 0 on, which meet a[0], a[2], a[1], a[3].
inline I dot_bytes(I sums, Bytes w, const int16_t* a) {
    for (int i = 0; i < 16; ++i) {
        const uint8_t* four = w.v + 4 * i;
        sums.v[i] += four[0] * a[0] + four[2] * a[1] + four[1] * a[2] + four[3] * a[3];
    }
    return sums;
}
inline I dot_halves(I sums, Bytes w, const int16_t* a) { return dot_bytes(sums, w, a); }

using Ready = float;  // inputs of products with bf16 weights
inline void store_ready(Ready* p, F x) { store(p, x); }
inline F dot_pairs(F sums, Bytes w, const Ready* a) {
    uint16_t pairs[32];
    __builtin_memcpy(pairs, w.v, 64);
    return each([&](int i) {
        return sums.v[i] + from_bits(uint32_t(pairs[2 * i]) << 16) * a[0] + from_bits(uint32_t(pairs[2 * i + 1]) << 16) * a[1];
    });
}

}  // namespace
