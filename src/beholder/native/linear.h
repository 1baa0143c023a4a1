// Rows times a matrix: each weight is read once for all rows. Included after one of the simd headers.
#pragma once
#include <math.h>

#include "abi.h"

namespace {

#if defined(__clang__)
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif

// Sums of floats that do not wait for each other: as many for any number of rows, so that a row's sums have one order, and a row
// by itself gives what it gives among others. Fewer rows then share a weight than with integers, whose sums have any order.
constexpr int kSplit = kFloatSums;
constexpr int64_t kAhead = 4096;  // bytes that are asked for before they are needed

inline void ask_for(const uint8_t* p) { __builtin_prefetch(p, 0, 3); }

// --- rows made ready: what a product reads of a row, in the form that its weights ask for
//
// float32 and bf16: the numbers, as `Ready`. int8 and int4: T q, then for each 32 of them their scale, and minus their sum
// times the weights' zero. Of each four numbers of 16 bits the second and third have changed places.

template <class T>
struct Quantised {
    T* q;
    float* scales;
    int32_t* corrections;

    Quantised(uint8_t* row, int64_t inputs)
        : q((T*)row),
          scales((float*)(row + padded(int64_t(sizeof(T)) * inputs, 64))),
          corrections((int32_t*)(scales + inputs / kGroup)) {}

    static int64_t bytes(int64_t inputs) { return padded(int64_t(sizeof(T)) * inputs, 64) + 8 * (inputs / kGroup); }
};

inline void keep_quantised(int8_t* q, F low, F high) {
    store_int8(q, low);
    store_int8(q + 16, high);
}
inline void keep_quantised(int16_t* q, F low, F high) {
    float whole[kGroup];
    store(whole, low);
    store(whole + 16, high);
    for (int k = 0; k < kGroup; k += 4) {
        q[k] = int16_t(whole[k]), q[k + 1] = int16_t(whole[k + 2]);
        q[k + 2] = int16_t(whole[k + 1]), q[k + 3] = int16_t(whole[k + 3]);
    }
}

template <class T>
void quantise(const float* x, int64_t inputs, int32_t zero_of_weights, uint8_t* row) {
    constexpr float kLargest = sizeof(T) == 1 ? 127.0f : 32767.0f;
    const Quantised<T> ready(row, inputs);
    for (int64_t group = 0; group < inputs / kGroup; ++group) {
        const F low = load(x + group * kGroup), high = load(x + group * kGroup + 16);
        const float most = largest(larger(absolute(low), absolute(high)));
        const F per_step = all(most > 0 ? kLargest / most : 0.0f);
        const F q0 = nearest(mul(low, per_step)), q1 = nearest(mul(high, per_step));
        keep_quantised(ready.q + group * kGroup, q0, q1);
        ready.scales[group] = most / kLargest;
        ready.corrections[group] = -zero_of_weights * int32_t(sum(add(q0, q1)));
    }
}

// x: a row with zeros from `count` to the next multiple of 32. norm: weights of an RMSNorm, or null. plain: room for a row.
void make_ready(const float* x, const Matrix& m, const float* norm, float eps, uint8_t* row, float* plain) {
    const int64_t inputs = padded(m.inputs, kGroup);
    if (norm != nullptr) {
        F squares = zero();
        for (int64_t k = 0; k < inputs; k += 16) squares = fma(load(x + k), load(x + k), squares);
        const F scale = all(1.0f / sqrtf(sum(squares) / float(m.inputs) + eps));
        for (int64_t k = 0; k < inputs; k += 16) store(plain + k, mul(mul(load(x + k), scale), load(norm + k)));
        x = plain;
    }
    switch (m.format) {
        case kFloat32:
            for (int64_t k = 0; k < inputs; k += 16) store((float*)row + k, load(x + k));
            break;
        case kBf16:
            for (int64_t k = 0; k < inputs; k += 16) store_ready((Ready*)row + k, load(x + k));
            break;
        case kInt8: return quantise<int8_t>(x, inputs, kByteZero, row);
        case kInt4: return quantise<int8_t>(x, inputs, 8, row);
        case kInt8Wide: return quantise<int16_t>(x, inputs, 128, row);
        default: return quantise<int16_t>(x, inputs, 8, row);
    }
}

// --- products: R rows with one panel of 32 outputs, y[r][0 .. 31]

template <int R>
void panel_float32(const uint8_t* w, int64_t inputs, const uint8_t* rows, int64_t stride, float (*y)[kPanel]) {
    F sums[R][2][kSplit];
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int u = 0; u < kSplit; ++u) sums[r][0][u] = sums[r][1][u] = zero();
    }
    for (int64_t k = 0; k < inputs; k += kSplit, w += 128 * kSplit) {
        UNROLLED for (int u = 0; u < kSplit; ++u) {
            ask_for(w + 128 * u + kAhead);
            ask_for(w + 128 * u + kAhead + 64);
            const F low = load((const float*)(w + 128 * u)), high = load((const float*)(w + 128 * u + 64));
            UNROLLED for (int r = 0; r < R; ++r) {
                const F x = all(((const float*)(rows + r * stride))[k + u]);
                sums[r][0][u] = fma(low, x, sums[r][0][u]);
                sums[r][1][u] = fma(high, x, sums[r][1][u]);
            }
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int u = 1; u < kSplit; ++u) {
            sums[r][0][0] = add(sums[r][0][0], sums[r][0][u]);
            sums[r][1][0] = add(sums[r][1][0], sums[r][1][u]);
        }
        store(y[r], sums[r][0][0]);
        store(y[r] + 16, sums[r][1][0]);
    }
}

template <int R>
void panel_bf16(const uint8_t* w, int64_t inputs, const uint8_t* rows, int64_t stride, float (*y)[kPanel]) {
    F sums[R][2][kSplit];
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int u = 0; u < kSplit; ++u) sums[r][0][u] = sums[r][1][u] = zero();
    }
    for (int64_t k = 0; k < inputs; k += 2 * kSplit, w += 128 * kSplit) {
        UNROLLED for (int u = 0; u < kSplit; ++u) {
            ask_for(w + 128 * u + kAhead);
            ask_for(w + 128 * u + kAhead + 64);
            const Bytes low = load_bytes(w + 128 * u), high = load_bytes(w + 128 * u + 64);
            UNROLLED for (int r = 0; r < R; ++r) {
                const Ready* x = (const Ready*)(rows + r * stride) + k + 2 * u;
                sums[r][0][u] = dot_pairs(sums[r][0][u], low, x);
                sums[r][1][u] = dot_pairs(sums[r][1][u], high, x);
            }
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        UNROLLED for (int u = 1; u < kSplit; ++u) {
            sums[r][0][0] = add(sums[r][0][0], sums[r][0][u]);
            sums[r][1][0] = add(sums[r][1][0], sums[r][1][u]);
        }
        store(y[r], sums[r][0][0]);
        store(y[r] + 16, sums[r][1][0]);
    }
}

template <int R, class T>
void panel_int8(const uint8_t* w, int64_t inputs, const uint8_t* rows, int64_t stride, float (*y)[kPanel]) {
    F sums[R][2];
    UNROLLED for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = zero();
    for (int64_t group = 0; group < inputs / kGroup; ++group, w += kGroup * kPanel) {
        I counts[R][2];
        UNROLLED for (int r = 0; r < R; ++r) {
            const Quantised<T> x((uint8_t*)rows + r * stride, inputs);
            counts[r][0] = counts[r][1] = whole(x.corrections[group]);
        }
        UNROLLED for (int i = 0; i < kGroup / 4; ++i) {
            ask_for(w + 128 * i + kAhead);
            ask_for(w + 128 * i + kAhead + 64);
            const Bytes low = load_bytes(w + 128 * i), high = load_bytes(w + 128 * i + 64);
            UNROLLED for (int r = 0; r < R; ++r) {
                const T* x = (const T*)(rows + r * stride) + group * kGroup + 4 * i;
                counts[r][0] = dot_bytes(counts[r][0], low, x);
                counts[r][1] = dot_bytes(counts[r][1], high, x);
            }
        }
        UNROLLED for (int r = 0; r < R; ++r) {
            const F scale = all(Quantised<T>((uint8_t*)rows + r * stride, inputs).scales[group]);
            sums[r][0] = fma(to_float(counts[r][0]), scale, sums[r][0]);
            sums[r][1] = fma(to_float(counts[r][1]), scale, sums[r][1]);
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        store(y[r], sums[r][0]);
        store(y[r] + 16, sums[r][1]);
    }
}

template <int R, class T>
void panel_int4(const uint8_t* w, int64_t inputs, const uint8_t* rows, int64_t stride, float (*y)[kPanel]) {
    constexpr int64_t kBytes = kGroup * kPanel / 2 + 2 * kPanel;
    F sums[R][2];
    UNROLLED for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = zero();
    for (int64_t group = 0; group < inputs / kGroup; ++group, w += kBytes) {
        I counts[R][2];
        UNROLLED for (int r = 0; r < R; ++r) {
            const Quantised<T> x((uint8_t*)rows + r * stride, inputs);
            counts[r][0] = counts[r][1] = whole(x.corrections[group]);
        }
        UNROLLED for (int i = 0; i < kGroup / 8; ++i) {
            ask_for(w + 128 * i + kAhead);
            ask_for(w + 128 * i + kAhead + 64);
            const Bytes low = load_bytes(w + 128 * i), high = load_bytes(w + 128 * i + 64);
            const Bytes low0 = low_halves(low), low1 = high_halves(low);
            const Bytes high0 = low_halves(high), high1 = high_halves(high);
            UNROLLED for (int r = 0; r < R; ++r) {
                const T* x = (const T*)(rows + r * stride) + group * kGroup + 8 * i;
                counts[r][0] = dot_halves(dot_halves(counts[r][0], low0, x), low1, x + 4);
                counts[r][1] = dot_halves(dot_halves(counts[r][1], high0, x), high1, x + 4);
            }
        }
        const uint8_t* more = w + kGroup * kPanel / 2;
        const F scale0 = load_f16(more), scale1 = load_f16(more + 32);
        UNROLLED for (int r = 0; r < R; ++r) {
            const Quantised<T> x((uint8_t*)rows + r * stride, inputs);
            const F scale = all(x.scales[group]);
            sums[r][0] = fma(to_float(counts[r][0]), mul(scale, scale0), sums[r][0]);
            sums[r][1] = fma(to_float(counts[r][1]), mul(scale, scale1), sums[r][1]);
        }
    }
    UNROLLED for (int r = 0; r < R; ++r) {
        store(y[r], sums[r][0]);
        store(y[r] + 16, sums[r][1]);
    }
}

using Panel = void (*)(const uint8_t*, int64_t, const uint8_t*, int64_t, float (*)[kPanel]);

template <int R>
Panel panel_kernel(int32_t format) {
    switch (format) {
        case kFloat32: return panel_float32<R>;
        case kBf16: return panel_bf16<R>;
        case kInt8: return panel_int8<R, int8_t>;
        case kInt4: return panel_int4<R, int8_t>;
        case kInt8Wide: return panel_int8<R, int16_t>;
        default: return panel_int4<R, int16_t>;
    }
}

template <int R>
Panel kernel_for_rows(int32_t format, int64_t rows) {
    if constexpr (R == 1) {
        return panel_kernel<1>(format);
    } else {
        return rows == R ? panel_kernel<R>(format) : kernel_for_rows<R - 1>(format, rows);
    }
}

int64_t panel_bytes(const Matrix& m) {
    const int64_t inputs = padded(m.inputs, kGroup), groups = inputs / kGroup;
    switch (m.format) {
        case kFloat32: return 4 * kPanel * inputs;
        case kBf16: return 2 * kPanel * inputs;
        case kInt8: case kInt8Wide: return kPanel * inputs;
        default: return (kPanel * kGroup / 2 + 2 * kPanel) * groups;
    }
}

// Panels begin .. end - 1 for all rows. take(row, panel, y): what becomes of 32 outputs, scaled and with their bias.
template <class Take>
void multiply(const Matrix& m, int64_t begin, int64_t end, const uint8_t* ready, int64_t stride, int64_t rows, Take take) {
    const int64_t bytes = panel_bytes(m), inputs = padded(m.inputs, kGroup);
    alignas(64) float y[kMostRows][kPanel];
    for (int64_t panel = begin; panel < end; ++panel) {
        for (int64_t row = 0; row < rows;) {
            const int64_t most = m.format == kInt8 || m.format == kInt4 ? kMostRows : kMostFloatRows;
            const int64_t left = rows - row, count = left < most ? left : most;
            kernel_for_rows<kMostRows>(m.format, count)(m.data + panel * bytes, inputs, ready + row * stride, stride, y);
            for (int64_t r = 0; r < count; ++r) {
                if (m.scales != nullptr) {
                    const float* scales = m.scales + panel * kPanel;
                    store(y[r], mul(load(y[r]), load(scales)));
                    store(y[r] + 16, mul(load(y[r] + 16), load(scales + 16)));
                }
                if (m.bias != nullptr) {
                    const float* bias = m.bias + panel * kPanel;
                    store(y[r], add(load(y[r]), load(bias)));
                    store(y[r] + 16, add(load(y[r] + 16), load(bias + 16)));
                }
                take(row + r, panel, y[r]);
            }
            row += count;
        }
    }
}

}  // namespace
