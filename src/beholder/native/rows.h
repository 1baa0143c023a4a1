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

template <class T>
Spread spread(const T* x, int64_t width, const Heads& h) {
    Spread found;
    if (h.norm == kNoNorm) return found;
    if (h.norm == kLayerNorm) {
        F total = zero();
        for (int64_t c = 0; c < width; c += 16) total = add(total, read_up_to(x + c, some(c, width)));
        found.mean = sum(total) / float(width);
    }
    F squares = zero();
    const F mean = all(-found.mean);
    int64_t c = 0;
    for (; c + 16 <= width; c += 16) {
        const F off = add(read(x + c), mean);
        squares = fma(off, off, squares);
    }
    float more = 0;
    if (c < width) {  // what lies beyond the end has no distance from the mean
        alignas(64) float last[16];
        store(last, add(read_some(x + c, int(width - c)), mean));
        for (int64_t i = 0; i < width - c; ++i) more += last[i] * last[i];
    }
    found.rate = 1.0f / sqrtf((sum(squares) + more) / float(width) + h.eps);
    return found;
}

// Channels `c` on of a group, normed; `place` is theirs in the weights.
template <class T>
inline F normed(const T* x, int count, const Spread& by, const Heads& h, int64_t place) {
    F y = read_up_to(x, count);
    if (h.norm == kNoNorm) return y;
    y = mul(add(y, all(-by.mean)), all(by.rate));
    const F weight = h.weight == nullptr ? all(1.0f) : read_up_to(h.weight + place, count);
    return h.bias == nullptr ? mul(y, weight) : fma(y, weight, read_up_to(h.bias + place, count));
}

// A head whose first channels turn: y = x cos + x' sin, x' the other channel of each pair, the first ones' negated.
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
            alignas(64) float plain[kMostChannels];
            for (int64_t c = 0; c < h.width; c += 16) {
                store(plain + c, normed(x + head + c, some(c, h.width), by, h, place + head + c));
            }
            turn_head(plain, cos, sin, h, y + head);
        }
    }
}

template <class T>
void activate_row(const Active& a, int64_t row) {
    const T* x = (const T*)a.x + row * a.x_stride;
    const T* times = a.times == nullptr ? nullptr : (const T*)a.times + row * a.x_stride;
    T* y = (T*)a.y + row * a.y_stride;
    for (int64_t c = 0; c < a.width; c += 16) {
        const int here = some(c, a.width);
        F value = activated(read_up_to(x + c, here), a.activation);
        if (times != nullptr) value = mul(value, read_up_to(times + c, here));
        write_some(y + c, value, here);
    }
}

}  // namespace
