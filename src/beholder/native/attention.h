// One token's attention to the cache, for some of its heads, with its own key and value. Included after a simd header.
#pragma once
#include <math.h>

#include "abi.h"

namespace {

constexpr int kKeys = 64;         // that are looked at together
constexpr int kMostHeads = 4;     // that share a key while it is in a register
constexpr int kMostChannels = 512;  // of a head

inline F exponential(F x) {  // Cephes' expf: 2^n e^r with |r| <= ln 2 / 2, within two units in the last place
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    const F n = nearest(mul(x, all(1.44269504f)));
    F r = fma(n, all(-0.693359375f), x);
    r = fma(n, all(2.12194440e-4f), r);
    F y = fma(all(1.9875691500e-4f), r, all(1.3981999507e-3f));
    y = fma(y, r, all(8.3334519073e-3f));
    y = fma(y, r, all(4.1665795894e-2f));
    y = fma(y, r, all(1.6666665459e-1f));
    y = fma(y, r, all(5.0000001201e-1f));
    return times_power_of_two(add(fma(mul(r, r), y, r), all(1.0f)), n);
}

// act(x) = x sigmoid(s(x)): SiLU s(x) = x; tanh's GELU s(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3).
inline F activated(F x, int32_t activation) {
    F s = x;
    if (activation == kGeluTanh) s = mul(mul(x, all(1.5957691216f)), fma(mul(x, x), all(0.044715f), all(1.0f)));
    return divide(x, add(all(1.0f), exponential(mul(s, all(-1.0f)))));
}

inline F load_key(const uint16_t* p) { return load_bf16(p); }
inline F load_key(const float* p) { return load(p); }
inline F load_some_keys(const uint16_t* p, int count) { return load_some_bf16(p, count); }
inline F load_some_keys(const float* p, int count) { return load_some(p, count); }

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
    const int half = width / 2, step = adjacent ? 2 : 1, apart = adjacent ? 1 : half;
    for (int i = 0; i < half; ++i) {
        const int a = step * i, b = a + apart;
        const float first = x[a], second = x[b];
        x[a] = first * cos[a] - second * sin[a];
        x[b] = second * cos[b] + first * sin[b];
    }
}

// What attention has gathered of some heads: the largest score, the sum of weights, and the weighted values.
struct Gathered {
    float most[kMostHeads], total[kMostHeads];
    alignas(64) float values[kMostHeads][kMostChannels];
};

template <int G, class T>
void gather_block(const float (*q)[kMostChannels], const T* keys, const T* values, int count, int width, Gathered& g) {
    alignas(64) float scores[G][kKeys];
    const int whole_width = width / 16 * 16, rest = width - whole_width;
    for (int s = 0; s < count; ++s) {
        F dots[G];
        UNROLLED for (int h = 0; h < G; ++h) dots[h] = zero();
        const T* key = keys + int64_t(s) * width;
        for (int c = 0; c < whole_width; c += 16) {
            const F k = load_key(key + c);
            UNROLLED for (int h = 0; h < G; ++h) dots[h] = fma(load(q[h] + c), k, dots[h]);
        }
        if (rest > 0) {
            const F k = load_some_keys(key + whole_width, rest);
            UNROLLED for (int h = 0; h < G; ++h) dots[h] = fma(load(q[h] + whole_width), k, dots[h]);
        }
        UNROLLED for (int h = 0; h < G; ++h) scores[h][s] = sum(dots[h]);
    }
    for (int h = 0; h < G; ++h) {
        for (int s = count; s < kKeys; ++s) scores[h][s] = -INFINITY;
        F most = load(scores[h]);
        for (int s = 16; s < kKeys; s += 16) most = larger(most, load(scores[h] + s));
        const float now = largest(most);
        if (now > g.most[h]) {
            const F shrink = exponential(all(g.most[h] - now));
            for (int c = 0; c < width; c += 16) store(g.values[h] + c, mul(load(g.values[h] + c), shrink));
            float factor[16];
            store(factor, shrink);
            g.total[h] *= factor[0];
            g.most[h] = now;
        }
        F total = zero();
        for (int s = 0; s < kKeys; s += 16) {
            const F weight = exponential(add(load(scores[h] + s), all(-g.most[h])));
            store(scores[h] + s, weight);
        }
        for (int s = count; s < kKeys; ++s) scores[h][s] = 0.0f;
        for (int s = 0; s < kKeys; s += 16) total = add(total, load(scores[h] + s));
        g.total[h] += sum(total);
    }
    for (int c = 0; c < width; c += 16) {
        F gathered[G];
        UNROLLED for (int h = 0; h < G; ++h) gathered[h] = load(g.values[h] + c);
        const int here = width - c < 16 ? width - c : 16;
        for (int s = 0; s < count; ++s) {
            const T* p = values + int64_t(s) * width + c;
            const F v = here == 16 ? load_key(p) : load_some_keys(p, here);
            UNROLLED for (int h = 0; h < G; ++h) gathered[h] = fma(all(scores[h][s]), v, gathered[h]);
        }
        UNROLLED for (int h = 0; h < G; ++h) store(g.values[h] + c, gathered[h]);
    }
}

template <class T>
void gather(const float (*q)[kMostChannels], const T* keys, const T* values, int count, int heads, int width, Gathered& g) {
    switch (heads) {
        case 1: return gather_block<1>(q, keys, values, count, width, g);
        case 2: return gather_block<2>(q, keys, values, count, width, g);
        case 3: return gather_block<3>(q, keys, values, count, width, g);
        default: return gather_block<4>(q, keys, values, count, width, g);
    }
}

// Heads first .. first + count - 1 of a row, which share the key head `shared`; y: where their outputs go, side by side.
// projected: the row's queries, keys and values. keeps: whether to write the new key and value to the cache.
template <class T>
void attend(const Decoder& d, const Step& s, int64_t layer, int64_t row, int first, int count, int shared, bool keeps,
            const float* projected, float* y) {
    const Layer& l = d.layers[layer];
    const int width = d.head_dim, room = int(padded(width, 16));
    const int64_t length = s.lengths[row], rotary = l.rotary;
    const int64_t offset = (row * d.kv_heads + shared) * s.capacities[layer] * width;
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
        gather(q, keys + start * width, values + start * width, here, count, width, g);
    }
    for (int h = 0; h < count; ++h) {
        for (int c = 0; c < width; ++c) y[h * width + c] = g.values[h][c] / g.total[h];
    }
}

}  // namespace
