// Resampling of 8-bit RGB pictures, and their values as normalised planes.
//
// The arithmetic is Pillow's (Resample.c), so the pixels are: weights of each axis in double precision, rounded to 22 bits
// behind the point; one axis after the other, 8 bits in between; sums in 32 bits, rounded, clamped.
//
// What is fast: sixteen rows go through the pass along rows together, turned so that a vector holds one column of them; the
// pass along columns needs rows that were just made and are still in the cache; only the rows and columns asked for are
// computed. With AVX-512 VNNI a weight is three signed digits of 8 bits, and a product of four pixels is one instruction.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "resize_passes.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr double PI = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double triangle(double x) { return std::max(1.0 - std::fabs(x), 0.0); }

double hamming(double x) {
    x = std::fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= PI;
    return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));
}

double cubic(double x) {  // Keys' kernel, a = -0.5
    x = std::fabs(x);
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * -0.5;
    return 0.0;
}

double sinc(double x) { return x == 0.0 ? 1.0 : std::sin(x * PI) / (x * PI); }

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
    double (*value)(double);
    double support;
};

// By Pillow's numbers; 0 is nearest, which is no filter.
constexpr Filter FILTERS[] = {{nullptr, 0}, {lanczos, 3}, {triangle, 1}, {cubic, 2}, {box, 0.5}, {hamming, 1}};
constexpr int NUM_FILTERS = sizeof(FILTERS) / sizeof(FILTERS[0]);

Axis make_axis(int in, int out, int from, int to, const Filter& filter) {
    Axis axis;
    axis.from = from, axis.to = to;
    const double scale = double(in) / out, stretch = std::max(scale, 1.0), inverse = 1.0 / stretch;
    const double support = filter.support * stretch;
    std::vector<double> values;
    for (int i = from; i < to; ++i) {
        const double centre = (i + 0.5) * scale;
        const int first = std::max(int(centre - support + 0.5), 0);
        const int count = std::min(int(centre + support + 0.5), in) - first;
        double sum = 0.0;
        values.resize(count);
        for (int k = 0; k < count; ++k) sum += values[k] = filter.value((k + first - centre + 0.5) * inverse);
        axis.first.push_back(first);
        axis.count.push_back(count);
        axis.start.push_back(int(axis.weights.size()));
        axis.longest = std::max(axis.longest, count);
        for (double value : values) {
            if (sum != 0.0) value /= sum;
            axis.weights.push_back(int32_t((value < 0 ? -0.5 : 0.5) + value * (1 << BITS)));
        }
    }
    return axis;
}

// Digits of the weights in groups of four pixels that start at a multiple of `align`.
void add_digits(Axis& axis, int align) {
    for (size_t i = 0; i < axis.first.size(); ++i) {
        const int skip = axis.first[i] % align, groups = (skip + axis.count[i] + 3) / 4;
        axis.group_first.push_back(axis.first[i] - skip);
        axis.groups.push_back(groups);
        axis.group_start.push_back(int(axis.digits.size()));
        axis.digits.resize(axis.digits.size() + 3 * groups);
        uint32_t* words = &axis.digits[axis.group_start.back()];
        for (int k = 0; k < axis.count[i]; ++k) {
            int32_t rest = axis.weights_of(int(i))[k];
            for (int digit = 0; digit < 3; ++digit) {
                const int8_t low = int8_t(rest & 255);
                words[(skip + k) / 4 * 3 + digit] |= uint32_t(u8(low)) << ((skip + k) % 4 * 8);
                rest = (rest - low) >> 8;
            }
        }
    }
}

// ---- Both passes

struct Job {
    const u8* source;
    int64_t stride;  // bytes from row to row of the source
    int height, width;
    u8* target;  // rows without gaps
    bool resizes_rows, resizes_columns, columns_first;
    const Axis *across, *down;
    Passes passes;

    int out_width() const { return across->to - across->from; }
    const u8* source_row(int y) const { return source + stride * y; }
    u8* target_row(int y) const { return target + int64_t(y - down->from) * out_width() * 3; }
};

// Rows of the output, counted from down->from.
void band(const Job& job, int begin, int end) {
    Scratch scratch;
    const Axis &across = *job.across, &down = *job.down;
    const size_t out_bytes = size_t(job.out_width()) * 3;
    const int longest = job.resizes_columns ? down.longest : 1;
    std::vector<const u8*> rows(std::max(longest, STRIP));

    auto strip = [&](const u8* const* given, u8* const* out, int live) {
        const u8* in[STRIP];
        for (int i = 0; i < STRIP; ++i) in[i] = given[std::min(i, live - 1)];
        job.passes.rows(in, job.width, out, live, across, scratch);
    };

    if (!job.resizes_rows) {  // the columns asked for, of source rows
        const size_t offset = size_t(across.from) * 3;
        for (int i = begin; i < end; ++i) {
            u8* out = job.target_row(down.from + i);
            for (int k = 0; k < down.count[i]; ++k) rows[k] = job.source_row(down.first[i] + k) + offset;
            job.passes.columns(rows.data(), int(out_bytes), out, down, i);
        }
        return;
    }
    if (!job.resizes_columns || job.columns_first) {
        // Whole groups of four pixels, as the pass along rows may read.
        const int left = across.begin() / 4 * 4, wide = std::min((across.end() + 3) / 4 * 4, job.width) - left;
        std::vector<u8> made(job.resizes_columns ? size_t(STRIP) * wide * 3 : 0);
        for (int i = begin; i < end; i += STRIP) {
            const int live = std::min(STRIP, end - i);
            const u8* in[STRIP];
            u8* out[STRIP];
            for (int j = 0; j < live; ++j) {
                out[j] = job.target_row(down.from + i + j);
                if (!job.resizes_columns) {
                    in[j] = job.source_row(down.from + i + j);
                    continue;
                }
                u8* row = made.data() + size_t(j) * wide * 3;
                for (int k = 0; k < down.count[i + j]; ++k)
                    rows[k] = job.source_row(down.first[i + j] + k) + size_t(left) * 3;
                job.passes.columns(rows.data(), wide * 3, row, down, i + j);
                in[j] = row - size_t(left) * 3;
            }
            strip(in, out, live);
        }
        return;
    }
    // Rows in a ring, each made once, shortly before it is needed.
    const int size = longest + STRIP, last = down.first[end - 1] + down.count[end - 1];
    std::vector<u8> ring(size_t(size) * out_bytes);
    int next = down.first[begin];
    for (int i = begin; i < end; ++i) {
        while (next < down.first[i] + down.count[i]) {
            const int live = std::min(STRIP, last - next);
            const u8* in[STRIP];
            u8* out[STRIP];
            for (int j = 0; j < live; ++j) {
                in[j] = job.source_row(next + j);
                out[j] = ring.data() + size_t((next + j) % size) * out_bytes;
            }
            strip(in, out, live);
            next += live;
        }
        for (int k = 0; k < down.count[i]; ++k) rows[k] = ring.data() + size_t((down.first[i] + k) % size) * out_bytes;
        job.passes.columns(rows.data(), int(out_bytes), job.target_row(down.from + i), down, i);
    }
}

// `work` on [0, count) in so many parts, the first on this thread. Where no thread can be started its part is done here.
template <typename Work>
void share(int count, int parts, const Work& work) {
    parts = std::max(1, std::min(parts, count));
    std::vector<std::thread> threads;
    threads.reserve(parts);
    for (int part = 1; part < parts; ++part) {
        const int begin = int(int64_t(count) * part / parts), end = int(int64_t(count) * (part + 1) / parts);
        try {
            threads.emplace_back([&work, begin, end] { work(begin, end); });
        } catch (const std::system_error&) {
            work(begin, end);
        }
    }
    work(0, count / parts);
    for (std::thread& thread : threads) thread.join();
}

template <typename Value>
void planes(const u8* source, int64_t stride, int begin, int end, int width, int64_t plane, const Value* table, Value* out) {
    const Value *red = table, *green = table + 256, *blue = table + 512;
    for (int y = begin; y < end; ++y) {
        const u8* p = source + stride * y;
        Value *r = out + int64_t(y) * width, *g = r + plane, *b = g + plane;
        for (int x = 0; x < width; ++x, p += 3) {
            r[x] = red[p[0]];
            g[x] = green[p[1]];
            b[x] = blue[p[2]];
        }
    }
}

}  // namespace

// The best of the instruction sets (0 portable, 1 AVX2, 2 AVX-512 VNNI) that this processor has; -1 where bytes of a word lie
// the other way round, which the portable one does not know.
EXPORTED int beholder_resize_isa() { return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? best_isa() : -1; }

// The pixels [y0, y1) x [x0, x1) of the picture (height, width, 3) resized to (out_height, out_width), into `target`, which
// has no gaps. 0, or 1 for arguments that make no sense, 2 where memory is short.
EXPORTED int beholder_resize(
    const u8* source, int64_t stride, int height, int width, u8* target, int out_height, int out_width, int y0, int x0,
    int y1, int x1, int filter, int columns_first, int threads, int isa) {
    const bool sizes = height > 0 && width > 0 && 0 <= y0 && y0 < y1 && y1 <= out_height && 0 <= x0 && x0 < x1 && x1 <= out_width;
    if (!sizes || filter < 1 || filter >= NUM_FILTERS || isa < 0 || isa > best_isa()) return 1;
    try {
        Axis across = make_axis(width, out_width, x0, x1, FILTERS[filter]);
        Axis down = make_axis(height, out_height, y0, y1, FILTERS[filter]);
        if (isa == VNNI) add_digits(across, 4), add_digits(down, 1);
        const Job job{source, stride, height, width, target, out_width != width, out_height != height,
                      columns_first != 0, &across, &down, PASSES[isa]};
        std::atomic<bool> failed{false};
        share(y1 - y0, threads, [&](int begin, int end) {
            try {
                band(job, begin, end);
            } catch (const std::bad_alloc&) {
                failed = true;
            }
        });
        return failed ? 2 : 0;
    } catch (const std::bad_alloc&) {
        return 2;
    }
}

// (height, width, 3) bytes to three planes of (height, width) values of `size` bytes, 2 or 4, by a table (3, 256) of them.
EXPORTED int beholder_planes(
    const u8* source, int64_t stride, int height, int width, const void* table, void* target, int size, int threads) {
    if (size != 2 && size != 4) return 1;
    const int64_t plane = int64_t(height) * width;
    share(height, threads, [&](int begin, int end) {
        if (size == 2)
            planes(source, stride, begin, end, width, plane, static_cast<const uint16_t*>(table), static_cast<uint16_t*>(target));
        else
            planes(source, stride, begin, end, width, plane, static_cast<const uint32_t*>(table), static_cast<uint32_t*>(target));
    });
    return 0;
}
