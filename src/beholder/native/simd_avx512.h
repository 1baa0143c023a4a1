// Sixteen numbers at a time: AVX-512 (F, BW, DQ, VL), with its products of bytes (VNNI) and of bfloat16 where compiled for.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

using F = __m512;      // 16 float32
using I = __m512i;     // 16 int32
using Bytes = __m512i; // 64 bytes of weights

constexpr int kMostRows = 8;  // that share a weight while it is in a register
constexpr int kFloatSums = 2;  // of one row's floats, side by side
constexpr int kMostFloatRows = 6;
constexpr int kMostHeads = 4;  // that share a key

inline F zero() { return _mm512_setzero_ps(); }
inline F all(float x) { return _mm512_set1_ps(x); }
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F x) { _mm512_storeu_ps(p, x); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F divide(F a, F b) {  // within two units in the last place; 0 where b is beyond 2^126
    const F guess = _mm512_rcp14_ps(b);
    return mul(a, mul(guess, _mm512_fnmadd_ps(b, guess, all(2.0f))));
}
inline F smaller(F a, F b) { return _mm512_min_ps(a, b); }
inline F larger(F a, F b) { return _mm512_max_ps(a, b); }
inline F absolute(F x) { return _mm512_abs_ps(x); }
inline F nearest(F x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F times_power_of_two(F x, F n) { return _mm512_scalef_ps(x, n); }
inline float sum(F x) { return _mm512_reduce_add_ps(x); }
inline float largest(F x) { return _mm512_reduce_max_ps(x); }
inline void store_sums(float* p, F a, F b, F c, F d) {  // the sum of each
    const F ab = add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const F cd = add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const F abcd = add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
}

inline F from_bf16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
inline F load_bf16(const uint16_t* p) { return from_bf16(_mm256_loadu_si256((const __m256i*)p)); }
#ifdef __AVX512BF16__
inline void store_bf16(uint16_t* p, F x) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh(x)); }
#else
inline void store_bf16(uint16_t* p, F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
#endif
inline F load_f16(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline __mmask16 first_lanes(int count) { return __mmask16((1u << count) - 1); }
inline F load_some(const float* p, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
inline F load_some_bf16(const uint16_t* p, int count) {
    return from_bf16(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}

inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes low_halves(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Bytes high_halves(Bytes x) { return low_halves(_mm512_srli_epi16(x, 4)); }
inline I whole(int32_t x) { return _mm512_set1_epi32(x); }
inline F to_float(I x) { return _mm512_cvtepi32_ps(x); }
inline void store_int8(int8_t* p, F x) {
    _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
inline int32_t four(const int8_t* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return x;
}

#ifdef __AVX512VNNI__
constexpr int32_t kByteZero = 128;  // what `dot_bytes` takes as the zero of weights
inline I dot_bytes(I sums, Bytes w, const int8_t* a) { return _mm512_dpbusd_epi32(sums, w, whole(four(a))); }
inline I dot_halves(I sums, Bytes w, const int8_t* a) { return dot_bytes(sums, w, a); }
#else
constexpr int32_t kByteZero = 0;
inline I pairs_to_fours(I sums, __m512i pairs) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
inline I dot_bytes(I sums, Bytes w, const int8_t* a) {  // |w| a sgn(w): no sum of two leaves 16 bits
    const __m512i x = whole(four(a)), q = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    const __m512i turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(q), _mm512_setzero_si512(), x);
    return pairs_to_fours(sums, _mm512_maddubs_epi16(_mm512_abs_epi8(q), turned));
}
inline I dot_halves(I sums, Bytes w, const int8_t* a) {
    return pairs_to_fours(sums, _mm512_maddubs_epi16(w, whole(four(a))));
}
#endif

// Of 16 bits: bytes of weights are taken as numbers from 0 on, which meet a[0], a[2], a[1], a[3].
inline I dot_shorts(I sums, __m512i w, const int16_t* a) {
    const __m512i x = whole(four((const int8_t*)a));
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(sums, w, x);
#else
    return _mm512_add_epi32(sums, _mm512_madd_epi16(w, x));
#endif
}
inline I dot_bytes(I sums, Bytes w, const int16_t* a) {
    sums = dot_shorts(sums, _mm512_and_si512(w, _mm512_set1_epi16(255)), a);
    return dot_shorts(sums, _mm512_srli_epi16(w, 8), a + 2);
}
inline I dot_halves(I sums, Bytes w, const int16_t* a) { return dot_bytes(sums, w, a); }

#ifdef __AVX512BF16__
using Ready = uint16_t;  // inputs of products with bf16 weights
inline void store_ready(Ready* p, F x) { store_bf16(p, x); }
inline F dot_pairs(F sums, Bytes w, const Ready* a) {
    int32_t pair;
    __builtin_memcpy(&pair, a, 4);
    return _mm512_dpbf16_ps(sums, (__m512bh)w, (__m512bh)whole(pair));
}
#else
using Ready = float;
inline void store_ready(Ready* p, F x) { store(p, x); }
inline F dot_pairs(F sums, Bytes w, const Ready* a) {
    const F even = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    const F odd = _mm512_castsi512_ps(_mm512_and_si512(w, whole(int32_t(0xffff0000))));
    return fma(odd, all(a[1]), fma(even, all(a[0]), sums));
}
#endif

}  // namespace
