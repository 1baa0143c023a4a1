// Many rows times a matrix, for prompts: the kernels of a step, with threads of PyTorch's. Included after `linear.h` and
// `attention.h`.
#pragma once
#include <atomic>

#include "abi.h"

namespace {

constexpr int64_t kRoom = 1 << 20;  // bytes of rows made ready at a time, so that they stay in the cache
constexpr int64_t kFewestRows = 64, kMostRowsAtOnce = 512;

// Scratch memory of a product: rows made ready, and of each thread two plain rows.
struct Portion {
    int64_t inputs, stride, rows, plain, total;

    explicit Portion(const Product& p) {
        inputs = padded(p.matrix.inputs, kGroup);
        int64_t bytes = 0;
        switch (p.matrix.format) {
            case kFloat32: bytes = 4 * inputs; break;
            case kBf16: bytes = int64_t(sizeof(Ready)) * inputs; break;
            case kInt8: case kInt4: bytes = Quantised<int8_t>::bytes(inputs); break;
            default: bytes = Quantised<int16_t>::bytes(inputs);
        }
        stride = 64 * ((bytes + 63) / 64 | 1);  // odd lines, so that rows share no cache set
        const int64_t fit = kRoom / stride < kMostRowsAtOnce ? kRoom / stride : kMostRowsAtOnce;
        rows = fit < kFewestRows ? kFewestRows : fit;
        plain = padded(4 * inputs, 64);
        total = rows * stride + p.threads * 2 * plain;
    }
};

class Multiplied {
public:
    Multiplied(const Product& p, const Portion& sizes, int64_t first)
        : p(p), sizes(sizes), first(first), count(p.rows - first < sizes.rows ? p.rows - first : sizes.rows),
          as_given(sizeof(Ready) == 2 && p.matrix.format == kBf16 && p.bf16 && p.matrix.inputs == sizes.inputs),
          ready(as_given ? (const uint8_t*)p.x + 2 * first * p.x_stride : p.scratch),
          stride(as_given ? 2 * p.x_stride : sizes.stride) {}

    void run() {
        if (!as_given) together([](void* work) { static_cast<Multiplied*>(work)->make(); });
        together([](void* work) { static_cast<Multiplied*>(work)->give(); });
    }

private:
    void together(void (*work)(void*)) {
        next = 0;
        threads = 0;
        if (p.parallel != nullptr && p.threads > 1) {
            p.parallel(work, this, unsigned(p.threads), 0);
        } else {
            work(this);
        }
    }

    void make() {
        uint8_t* own = p.scratch + sizes.rows * sizes.stride + threads.fetch_add(1) * 2 * sizes.plain;
        float *x = (float*)own, *plain = (float*)(own + sizes.plain);
        for (int64_t row; (row = next.fetch_add(1)) < count;) {
            const int64_t from = (first + row) * p.x_stride;
            for (int64_t k = 0; k < sizes.inputs; k += 16) {
                const int64_t left = p.matrix.inputs - k;
                const int here = left < 16 ? (left < 0 ? 0 : int(left)) : 16;
                store(x + k, p.bf16 ? read_some((const uint16_t*)p.x + from + k, here)
                                    : read_some((const float*)p.x + from + k, here));
            }
            make_ready(x, p.matrix, nullptr, 0, p.scratch + row * sizes.stride, plain);
        }
    }

    void give() {
        const int64_t panels = padded(p.matrix.outputs, kPanel) / kPanel;
        const int64_t few = panels / (8 * p.threads);
        const int64_t unit = count > kFewestRows || few < 1 ? 1 : few;
        for (int64_t begin; (begin = next.fetch_add(unit)) < panels;) {
            const int64_t end = begin + unit < panels ? begin + unit : panels;
            multiply(p.matrix, begin, end, ready, stride, count, [&](int64_t row, int64_t panel, float* y) {
                const int64_t to = (first + row) * p.y_stride, half = kPanel / 2, left = p.matrix.outputs - panel * kPanel;
                if (p.order == kInOrder) {
                    for (int64_t c = 0; p.activation != kAsItIs && c < kPanel; c += 16) {
                        store(y + c, activated(load(y + c), p.activation));
                    }
                    return put(to + panel * kPanel, y, left, kPanel);
                }
                if (p.order == kActivated) {
                    store(y, mul(activated(load(y), p.activation), load(y + half)));
                } else {
                    put(to + p.half + panel * half, y + half, p.half - panel * half, half);
                }
                put(to + panel * half, y, p.half - panel * half, half);
            });
        }
    }

    // The first `left` of `most` numbers, a multiple of 16.
    void put(int64_t to, const float* y, int64_t left, int64_t most) {
        for (int64_t c = 0; c < most && c < left; c += 16) {
            if (p.bf16) {
                write_some((uint16_t*)p.y + to + c, load(y + c), left - c);
            } else {
                write_some((float*)p.y + to + c, load(y + c), left - c);
            }
        }
    }

    const Product& p;
    const Portion& sizes;
    const int64_t first, count;
    const bool as_given;  // rows are what products read
    const uint8_t* const ready;
    const int64_t stride;
    std::atomic<int64_t> next{0}, threads{0};
};

}  // namespace
