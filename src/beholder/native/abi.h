// What Python and the kernels tell each other. `library.py` holds the same structures; raise kAbi with each change.
#pragma once
#include <cstddef>
#include <cstdint>

constexpr int32_t kAbi = 3;
constexpr int32_t kPanel = 32;  // outputs of a matrix that lie together
constexpr int32_t kGroup = 32;  // inputs that share a scale

// Of weights; wide ones lie as the others and meet numbers of 16 bits instead of 8, in products of many rows alone.
enum Format : int32_t { kFloat32 = 0, kBf16 = 1, kInt8 = 2, kInt4 = 3, kInt8Wide = 4, kInt4Wide = 5 };
enum Order : int32_t { kInOrder = 0, kActivated = 1, kHalves = 2 };
enum Activation : int32_t { kSilu = 0, kGeluTanh = 1, kGelu = 2, kQuickGelu = 3, kRelu = 4, kReluSquared = 5, kAsItIs = -1 };
enum Norm : int32_t { kNoNorm = 0, kRmsNorm = 1, kLayerNorm = 2 };

extern "C" {

// A linear map. data: panels of 32 outputs, zeros beyond the last output and input. In a panel follow each other
//   float32: for each input 32 numbers;  bf16: for each 2 inputs 32 pairs;  int8: for each 4 inputs 32 fours of q + 128
//   int4: for each 32 inputs 512 bytes (4 times 32 fours: of inputs 8i .. 8i + 3 in the low half bytes, of the next four in
//   the high ones; q from 0 to 15) and 32 scales in float16, w = (q - 8) scale
// scales: of each output, for int8. bias: of each output, or null.
struct Matrix {
    const uint8_t* data;
    const float* scales;
    const float* bias;
    int32_t outputs;
    int32_t inputs;
    int32_t format;
    int32_t unused;
};

// gate_up: panels of 16 outputs of the gate and the same 16 of the other. q_norm, k_norm: null where there are none.
// rotary: number of the layer's tables, -1 for none.
struct Layer {
    Matrix qkv, out, gate_up, down;
    const float *norm1, *norm2, *q_norm, *k_norm;
    int64_t rotary;
};

// embedding: (vocabulary, dim) in bf16 or float32. turned: width of each rotary's tables; adjacent: of each, whether
// channels 2i, 2i + 1 are a pair instead of i, i + width / 2. cache_bf16: keys and values are bf16, else float32.
struct Decoder {
    const Layer* layers;
    const float* norm;
    const void* embedding;
    const int32_t* turned;
    const int32_t* adjacent;
    Matrix head;
    int32_t num_layers, dim, heads, kv_heads, head_dim, hidden;
    int32_t activation, embedding_bf16, cache_bf16;
    float eps, qk_eps, score_scale, embedding_scale;
};

// One new token of each row. lengths: tokens that the cache holds of each row. keys, values: of each layer, (rows, key
// heads, capacity, head width). cosines, sines: tables of each rotary, (places, turned); places: (rotaries, rows), which
// place of the table is the new token's. logits: (rows, outputs of the head). scratch: `beholder_scratch` bytes.
struct Step {
    const int64_t* ids;
    const int64_t* lengths;
    void* const* keys;
    void* const* values;
    const int64_t* capacities;
    const float* const* cosines;
    const float* const* sines;
    const int64_t* places;
    float* logits;
    uint8_t* scratch;
    int64_t rows;
};

using Parallel = void (*)(void (*work)(void*), void* argument, unsigned threads, unsigned flags);  // GOMP_parallel

// y = act(x w + bias). x: (rows, inputs), y: (rows, outputs), with so many numbers from row to row; both bf16, else float32. order:
// of a matrix that is `gate_up` of a layer with `half` hidden channels, y is (rows, half), activated, or (rows, 2 half), the
// gate before the other. scratch: `beholder_product_scratch` bytes, at a multiple of 64. parallel: runs work in so many
// threads, null for this one alone.
struct Product {
    Matrix matrix;
    const void* x;
    void* y;
    int64_t rows, x_stride, y_stride, half;
    uint8_t* scratch;
    Parallel parallel;
    int32_t threads, bf16, order, activation;
};

// Rows of heads, normed, then turned; x and y, which may be the same, are bf16 or float32, and so are cos and sin: (places,
// turned), for row r those of place r % places, null where nothing turns. The heads are normed in so many groups, each by
// itself; weight, bias: of all of a group's channels, `apart` from one group's to the next, or null. A plain norm has one head.
struct Heads {
    const void* x;
    void* y;
    const float *weight, *bias;
    const void *cos, *sin;
    int64_t rows, x_stride, y_stride, heads, width, groups, apart, places;
    Parallel parallel;
    int32_t threads, bf16, norm, turned, adjacent;
    float eps;
};

// y = act(x), times something where that is not null; x and it have so many numbers from row to row.
struct Active {
    const void *x, *times;
    void* y;
    int64_t rows, width, x_stride, y_stride;
    Parallel parallel;
    int32_t threads, bf16, activation, unused;
};
}

constexpr int64_t padded(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Where a step keeps what its phases hand on: the residual stream, projections, what attention gives, the MLP's inner
// channels (all float32); rows made ready for the next matrix, of all rows and one for each thread; how far phases are.
struct Scratch {
    int64_t dim, projected, attended, hidden, ready;       // width of a row; of `ready` in bytes
    int64_t at_projected, at_attended, at_hidden, at_ready, at_own, plain, at_plain, at_phases, phases, total;  // in bytes

    static Scratch of(const Decoder& d, int64_t rows, int64_t threads) {
        Scratch s{};
        const int64_t heads = int64_t(d.heads) * d.head_dim, shared = int64_t(d.kv_heads) * d.head_dim;
        s.dim = padded(d.dim, 64);
        s.projected = padded(heads + 2 * shared, 64);
        s.attended = padded(heads, 64);
        s.hidden = padded(d.hidden, 64);
        int64_t widest = s.dim > s.attended ? s.dim : s.attended;
        widest = widest > s.hidden ? widest : s.hidden;
        s.ready = padded(4 * widest + 2 * 4 * (widest / kGroup), 64) + 64;  // odd lines, so that rows share no cache set
        s.at_projected = 4 * rows * s.dim;
        s.at_attended = s.at_projected + 4 * rows * s.projected;
        s.at_hidden = s.at_attended + 4 * rows * s.attended;
        s.at_ready = s.at_hidden + 4 * rows * s.hidden;
        s.at_own = s.at_ready + rows * s.ready;
        s.at_plain = s.at_own + threads * s.ready;
        s.plain = 4 * widest;
        s.at_phases = s.at_plain + threads * s.plain;
        s.phases = padded(9 * int64_t(d.num_layers) + 3, 8);
        s.total = s.at_phases + 8 * (1 + threads) * s.phases;
        return s;
    }
};
