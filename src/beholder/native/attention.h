// One token's attention to the cache, for some of its heads, with its own key and value. Included after a simd header.
#pragma once
#include <math.h>

#include "abi.h"
#include "numbers.h"

namespace {

constexpr int kKeys = 64;           // that are looked at together
constexpr int kMostChannels = 512;  // of a head

// x to what the cache keeps of it, in the type of the cache and as float32.
inline void keep(float* x, uint16_t* kept, int channels) {
    for (int c = 0; c < channels; c += 16) {
        store_bf16(kept + c, load(x + c));
        store(x + c, load_bf16(kept + c));
    }
}
inline void keep(float* x, float* kept, int channels) {
    for (int c = 0; c < channels; c += 16) store(kept + c, load(x + c));
}

void normed(float* x, const float* weights, int width, float eps) {
    float squares = 0;
    for (int i = 0; i < width; ++i) squares += x[i] * x[i];
    const float scale = 1.0f / sqrtf(squares / float(width) + eps);
    for (int i = 0; i < width; ++i) x[i] *= scale * weights[i];
}

void turn(float* x, const float* cos, const float* sin, int width, bool adjacent) {
    if (adjacent) {
        for (int a = 0; a + 1 < width; a += 2) {
            const float first = x[a], second = x[a + 1];
            x[a] = first * cos[a] - second * sin[a];
            x[a + 1] = second * cos[a + 1] + first * sin[a + 1];
        }
        return;
    }
    const int half = width / 2;
    float old[kMostChannels];
    __builtin_memcpy(old, x, 4 * width);
    for (int a = 0; a < half; ++a) x[a] = old[a] * cos[a] - old[a + half] * sin[a];
    for (int b = half; b < 2 * half; ++b) x[b] = old[b] * cos[b] + old[b - half] * sin[b];
}

// What attention has gathered of some heads: the largest score, the sum of weights, and the weighted values.
struct Gathered {
    float most[kMostHeads], total[kMostHeads];
    alignas(64) float values[kMostHeads][kMostChannels];
};

// Asks for what is needed soon, a little at a time: the processor's own foresight ends with each head's keys.
template <class T>
inline void ask_for_rows(const T* rows, int count, int width) {
    const int64_t bytes = int64_t(count) * width * int64_t(sizeof(T));
    for (int64_t i = 0; i < bytes; i += 64) ask_for((const uint8_t*)rows + i);
}

// The products of G queries with `count` keys, four keys at a time; meanwhile the values are asked for.
template <int G, class T>
void score_block(const float (*q)[kMostChannels], const T* keys, const T* values, int count, int width,
                 float (*scores)[kKeys]) {
    const int whole_width = width / 16 * 16, rest = width - whole_width;
    for (int s = 0; s < count; s += 4) {
        ask_for_rows(values + int64_t(s) * width, 4, width);
        F dots[G][4];
        const T* key[4];
        for (int i = 0; i < 4; ++i) {
            key[i] = keys + int64_t(s + i < count ? s + i : count - 1) * width;
            UNROLLED for (int h = 0; h < G; ++h) dots[h][i] = zero();
        }
        for (int c = 0; c < whole_width; c += 16) {
            UNROLLED for (int i = 0; i < 4; ++i) {
                const F k = read(key[i] + c);
                UNROLLED for (int h = 0; h < G; ++h) dots[h][i] = fma(load(q[h] + c), k, dots[h][i]);
            }
        }
        if (rest > 0) {
            UNROLLED for (int i = 0; i < 4; ++i) {
                const F k = read_some(key[i] + whole_width, rest);
                UNROLLED for (int h = 0; h < G; ++h) dots[h][i] = fma(load(q[h] + whole_width), k, dots[h][i]);
            }
        }
        UNROLLED for (int h = 0; h < G; ++h) {
            store_sums(scores[h] + s, dots[h][0], dots[h][1], dots[h][2], dots[h][3]);
        }
    }
}

// Scores to weights, relative to the largest score so far: what was gathered under a smaller one shrinks.
void weigh_block(float* scores, int count, int width, float* values, float& most_so_far, float& total_so_far) {
    for (int s = count; s < kKeys; ++s) scores[s] = -INFINITY;
    F most = load(scores);
    for (int s = 16; s < kKeys; s += 16) most = larger(most, load(scores + s));
    const float now = largest(most);
    if (now > most_so_far) {
        const float shrink = expf(most_so_far - now);
        for (int c = 0; c < width; c += 16) store(values + c, mul(load(values + c), all(shrink)));
        total_so_far *= shrink;
        most_so_far = now;
    }
    for (int s = 0; s < kKeys; s += 16) store(scores + s, exponential(add(load(scores + s), all(-most_so_far))));
    for (int s = count; s < kKeys; ++s) scores[s] = 0.0f;
    F total = zero();
    for (int s = 0; s < kKeys; s += 16) total = add(total, load(scores + s));
    total_so_far += sum(total);
}

// C times 16 channels of the values, weighted, for G heads; `some` of the last 16 where they are no whole ones. next: what is
// asked for meanwhile, or null.
template <int G, int C, class T>
void add_values(const float (*weights)[kKeys], const T* values, const T* next, int count, int width, int some,
                float (*y)[kMostChannels]) {
    F gathered[G][C];
    UNROLLED for (int h = 0; h < G; ++h) {
        UNROLLED for (int c = 0; c < C; ++c) gathered[h][c] = load(y[h] + 16 * c);
    }
    for (int s = 0; s < count; ++s) {
        if (next != nullptr) ask_for_rows(next + int64_t(s) * width, 1, 16 * C);
        F v[C];
        UNROLLED for (int c = 0; c < C; ++c) {
            const T* p = values + int64_t(s) * width + 16 * c;
            v[c] = some == 16 ? read(p) : read_some(p, some);
        }
        UNROLLED for (int h = 0; h < G; ++h) {
            const F weight = all(weights[h][s]);
            UNROLLED for (int c = 0; c < C; ++c) gathered[h][c] = fma(weight, v[c], gathered[h][c]);
        }
    }
    UNROLLED for (int h = 0; h < G; ++h) {
        UNROLLED for (int c = 0; c < C; ++c) store(y[h] + 16 * c, gathered[h][c]);
    }
}

// What a block of keys gives to G heads. next: the keys that come after these, or null.
template <int G, class T>
void gather_block(const float (*q)[kMostChannels], const T* keys, const T* values, const T* next, int count, int width,
                  Gathered& g) {
    constexpr int kChunks = 4;
    alignas(64) float weights[G][kKeys];
    score_block<G>(q, keys, values, count, width, weights);
    for (int h = 0; h < G; ++h) weigh_block(weights[h], count, width, g.values[h], g.most[h], g.total[h]);
    for (int c = 0; c < width;) {
        auto* y = (float(*)[kMostChannels])(g.values[0] + c);
        const T* soon = next == nullptr ? nullptr : next + c;
        if (c + 16 * kChunks <= width) {
            add_values<G, kChunks>(weights, values + c, soon, count, width, 16, y);
            c += 16 * kChunks;
        } else {
            add_values<G, 1>(weights, values + c, soon, count, width, width - c < 16 ? width - c : 16, y);
            c += 16;
        }
    }
}

template <int G, class T>
void gather(const float (*q)[kMostChannels], const T* keys, const T* values, const T* next, int count, int heads, int width,
            Gathered& g) {
    if constexpr (G == 1) {
        gather_block<1>(q, keys, values, next, count, width, g);
    } else if (heads == G) {
        gather_block<G>(q, keys, values, next, count, width, g);
    } else {
        gather<G - 1>(q, keys, values, next, count, heads, width, g);
    }
}

// Heads first .. first + count - 1 of a row, which share the key head `shared`; y: where their outputs go, side by side.
// projected: the row's queries, keys and values. keeps: whether to write the new key and value to the cache. then: the key
// head, of all rows, that this thread looks at next, or -1.
template <class T>
void attend(const Decoder& d, const Step& s, int64_t layer, int64_t row, int first, int count, int shared, bool keeps,
            int64_t then, const float* projected, float* y) {
    const Layer& l = d.layers[layer];
    const int width = d.head_dim, room = int(padded(width, 16));
    const int64_t length = s.lengths[row], rotary = l.rotary;
    const int64_t apart = s.capacities[layer] * width, offset = (row * d.kv_heads + shared) * apart;
    T* keys = (T*)s.keys[layer] + offset;
    T* values = (T*)s.values[layer] + offset;
    alignas(64) float q[kMostHeads][kMostChannels], k[kMostChannels], v[kMostChannels];
    alignas(64) T kept_k[kMostChannels], kept_v[kMostChannels];

    const auto prepare = [&](float* x, const float* from, const float* norm) {
        for (int c = width; c < room; ++c) x[c] = 0.0f;
        __builtin_memcpy(x, from, 4 * width);
        if (norm != nullptr) normed(x, norm, width, d.qk_eps);
        if (rotary < 0) return;
        const int turned = d.turned[rotary];
        const int64_t place = s.places[rotary * s.rows + row] * turned;
        turn(x, s.cosines[rotary] + place, s.sines[rotary] + place, turned, d.adjacent[rotary] != 0);
    };
    prepare(k, projected + (d.heads + shared) * width, l.k_norm);
    __builtin_memcpy(v, projected + (d.heads + d.kv_heads + shared) * width, 4 * width);
    for (int c = width; c < room; ++c) v[c] = 0.0f;
    keep(k, kept_k, room);
    keep(v, kept_v, room);
    if (keeps) {
        __builtin_memcpy(keys + length * width, kept_k, sizeof(T) * width);
        __builtin_memcpy(values + length * width, kept_v, sizeof(T) * width);
    }
    Gathered g;
    for (int h = 0; h < count; ++h) {
        prepare(q[h], projected + (first + h) * width, l.q_norm);
        F dots = zero();
        for (int c = 0; c < room; c += 16) {
            store(q[h] + c, mul(load(q[h] + c), all(d.score_scale)));
            dots = fma(load(q[h] + c), load(k + c), dots);
            store(g.values[h] + c, load(v + c));
        }
        g.most[h] = sum(dots);
        g.total[h] = 1.0f;
    }
    for (int64_t start = 0; start < length; start += kKeys) {
        const int here = length - start < kKeys ? int(length - start) : kKeys;
        const T* next = then < 0 ? nullptr : (const T*)s.keys[layer] + then * apart;
        if (start + kKeys < length) next = keys + (start + kKeys) * width;
        gather<kMostHeads>(q, keys + start * width, values + start * width, next, here, count, width, g);
    }
    for (int h = 0; h < count; ++h) {
        const float share = 1.0f / g.total[h];
        for (int c = 0; c < width; ++c) y[h * width + c] = g.values[h][c] * share;
    }
}

}  // namespace
