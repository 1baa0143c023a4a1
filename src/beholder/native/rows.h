// Norms, turned heads and activations of many rows, each in one pass. Included after `numbers.h`.
#pragma once
#include <math.h>

#include <atomic>

#include "abi.h"

namespace {

constexpr int64_t kRowsTogether = 8;  // that a thread takes at a time

// Runs over all rows, in the threads that there are.
template <class Work>
class Shared {
public:
    Shared(int64_t rows, Parallel parallel, int32_t threads, Work work) : rows(rows), work(work) {
        const auto take = [](void* shared) { static_cast<Shared*>(shared)->take(); };
        if (parallel != nullptr && threads > 1 && rows > kRowsTogether) {
            parallel(take, this, unsigned(threads), 0);
        } else {
            take(this);
        }
    }

private:
    void take() {
        for (int64_t begin; (begin = next.fetch_add(kRowsTogether)) < rows;) {
            const int64_t end = begin + kRowsTogether < rows ? begin + kRowsTogether : rows;
            for (int64_t row = begin; row < end; ++row) work(row);
        }
    }

    const int64_t rows;
    const Work work;
    std::atomic<int64_t> next{0};
};

inline int some(int64_t at, int64_t end) { return end - at < 16 ? int(end - at) : 16; }

template <class T>
inline F read_up_to(const T* p, int count) {
    return count == 16 ? read(p) : read_some(p, count);
}

// What is taken off a channel, and what it is then multiplied with.
struct Spread {
    float mean = 0, rate = 1;
};

// The sum of of(x) over all channels, in four sums that do not wait for each other.
template <class T, class Of>
float sum_of(const T* x, int64_t width, Of of) {
    constexpr int kSums = 4;
    F sums[kSums];
    UNROLLED for (int i = 0; i < kSums; ++i) sums[i] = zero();
    int64_t c = 0;
    for (; c + 16 * kSums <= width; c += 16 * kSums) {
        UNROLLED for (int i = 0; i < kSums; ++i) sums[i] = add(sums[i], of(read(x + c + 16 * i)));
    }
    for (; c + 16 <= width; c += 16) sums[0] = add(sums[0], of(read(x + c)));
    float rest = 0;
    if (c < width) {
        alignas(64) float last[16];
        store(last, of(read_some(x + c, int(width - c))));
        for (int64_t i = 0; i < width - c; ++i) rest += last[i];
    }
    return sum(add(add(sums[0], sums[1]), add(sums[2], sums[3]))) + rest;
}

template <class T>
Spread spread(const T* x, int64_t width, const Heads& h) {
    Spread found;
    if (h.norm == kNoNorm) return found;
    if (h.norm == kLayerNorm) found.mean = sum_of(x, width, [](F x) { return x; }) / float(width);
    const F mean = all(-found.mean);
    const auto square = [mean](F x) {
        const F off = add(x, mean);
        return mul(off, off);
    };
    found.rate = 1.0f / sqrtf(sum_of(x, width, square) / float(width) + h.eps);
    return found;
}

// Channels `c` on of a group, normed; `place` is theirs in the weights.
template <class T>
inline F normed(const T* x, int count, const Spread& by, const Heads& h, int64_t place) {
    F y = read_up_to(x, count);
    if (h.norm == kNoNorm) return y;
    y = mul(h.norm == kRmsNorm ? y : add(y, all(-by.mean)), all(by.rate));
    if (h.weight == nullptr) return y;
    const F weight = read_up_to(h.weight + place, count);
    return h.bias == nullptr ? mul(y, weight) : fma(y, weight, read_up_to(h.bias + place, count));
}

// A head whose channels i and i + half are pairs, of which there are sixteens: y = x cos + x' sin, x' the other one of the pair,
// the first ones' negated.
template <class T>
void turn_halves(const T* x, const T* cos, const T* sin, const Spread& by, const Heads& h, int64_t place, T* y) {
    const int half = h.turned / 2;
    for (int c = 0; c < half; c += 16) {
        const F first = normed(x + c, 16, by, h, place + c), second = normed(x + half + c, 16, by, h, place + half + c);
        write(y + c, fma(first, read(cos + c), mul(mul(second, all(-1.0f)), read(sin + c))));
        write(y + half + c, fma(second, read(cos + half + c), mul(first, read(sin + half + c))));
    }
    for (int64_t c = h.turned; c < h.width; c += 16) {
        const int here = some(c, h.width);
        write_some(y + c, normed(x + c, here, by, h, place + c), here);
    }
}

// The same of pairs in any order and number; x: the head in float32.
template <class T>
void turn_head(float* x, const T* cos, const T* sin, const Heads& h, T* y) {
    alignas(64) float other[kMostChannels];
    const int turned = h.turned, half = turned / 2;
    if (h.adjacent) {
        for (int c = 0; c + 1 < turned; c += 2) {
            other[c] = -x[c + 1];
            other[c + 1] = x[c];
        }
    } else {
        for (int c = 0; c < half; ++c) other[c] = -x[c + half];
        for (int c = half; c < 2 * half; ++c) other[c] = x[c - half];
    }
    for (int c = 0; c < turned; c += 16) {
        const int here = some(c, turned);
        const F moved = mul(load(other + c), read_up_to(sin + c, here));
        write_some(y + c, fma(load(x + c), read_up_to(cos + c, here), moved), here);
    }
    for (int64_t c = turned; c < h.width; c += 16) write_some(y + c, load(x + c), h.width - c);
}

template <class T>
void heads_of_row(const Heads& h, int64_t row) {
    const T* x = (const T*)h.x + row * h.x_stride;
    T* y = (T*)h.y + row * h.y_stride;
    const int64_t together = h.heads / h.groups * h.width;  // channels that are normed by themselves
    const T *cos = (const T*)h.cos, *sin = (const T*)h.sin;
    if (cos != nullptr) cos += row % h.places * h.turned, sin += row % h.places * h.turned;
    for (int64_t group = 0; group < h.groups; ++group, x += together, y += together) {
        const Spread by = spread(x, together, h);
        const int64_t place = group * h.apart;
        if (cos == nullptr) {
            for (int64_t c = 0; c < together; c += 16) {
                const int here = some(c, together);
                write_some(y + c, normed(x + c, here, by, h, place + c), here);
            }
            continue;
        }
        for (int64_t head = 0; head < together; head += h.width) {
            if (!h.adjacent && h.turned % 32 == 0) {
                turn_halves(x + head, cos, sin, by, h, place + head, y + head);
                continue;
            }
            alignas(64) float plain[kMostChannels];
            for (int64_t c = 0; c < h.width; c += 16) {
                store(plain + c, normed(x + head + c, some(c, h.width), by, h, place + head + c));
            }
            turn_head(plain, cos, sin, h, y + head);
        }
    }
}

template <int32_t kActivation, class T>
void activate_row(const Active& a, int64_t row) {
    const T* x = (const T*)a.x + row * a.x_stride;
    const T* times = a.times == nullptr ? nullptr : (const T*)a.times + row * a.x_stride;
    T* y = (T*)a.y + row * a.y_stride;
    for (int64_t c = 0; c < a.width; c += 16) {
        const int here = some(c, a.width);
        F value = activated(read_up_to(x + c, here), kActivation);
        if (times != nullptr) value = mul(value, read_up_to(times + c, here));
        write_some(y + c, value, here);
    }
}

template <int32_t kActivation = kReluSquared>
void activate(const Active& a) {
    if constexpr (kActivation > kSilu) {
        if (a.activation < kActivation) return activate<kActivation - 1>(a);
    }
    Shared(a.rows, a.parallel, a.threads, [&a](int64_t row) {
        a.bf16 ? activate_row<kActivation, uint16_t>(a, row) : activate_row<kActivation, float>(a, row);
    });
}

}  // namespace
