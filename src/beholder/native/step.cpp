// One token through the decoder, as one thread of a crew; products of many rows with its matrices, and what happens to rows in
// between. Compiled once for each instruction set, which STEP names.
#if defined(SIMD_AVX512)
#include "simd_avx512.h"
#elif defined(SIMD_AVX2)
#include "simd_avx2.h"
#elif defined(SIMD_NEON)
#include "simd_neon.h"
#else
#include "simd_portable.h"
#endif

#include "linear.h"
#include "attention.h"
#include "product.h"
#include "rows.h"
#include "threads.h"

namespace {

constexpr int64_t kPieces = 4;  // of each thread's share, which others may take

class Worker {
public:
    Worker(const Decoder& decoder, const Step& step, Crew& crew)
        : d(decoder), s(step), crew(crew),
          sizes(Scratch::of(decoder, step.rows, crew.threads)),
          x((float*)s.scratch),
          projected((float*)(s.scratch + sizes.at_projected)),
          attended((float*)(s.scratch + sizes.at_attended)),
          hidden((float*)(s.scratch + sizes.at_hidden)),
          plain((float*)(s.scratch + sizes.at_plain + crew.thread * sizes.plain)) {}

    void run() {
        embed();
        for (int64_t i = 0; i < d.num_layers; ++i) {
            const Layer& l = d.layers[i];
            linear(l.qkv, x, sizes.dim, l.norm1, d.eps, [&](int64_t row, int64_t panel, const float* y) {
                put(projected + row * sizes.projected + panel * kPanel, y);
            });
            attend_to_cache(i);
            const auto to_residual = [&](int64_t row, int64_t panel, const float* y) {
                float* place = x + row * sizes.dim + panel * kPanel;
                store(place, add(load(place), load(y)));
                store(place + 16, add(load(place + 16), load(y + 16)));
            };
            linear(l.out, attended, sizes.attended, nullptr, 0, to_residual);
            linear(l.gate_up, x, sizes.dim, l.norm2, d.eps, [&](int64_t row, int64_t panel, const float* y) {
                store(hidden + row * sizes.hidden + panel * 16, mul(activated(load(y), d.activation), load(y + 16)));
            });
            linear(l.down, hidden, sizes.hidden, nullptr, 0, to_residual);
        }
        linear(d.head, x, sizes.dim, d.norm, d.eps, [&](int64_t row, int64_t panel, const float* y) {
            const int64_t left = d.head.outputs - panel * kPanel;
            float* place = s.logits + row * d.head.outputs + panel * kPanel;
            if (left >= kPanel) return put(place, y);
            __builtin_memcpy(place, y, 4 * left);
        });
    }

private:
    static void put(float* place, const float* y) {
        store(place, load(y));
        store(place + 16, load(y + 16));
    }

    // Scratch memory holds anything: what lies beyond a row's end must be zero, since products read it.
    void embed() {
        const auto nothing = [] {};
        crew.share(s.rows, kPieces, nothing, [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) embed_row(row);
        });
    }

    void embed_row(int64_t row) {
        float* to = x + row * sizes.dim;
        const int64_t from = s.ids[row] * d.dim;
        for (int64_t c = 0; c < sizes.dim; c += 16) {
            const int64_t left = d.dim - c;
            const int here = left < 16 ? (left < 0 ? 0 : int(left)) : 16;
            const F words = d.embedding_bf16 ? read_some((const uint16_t*)d.embedding + from + c, here)
                                             : read_some((const float*)d.embedding + from + c, here);
            store(to + c, mul(words, all(d.embedding_scale)));
        }
        for (int64_t c = int64_t(d.heads) * d.head_dim; c < sizes.attended; ++c) attended[row * sizes.attended + c] = 0;
        for (int64_t c = d.hidden; c < sizes.hidden; ++c) hidden[row * sizes.hidden + c] = 0;
    }

    // Each row times a matrix. One row is made ready by every thread for itself, several by turns.
    template <class Take>
    void linear(const Matrix& m, const float* from, int64_t stride, const float* norm, float eps, Take take) {
        const bool alone = s.rows == 1;
        uint8_t* ready = s.scratch + (alone ? sizes.at_own + crew.thread * sizes.ready : sizes.at_ready);
        const auto nothing = [] {};
        const auto make = [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                make_ready(from + row * stride, m, norm, eps, ready + row * sizes.ready, plain);
            }
        };
        if (!alone) crew.share(s.rows, kPieces, nothing, make);
        const auto prepare = [&] {
            if (alone) make(0, 1);
        };
        const int64_t panels = padded(m.outputs, kPanel) / kPanel;
        crew.share(panels, kPieces, prepare, [&](int64_t begin, int64_t end) {
            multiply(m, begin, end, ready, sizes.ready, s.rows, take);
        });
    }

    // Groups of query heads with the same keys are shared out, or single heads where there are few groups.
    void attend_to_cache(int64_t layer) {
        const int group = d.heads / d.kv_heads;
        const bool whole = s.rows * d.kv_heads >= 2 * crew.threads;
        const int64_t unit = whole ? group : 1;
        const auto nothing = [] {};
        crew.share(s.rows * d.heads / unit, whole ? kPieces : 1, nothing, [&](int64_t begin, int64_t end) {
            for (int64_t next = begin * unit; next < end * unit;) {
                const int64_t row = next / d.heads;
                const int first = int(next % d.heads), in_group = first % group;
                int heads = group - in_group;
                heads = heads < kMostHeads ? heads : kMostHeads;
                heads = heads < end * unit - next ? heads : int(end * unit - next);
                const int64_t then = next + heads < end * unit ? (next + heads) / group : -1;
                attend_some(layer, row, first, heads, then);
                next += heads;
            }
        });
    }

    void attend_some(int64_t layer, int64_t row, int first, int heads, int64_t then) {
        const int group = d.heads / d.kv_heads, shared = first / group;
        const bool keeps = first % group == 0;
        const float* from = projected + row * sizes.projected;
        float* to = attended + row * sizes.attended + int64_t(first) * d.head_dim;
        if (d.cache_bf16) {
            attend<uint16_t>(d, s, layer, row, first, heads, shared, keeps, then, from, to);
        } else {
            attend<float>(d, s, layer, row, first, heads, shared, keeps, then, from, to);
        }
    }

    const Decoder& d;
    const Step& s;
    Crew& crew;
    const Scratch sizes;
    float *x, *projected, *attended, *hidden, *plain;
};

}  // namespace

void STEP(const Decoder& decoder, const Step& step, Crew& crew) { Worker(decoder, step, crew).run(); }

void STEP(const Product& product) {
    const Portion sizes(product);
    for (int64_t first = 0; first < product.rows; first += sizes.rows) Multiplied(product, sizes, first).run();
}

int64_t STEP(const Product* product) { return Portion(*product).total; }

void STEP(const Heads& h) {
    Shared(h.rows, h.parallel, h.threads, [&h](int64_t row) {
        h.bf16 ? heads_of_row<uint16_t>(h, row) : heads_of_row<float>(h, row);
    });
}

void STEP(const Active& a) { activate(a); }
