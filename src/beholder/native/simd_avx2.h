// Sixteen numbers at a time in two registers: AVX2 with FMA and F16C, and AVX-VNNI's products of bytes where compiled for.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

struct F { __m256 a, b; };       // 16 float32
struct I { __m256i a, b; };      // 16 int32
struct Bytes { __m256i a, b; };  // 64 bytes of weights

constexpr int kMostRows = 2;  // that share a weight while it is in a register
constexpr int kFloatSums = 1;  // of one row's floats, side by side
constexpr int kMostFloatRows = 2;
constexpr int kMostHeads = 1;  // that share a key

inline F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
inline F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline F divide(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F smaller(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F larger(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F absolute(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline F nearest(F x) {
    constexpr int how = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, how), _mm256_round_ps(x.b, how)};
}
inline __m256 power_of_two(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline F times_power_of_two(F x, F n) { return mul(x, {power_of_two(n.a), power_of_two(n.b)}); }
inline float sum(F x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
inline float largest(F x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}
inline void store_sums(float* p, F a, F b, F c, F d) {  // the sum of each
    const __m256 ab = _mm256_hadd_ps(_mm256_add_ps(a.a, a.b), _mm256_add_ps(b.a, b.b));
    const __m256 cd = _mm256_hadd_ps(_mm256_add_ps(c.a, c.b), _mm256_add_ps(d.a, d.b));
    const __m256 eight = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
}

inline __m256 from_bf16(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
inline F load_bf16(const uint16_t* p) {
    return {from_bf16(_mm_loadu_si128((const __m128i*)p)), from_bf16(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
inline __m256i rounded_to_bf16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
inline void store_bf16(uint16_t* p, F x) {
    const __m256i mixed = _mm256_packus_epi32(rounded_to_bf16(x.a), rounded_to_bf16(x.b));
    _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(mixed, 0xd8));
}
inline F load_f16(const uint8_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 16)))};
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

inline Bytes load_bytes(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline Bytes low_halves(Bytes x) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
inline Bytes high_halves(Bytes x) { return low_halves({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}); }
inline I whole(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline void store_int8(int8_t* p, F x) {
    const __m256i mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    const __m256i words = _mm256_permute4x64_epi64(mixed, 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i*)p, bytes);
}
inline __m256i four(const int8_t* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}

#ifdef __AVXVNNI__
constexpr int32_t kByteZero = 128;  // what `dot_bytes` takes as the zero of weights
inline I dot_bytes(I sums, Bytes w, const int8_t* a) {
    return {_mm256_dpbusd_avx_epi32(sums.a, w.a, four(a)), _mm256_dpbusd_avx_epi32(sums.b, w.b, four(a))};
}
inline I dot_halves(I sums, Bytes w, const int8_t* a) { return dot_bytes(sums, w, a); }
#else
constexpr int32_t kByteZero = 0;
inline __m256i pairs_to_fours(__m256i sums, __m256i pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline __m256i dot_signed(__m256i sums, __m256i w, __m256i x) {  // |w| a sgn(w): no sum of two leaves 16 bits
    const __m256i q = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return pairs_to_fours(sums, _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q)));
}
inline I dot_bytes(I sums, Bytes w, const int8_t* a) {
    return {dot_signed(sums.a, w.a, four(a)), dot_signed(sums.b, w.b, four(a))};
}
inline I dot_halves(I sums, Bytes w, const int8_t* a) {
    return {pairs_to_fours(sums.a, _mm256_maddubs_epi16(w.a, four(a))),
            pairs_to_fours(sums.b, _mm256_maddubs_epi16(w.b, four(a)))};
}
#endif

// Of 16 bits: bytes of weights are taken as numbers from 0 on, which meet a[0], a[2], a[1], a[3].
inline __m256i dot_shorts(__m256i sums, __m256i w, const int16_t* a) {
    const __m256i low = _mm256_and_si256(w, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(w, 8);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(low, four((const int8_t*)a)));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(high, four((const int8_t*)(a + 2))));
}
inline I dot_bytes(I sums, Bytes w, const int16_t* a) { return {dot_shorts(sums.a, w.a, a), dot_shorts(sums.b, w.b, a)}; }
inline I dot_halves(I sums, Bytes w, const int16_t* a) { return dot_bytes(sums, w, a); }

using Ready = float;  // inputs of products with bf16 weights
inline void store_ready(Ready* p, F x) { store(p, x); }
inline F dot_pairs(F sums, Bytes w, const Ready* a) {
    const __m256i high = _mm256_set1_epi32(int32_t(0xffff0000));
    const F even = {_mm256_castsi256_ps(_mm256_slli_epi32(w.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(w.b, 16))};
    const F odd = {_mm256_castsi256_ps(_mm256_and_si256(w.a, high)), _mm256_castsi256_ps(_mm256_and_si256(w.b, high))};
    return fma(odd, all(a[1]), fma(even, all(a[0]), sums));
}

}  // namespace
