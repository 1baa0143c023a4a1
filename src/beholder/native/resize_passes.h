// One pass of resampling along the rows of a strip, and one along columns: portable, for AVX2 and for AVX-512 VNNI.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#define X86 1
#include <immintrin.h>
#else
#define X86 0
#endif

#define INLINE static INLINE_MEMBER
#define INLINE_MEMBER inline __attribute__((always_inline))

namespace {

using u8 = uint8_t;
typedef u8 u8x16 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

constexpr int BITS = 32 - 8 - 2;  // behind the point of a weight
constexpr int STRIP = 16;         // rows that go through the pass along rows together

enum Isa { PORTABLE, AVX2, VNNI, NUM_ISAS };

// The pixels that each output from `from` to `to` is a weighted sum of.
struct Axis {
    int from = 0, to = 0, longest = 0;  // longest: most pixels of a sum
    std::vector<int> first, count, start;
    std::vector<int32_t> weights;
    // For VNNI: groups of four pixels, each with three words of four signed digits, the lowest first.
    std::vector<int> group_first, groups, group_start;
    std::vector<uint32_t> digits;

    int begin() const { return first.front(); }
    int end() const { return first.back() + count.back(); }
    const int32_t* weights_of(int i) const { return &weights[start[i]]; }
};

struct Scratch {
    std::vector<u8> turned;
    u8* turned_at(size_t bytes) {  // aligned to 64 bytes
        if (turned.size() < bytes + 64) turned.resize(bytes + 64);
        return turned.data() + (64 - reinterpret_cast<uintptr_t>(turned.data()) % 64) % 64;
    }
};

// rows: STRIP pointers to RGB pixels. out: `live` pointers to axis.to - axis.from pixels each.
using AlongRows = void (*)(const u8* const* rows, int width, u8* const* out, int live, const Axis&, Scratch&);
// rows: axis.count[i] pointers to `bytes` values each.
using AlongColumns = void (*)(const u8* const* rows, int bytes, u8* out, const Axis&, int i);

#if defined(__clang__)
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, std::remove_cv_t<std::remove_reference_t<decltype(a)>>{__VA_ARGS__})
#endif

// The first, or last, eight bytes of both in turn.
INLINE u8x16 low_bytes(u8x16 a, u8x16 b) {
    return SHUFFLED(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE u8x16 high_bytes(u8x16 a, u8x16 b) {
    return SHUFFLED(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// The 16 x 16 bytes at columns `at` of the rows, turned: 16 bytes of one column after the other.
INLINE void turn(const u8* const* rows, size_t at, u8* out) {
    u8x16 a[16], b[16];
    for (int i = 0; i < 16; ++i) std::memcpy(&a[i], rows[i] + at, 16);
    for (int step = 0; step < 2; ++step) {
        for (int i = 0; i < 8; ++i) b[2 * i] = low_bytes(a[i], a[i + 8]), b[2 * i + 1] = high_bytes(a[i], a[i + 8]);
        for (int i = 0; i < 8; ++i) a[2 * i] = low_bytes(b[i], b[i + 8]), a[2 * i + 1] = high_bytes(b[i], b[i + 8]);
    }
    std::memcpy(out, a, 256);
}

// `turn`, where fewer than 16 columns are left.
INLINE void turn_last(const u8* const* rows, size_t at, size_t left, u8* out) {
    u8 copies[16][16] = {};
    const u8* pointers[16];
    for (int i = 0; i < 16; ++i) {
        std::memcpy(copies[i], rows[i] + at, left);
        pointers[i] = copies[i];
    }
    turn(pointers, 0, out);
}

// Turned results of up to 16 pixels back into the rows of the output.
INLINE void turn_back(const u8 (*results)[16], int pixels, u8* const* out, int live, size_t at) {
    const u8* columns[16];
    u8 rows[16][48];
    for (int part = 0; part < 3; ++part) {
        u8 turned[256];
        for (int i = 0; i < 16; ++i) columns[i] = results[16 * part + i];
        turn(columns, 0, turned);
        for (int i = 0; i < 16; ++i) std::memcpy(&rows[i][16 * part], turned + 16 * i, 16);
    }
    if (pixels == 16)
        for (int i = 0; i < live; ++i) std::memcpy(out[i] + at, rows[i], 48);
    else
        for (int i = 0; i < live; ++i) std::memcpy(out[i] + at, rows[i], size_t(pixels) * 3);
}

// Sixteen sums.
struct Sums {
    i32x4 words[4];

    INLINE_MEMBER Sums() {
        for (i32x4& some : words) some = i32x4{} + (1 << (BITS - 1));
    }
    INLINE_MEMBER void add(const u8* p, int32_t weight) {  // bytes become words as little-endian processors have them
        u8x16 bytes;
        std::memcpy(&bytes, p, 16);
        const u16x8 low = (u16x8)low_bytes(bytes, u8x16{}), high = (u16x8)high_bytes(bytes, u8x16{}), zero = {};
        words[0] += (i32x4)SHUFFLED(low, zero, 0, 8, 1, 9, 2, 10, 3, 11) * weight;
        words[1] += (i32x4)SHUFFLED(low, zero, 4, 12, 5, 13, 6, 14, 7, 15) * weight;
        words[2] += (i32x4)SHUFFLED(high, zero, 0, 8, 1, 9, 2, 10, 3, 11) * weight;
        words[3] += (i32x4)SHUFFLED(high, zero, 4, 12, 5, 13, 6, 14, 7, 15) * weight;
    }
    INLINE_MEMBER void store(u8* out) const {
        int32_t sums[16];
        std::memcpy(sums, words, 64);
        for (int i = 0; i < 16; ++i) out[i] = u8(std::clamp(sums[i] >> BITS, 0, 255));
    }
};

INLINE void along_rows(const u8* const* rows, u8* const* out, int live, const Axis& axis, Scratch& scratch) {
    const int begin = axis.begin(), bytes = (axis.end() - begin) * 3, size = axis.to - axis.from;
    u8* turned = scratch.turned_at((size_t(bytes) + 16) * 16);
    int at = 0;
    for (; at + 16 <= bytes; at += 16) turn(rows, size_t(begin) * 3 + at, turned + size_t(at) * 16);
    if (at < bytes) turn_last(rows, size_t(begin) * 3 + at, bytes - at, turned + size_t(at) * 16);
    u8 results[48][16] = {};
    for (int i = 0; i < size; ++i) {
        const u8* p = turned + size_t(axis.first[i] - begin) * 48;
        const int32_t* weights = axis.weights_of(i);
        Sums red, green, blue;
        for (int k = 0, count = axis.count[i]; k < count; ++k, p += 48) {
            red.add(p, weights[k]);
            green.add(p + 16, weights[k]);
            blue.add(p + 32, weights[k]);
        }
        u8(*result)[16] = results + i % 16 * 3;
        red.store(result[0]);
        green.store(result[1]);
        blue.store(result[2]);
        if (i % 16 == 15) turn_back(results, 16, out, live, size_t(i - 15) * 3);
    }
    if (size % 16) turn_back(results, size % 16, out, live, size_t(size - size % 16) * 3);
}

INLINE void along_columns(const u8* const* rows, int bytes, u8* out, const Axis& axis, int i) {
    const int32_t* weights = axis.weights_of(i);
    const int count = axis.count[i];
    int at = 0;
    for (; at + 32 <= bytes; at += 32) {
        Sums left, right;
        for (int k = 0; k < count; ++k) {
            left.add(rows[k] + at, weights[k]);
            right.add(rows[k] + at + 16, weights[k]);
        }
        left.store(out + at);
        right.store(out + at + 16);
    }
    for (; at < bytes; ++at) {
        int32_t sum = 1 << (BITS - 1);
        for (int k = 0; k < count; ++k) sum += rows[k][at] * weights[k];
        out[at] = u8(std::clamp(sum >> BITS, 0, 255));
    }
}

void rows_portable(const u8* const* rows, int, u8* const* out, int live, const Axis& axis, Scratch& scratch) {
    along_rows(rows, out, live, axis, scratch);
}

void columns_portable(const u8* const* rows, int bytes, u8* out, const Axis& axis, int i) {
    along_columns(rows, bytes, out, axis, i);
}

#if X86
__attribute__((target("avx2"))) void rows_avx2(
    const u8* const* rows, int, u8* const* out, int live, const Axis& axis, Scratch& scratch) {
    along_rows(rows, out, live, axis, scratch);
}

__attribute__((target("avx2"))) void columns_avx2(const u8* const* rows, int bytes, u8* out, const Axis& axis, int i) {
    along_columns(rows, bytes, out, axis, i);
}

#define VNNI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define VNNI_INLINE VNNI_TARGET static inline __attribute__((always_inline))

// Four pixels of sixteen rows, at pixel `x`: for each channel a vector of the four bytes of each row.
VNNI_INLINE void turn_pixels(const u8* const* rows, size_t x, __mmask16 mask, u8* out) {
    const __m512i apart = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    __m512i quads[4];
    for (int i = 0; i < 4; ++i) {
        __m512i z = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(mask, rows[i] + 3 * x));
        z = _mm512_inserti32x4(z, _mm_maskz_loadu_epi8(mask, rows[4 + i] + 3 * x), 1);
        z = _mm512_inserti32x4(z, _mm_maskz_loadu_epi8(mask, rows[8 + i] + 3 * x), 2);
        z = _mm512_inserti32x4(z, _mm_maskz_loadu_epi8(mask, rows[12 + i] + 3 * x), 3);
        quads[i] = _mm512_shuffle_epi8(z, apart);
    }
    const __m512i low = _mm512_unpacklo_epi32(quads[0], quads[1]), low2 = _mm512_unpacklo_epi32(quads[2], quads[3]);
    const __m512i high = _mm512_unpackhi_epi32(quads[0], quads[1]), high2 = _mm512_unpackhi_epi32(quads[2], quads[3]);
    _mm512_store_si512(out, _mm512_unpacklo_epi64(low, low2));
    _mm512_store_si512(out + 64, _mm512_unpackhi_epi64(low, low2));
    _mm512_store_si512(out + 128, _mm512_unpacklo_epi64(high, high2));
}

// The sum of the three digits' sums, rounded, of BITS more bits than the pixel.
VNNI_INLINE __m512i joined(__m512i low, __m512i middle, __m512i high) {
    const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high, 16), _mm512_slli_epi32(middle, 8));
    return _mm512_srai_epi32(_mm512_add_epi32(sum, low), BITS);
}

VNNI_INLINE void store_bytes(__m512i sums, u8* out) {
    const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(sums, _mm512_setzero_si512()));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
}

VNNI_TARGET void rows_vnni(
    const u8* const* rows, int width, u8* const* out, int live, const Axis& axis, Scratch& scratch) {
    const int begin = axis.begin() / 4, end = (axis.end() + 3) / 4, size = axis.to - axis.from;
    u8* turned = scratch.turned_at(size_t(end - begin) * 192);
    for (int group = begin; group < end; ++group) {
        const int pixels = std::min(width - 4 * group, 4);
        turn_pixels(rows, size_t(group) * 4, __mmask16((1 << (3 * pixels)) - 1), turned + size_t(group - begin) * 192);
    }
    const __m512i half = _mm512_set1_epi32(1 << (BITS - 1)), zero = _mm512_setzero_si512();
    u8 results[48][16] = {};
    for (int i = 0; i < size; ++i) {
        const u8* p = turned + size_t(axis.group_first[i] / 4 - begin) * 192;
        const uint32_t* digits = &axis.digits[axis.group_start[i]];
        __m512i r0 = half, r1 = zero, r2 = zero, g0 = half, g1 = zero, g2 = zero, b0 = half, b1 = zero, b2 = zero;
        for (int k = axis.groups[i]; k > 0; --k, p += 192, digits += 3) {
            const __m512i r = _mm512_load_si512(p), g = _mm512_load_si512(p + 64), b = _mm512_load_si512(p + 128);
            const __m512i low = _mm512_set1_epi32(int(digits[0]));
            const __m512i middle = _mm512_set1_epi32(int(digits[1])), high = _mm512_set1_epi32(int(digits[2]));
            r0 = _mm512_dpbusd_epi32(r0, r, low);
            r1 = _mm512_dpbusd_epi32(r1, r, middle);
            r2 = _mm512_dpbusd_epi32(r2, r, high);
            g0 = _mm512_dpbusd_epi32(g0, g, low);
            g1 = _mm512_dpbusd_epi32(g1, g, middle);
            g2 = _mm512_dpbusd_epi32(g2, g, high);
            b0 = _mm512_dpbusd_epi32(b0, b, low);
            b1 = _mm512_dpbusd_epi32(b1, b, middle);
            b2 = _mm512_dpbusd_epi32(b2, b, high);
        }
        u8(*result)[16] = results + i % 16 * 3;
        store_bytes(joined(r0, r1, r2), result[0]);
        store_bytes(joined(g0, g1, g2), result[1]);
        store_bytes(joined(b0, b1, b2), result[2]);
        if (i % 16 == 15) turn_back(results, 16, out, live, size_t(i - 15) * 3);
    }
    if (size % 16) turn_back(results, size % 16, out, live, size_t(size - size % 16) * 3);
}

VNNI_TARGET void columns_vnni(const u8* const* rows, int bytes, u8* out, const Axis& axis, int i) {
    const __m512i half = _mm512_set1_epi32(1 << (BITS - 1)), zero = _mm512_setzero_si512();
    const int last = axis.count[i] - 1;
    for (int at = 0; at < bytes; at += 64) {
        const __mmask64 mask = bytes - at >= 64 ? ~__mmask64(0) : (__mmask64(1) << (bytes - at)) - 1;
        const uint32_t* digits = &axis.digits[axis.group_start[i]];
        __m512i low[4], middle[4], high[4];
        for (int j = 0; j < 4; ++j) low[j] = half, middle[j] = high[j] = zero;
        for (int k = 0; k <= last; k += 4, digits += 3) {
            const __m512i a = _mm512_maskz_loadu_epi8(mask, rows[k] + at);
            const __m512i b = _mm512_maskz_loadu_epi8(mask, rows[std::min(k + 1, last)] + at);
            const __m512i c = _mm512_maskz_loadu_epi8(mask, rows[std::min(k + 2, last)] + at);
            const __m512i d = _mm512_maskz_loadu_epi8(mask, rows[std::min(k + 3, last)] + at);
            const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
            const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
            const __m512i four[4] = {
                _mm512_unpacklo_epi16(ab_low, cd_low), _mm512_unpackhi_epi16(ab_low, cd_low),
                _mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high)};
            const __m512i digit0 = _mm512_set1_epi32(int(digits[0]));
            const __m512i digit1 = _mm512_set1_epi32(int(digits[1])), digit2 = _mm512_set1_epi32(int(digits[2]));
            for (int j = 0; j < 4; ++j) {
                low[j] = _mm512_dpbusd_epi32(low[j], four[j], digit0);
                middle[j] = _mm512_dpbusd_epi32(middle[j], four[j], digit1);
                high[j] = _mm512_dpbusd_epi32(high[j], four[j], digit2);
            }
        }
        __m512i sums[4];
        for (int j = 0; j < 4; ++j) sums[j] = joined(low[j], middle[j], high[j]);
        const __m512i words = _mm512_packs_epi32(sums[0], sums[1]), words2 = _mm512_packs_epi32(sums[2], sums[3]);
        _mm512_mask_storeu_epi8(out + at, mask, _mm512_packus_epi16(words, words2));
    }
}
#endif

struct Passes {
    AlongRows rows;
    AlongColumns columns;
};

#if X86
constexpr Passes PASSES[NUM_ISAS] = {
    {rows_portable, columns_portable}, {rows_avx2, columns_avx2}, {rows_vnni, columns_vnni}};
#else
constexpr Passes PASSES[NUM_ISAS] = {{rows_portable, columns_portable}};
#endif

int best_isa() {
#if X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return VNNI;
    if (__builtin_cpu_supports("avx2")) return AVX2;
#endif
    return PORTABLE;
}

}  // namespace
