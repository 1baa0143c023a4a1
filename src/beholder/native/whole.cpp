// Attention of whole sequences in bf16: prompts, and pictures in an encoder. Compiled for AVX-512 with products of bf16.
//
// q, k, v, y: (batch, heads, tokens, width), the width side by side, else with strides. Scores and sums are float32; weights
// of values are rounded to bf16. First keys and values are packed for all, then blocks of queries are answered.
#include "simd_avx512.h"

#include "linear.h"
#include "attention.h"
#include "whole.h"

#include <atomic>
#include <initializer_list>

namespace {

constexpr int kQueries = 8;    // of a block
constexpr int kKeysInPanel = 32;

struct Sizes {
    int64_t keys, channels, kept;  // padded: keys to panels, channels to 16; bytes of one head's keys or values

    explicit Sizes(const Whole& w)
        : keys(padded(w.keys, kKeysInPanel)), channels(padded(w.width, 16)), kept(2 * keys * channels) {}
};

inline const uint16_t* row(const uint16_t* x, const int64_t* strides, int64_t b, int64_t h, int64_t t) {
    return x + b * strides[0] + h * strides[1] + t * strides[2];
}

// Panels of 32 keys: for each two channels 32 pairs. Zeros beyond the last key and channel.
void pack_keys(const Whole& w, const Sizes& sizes, int64_t b, int64_t h, uint32_t* to) {
    const int64_t pairs = sizes.channels / 2, given = (w.width + 1) / 2;
    for (int64_t first = 0; first < sizes.keys; first += kKeysInPanel, to += kKeysInPanel * pairs) {
        for (int64_t i = 0; i < kKeysInPanel; ++i) {
            const int64_t key = first + i;
            const uint16_t* from = key < w.keys ? row(w.k, w.k_strides, b, h, key) : nullptr;
            for (int64_t pair = 0; pair < pairs; ++pair) {
                uint32_t two = 0;
                if (from != nullptr && pair < given) {
                    two = from[2 * pair];
                    if (2 * pair + 1 < w.width) two |= uint32_t(from[2 * pair + 1]) << 16;
                }
                to[pair * kKeysInPanel + i] = two;
            }
        }
    }
}

// For each two keys a pair of each channel.
void pack_values(const Whole& w, const Sizes& sizes, int64_t b, int64_t h, uint32_t* to) {
    for (int64_t key = 0; key < sizes.keys; key += 2, to += sizes.channels) {
        const uint16_t* even = key < w.keys ? row(w.v, w.v_strides, b, h, key) : nullptr;
        const uint16_t* odd = key + 1 < w.keys ? row(w.v, w.v_strides, b, h, key + 1) : nullptr;
        for (int64_t c = 0; c < sizes.channels; ++c) {
            const uint32_t low = even != nullptr && c < w.width ? even[c] : 0;
            const uint32_t high = odd != nullptr && c < w.width ? odd[c] : 0;
            to[c] = low | high << 16;
        }
    }
}

// Products of eight queries with one panel of keys. queries: rows of `channels` bf16.
void score(const uint16_t* queries, int64_t channels, const uint8_t* panel, float* scores, int64_t stride) {
    F sums[kQueries][2];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) sums[q][0] = sums[q][1] = zero();
    for (int64_t c = 0; c < channels; c += 2, panel += 128) {
        const Bytes low = load_bytes(panel), high = load_bytes(panel + 64);
#pragma GCC unroll 8
        for (int q = 0; q < kQueries; ++q) {
            sums[q][0] = dot_pairs(sums[q][0], low, queries + q * channels + c);
            sums[q][1] = dot_pairs(sums[q][1], high, queries + q * channels + c);
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
        store(scores + q * stride, sums[q][0]);
        store(scores + q * stride + 16, sums[q][1]);
    }
}

// 2^x for x <= 0, within 2.6e-6 of it: a polynomial fitted to 2^r for |r| <= 1/2, relative errors alike.
inline F power_of_two(F x) {
    const F n = nearest(x), r = _mm512_sub_ps(x, n);
    F y = fma(all(0.009570100344717503f), r, all(0.05591785907745361f));
    y = fma(y, r, all(0.240247443318367f));
    y = fma(y, r, all(0.6931217908859253f));
    return times_power_of_two(fma(y, r, all(0.9999992847442627f)), n);
}

// Products to weights in bf16, whose sum is given: e^(scale (score - largest)). first .. seen - 1: keys that count, the others
// weigh nothing.
float weigh(float* scores, int64_t first, int64_t seen, int64_t keys, float scale, uint16_t* weights) {
    const int64_t begin = first / 16 * 16;
    for (int64_t s = begin; s < first; ++s) scores[s] = -INFINITY;
    for (int64_t s = seen; s < padded(seen, 16); ++s) scores[s] = -INFINITY;
    F most = all(-INFINITY);
    for (int64_t s = begin; s < seen; s += 16) most = larger(most, load(scores + s));
    const float in_twos = scale * 1.44269504f;
    const F factor = all(in_twos), shift = all(-largest(most) * in_twos);
    F total = zero();
    int64_t s = 0;
    for (; s < begin; s += 16) store_ready(weights + s, zero());
    for (; s < seen; s += 16) {
        F x = power_of_two(fma(load(scores + s), factor, shift));
        if (s < first) x = _mm512_mask_mov_ps(x, first_lanes(int(first - s)), zero());
        if (s + 16 > seen) x = _mm512_maskz_mov_ps(first_lanes(int(seen - s)), x);
        store_ready(weights + s, x);
        total = add(total, x);
    }
    for (; s < keys; s += 16) store_ready(weights + s, zero());
    return sum(total);
}

// Four queries' weighted values of V times 16 channels from `c` on, (4, 16 V).
template <int V>
void gather(const uint16_t* weights, int64_t stride, int64_t keys, const uint8_t* values, int64_t channels, F (*y)[4]) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) y[q][v] = zero();
    }
    for (int64_t key = 0; key < keys; key += 2, values += 4 * channels) {
        Bytes pairs[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) pairs[v] = load_bytes(values + 64 * v);
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) y[q][v] = dot_pairs(y[q][v], pairs[v], weights + q * stride + key);
        }
    }
}

class Block {
public:
    Block(const Whole& w, const Sizes& sizes, uint8_t* own)
        : w(w), sizes(sizes),
          queries((uint16_t*)own),
          scores((float*)(own + 2 * kQueries * sizes.channels)),
          weights((uint16_t*)(scores + kQueries * sizes.keys)) {}

    static int64_t bytes(const Sizes& sizes) {
        return padded(2 * kQueries * sizes.channels + 6 * kQueries * sizes.keys, 64) + 64;
    }

    void answer(int64_t b, int64_t h, int64_t first) {
        const int64_t count = w.queries - first < kQueries ? w.queries - first : kQueries;
        for (int64_t q = 0; q < kQueries; ++q) {
            uint16_t* to = queries + q * sizes.channels;
            __builtin_memset(to, 0, 2 * sizes.channels);
            if (q < count) __builtin_memcpy(to, row(w.q, w.q_strides, b, h, first + q), 2 * w.width);
        }
        const int64_t shared = h / (w.heads / w.kv_heads);
        const uint8_t* kept = w.scratch + 2 * sizes.kept * (b * w.kv_heads + shared);
        const int64_t before = w.keys - w.queries + first + 1;  // keys up to the first query's own
        const int64_t last = w.causal ? before - 1 + count : w.keys;  // that any of them sees
        const int64_t begin = w.causal && before > w.window ? (before - w.window) / kKeysInPanel * kKeysInPanel : 0;
        kept += 2 * begin * sizes.channels;
        const int64_t keys = padded(last - begin, kKeysInPanel);
        for (int64_t key = 0; key < keys; key += kKeysInPanel) {
            score(queries, sizes.channels, kept + 2 * key * sizes.channels, scores + key, sizes.keys);
        }
        float totals[kQueries];
        for (int64_t q = 0; q < kQueries; ++q) {
            const int64_t seen = w.causal && q < count ? before + q : last;
            const int64_t from = w.causal && q < count && seen - w.window > begin ? seen - w.window - begin : 0;
            totals[q] = weigh(scores + q * sizes.keys, from, seen - begin, keys, w.scale, weights + q * sizes.keys);
        }
        for (int64_t four = 0; four < count; four += 4) {
            for (int64_t c = 0; c < sizes.channels; c += 64) put(b, h, first, four, count, c, keys, kept, totals);
        }
    }

private:
    void put(int64_t b, int64_t h, int64_t first, int64_t four, int64_t count, int64_t c, int64_t keys,
             const uint8_t* kept, const float* totals) {
        F y[4][4];
        const int64_t vectors = (sizes.channels - c) / 16 < 4 ? (sizes.channels - c) / 16 : 4;
        const uint16_t* from = weights + four * sizes.keys;
        const uint8_t* values = kept + sizes.kept + 4 * c;
        switch (vectors) {
            case 1: gather<1>(from, sizes.keys, keys, values, sizes.channels, y); break;
            case 2: gather<2>(from, sizes.keys, keys, values, sizes.channels, y); break;
            case 3: gather<3>(from, sizes.keys, keys, values, sizes.channels, y); break;
            default: gather<4>(from, sizes.keys, keys, values, sizes.channels, y);
        }
        for (int64_t q = four; q < four + 4 && q < count; ++q) {
            uint16_t* to = const_cast<uint16_t*>(row(w.y, w.y_strides, b, h, first + q));
            for (int64_t v = 0; v < vectors; ++v) {
                const F given = mul(y[q - four][v], all(1.0f / totals[q]));
                const int64_t at = c + 16 * v, left = w.width - at;
                const __m256i half = (__m256i)_mm512_cvtneps_pbh(given);
                if (left >= 16) {
                    _mm256_storeu_si256((__m256i*)(to + at), half);
                } else if (left > 0) {
                    _mm256_mask_storeu_epi16(to + at, first_lanes(int(left)), half);
                }
            }
        }
    }

    const Whole& w;
    const Sizes& sizes;
    uint16_t* queries;
    float* scores;
    uint16_t* weights;
};

struct Shared {
    const Whole& w;
    const Sizes& sizes;
    std::atomic<int64_t> next{0}, threads{0};
};

void pack_some(void* argument) {
    Shared& shared = *static_cast<Shared*>(argument);
    const Whole& w = shared.w;
    for (int64_t i; (i = shared.next.fetch_add(1)) < w.batch * w.kv_heads;) {
        uint8_t* kept = w.scratch + 2 * shared.sizes.kept * i;
        pack_keys(w, shared.sizes, i / w.kv_heads, i % w.kv_heads, (uint32_t*)kept);
        pack_values(w, shared.sizes, i / w.kv_heads, i % w.kv_heads, (uint32_t*)(kept + shared.sizes.kept));
    }
}

void answer_some(void* argument) {
    Shared& shared = *static_cast<Shared*>(argument);
    const Whole& w = shared.w;
    const int64_t blocks = (w.queries + kQueries - 1) / kQueries;
    const int64_t thread = shared.threads.fetch_add(1);
    uint8_t* own = w.scratch + 2 * shared.sizes.kept * w.batch * w.kv_heads + thread * Block::bytes(shared.sizes);
    Block block(w, shared.sizes, own);
    for (int64_t i; (i = shared.next.fetch_add(1)) < w.batch * w.heads * blocks;) {
        const int64_t head = i / blocks;  // neighbours share keys
        block.answer(head / w.heads, head % w.heads, (blocks - 1 - i % blocks) * kQueries);  // the longest first
    }
}

}  // namespace

int64_t whole_scratch(const Whole& w) {
    const Sizes sizes(w);
    return 2 * sizes.kept * w.batch * w.kv_heads + w.threads * Block::bytes(sizes) + 64;
}

void attend_whole(const Whole& w) {
    const Sizes sizes(w);
    for (void (*work)(void*) : {pack_some, answer_some}) {
        Shared shared{w, sizes};
        if (w.parallel != nullptr && w.threads > 1) {
            w.parallel(work, &shared, unsigned(w.threads), 0);
        } else {
            work(&shared);
        }
    }
}
