// The rasterizer on the CPU: a plain C ABI over pointers and sizes, loaded with ctypes.
//
// Forward: Gaussians are binned into tiles (count, scan, fill), and one thread draws each tile into its own canvas,
// with the Gaussians in the given order. A Gaussian is drawn in the same way wherever tiles and the region cut it.
// Backward: each Gaussian gathers from its pixels. Threads share nothing. So results are the same, bit for bit, with any
// number of threads, and a picture drawn in parts, strips or rectangles, is the same as the whole.
//
// The inner loops use vectors of the size that the instruction set has, because compilers split the comparisons of
// larger ones into scalars. The best variant for the processor is chosen at load time.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "gaussian.h"

namespace {

using gsr::Gaussian;
using gsr::Moments;
using gsr::Range;
using gsr::View;

#define INLINE inline __attribute__((always_inline))

constexpr int kTileRows = 32, kTileColumns = 256;
constexpr int kMostVectors = 4; // across a box whose rows are not cut
constexpr int kMargin = 64;     // columns of a canvas on each side of its tile, for what overhangs
constexpr int kBlock = 16;  // Gaussians projected at a time
constexpr std::int64_t kGaussiansPerTask = 4096;
constexpr float kLargestQ = 174.67f; // beyond it, weights are denormal in float32

template <int kLanes>
struct Vector {
    typedef float Floats __attribute__((vector_size(4 * kLanes)));
    typedef std::uint32_t Bits __attribute__((vector_size(4 * kLanes)));
};

template <int kLanes>
using Lanes = typename Vector<kLanes>::Floats;

struct Field {
    const float* centre; // (batch, count, 2)
    const float* sigma;  // (batch, count, 2)
    const float* rho;    // (batch, count)
    const float* value;  // (batch, count, channels)
    std::int64_t batch, count, channels;
};

struct FieldGradient {
    float *centre, *sigma, *rho, *value; // same shapes as in Field
};

template <int kLanes>
INLINE void load(Lanes<kLanes>& lanes, const float* from) {
    std::memcpy(&lanes, from, sizeof lanes);
}

template <int kLanes>
INLINE void load_first(Lanes<kLanes>& lanes, const float* from, std::int64_t count) {
    if (count >= kLanes) return load<kLanes>(lanes, from);
    lanes = Lanes<kLanes>{};
    std::memcpy(&lanes, from, sizeof(float) * count);
}

template <int kLanes>
INLINE void store(float* to, const Lanes<kLanes>& lanes) {
    std::memcpy(to, &lanes, sizeof lanes);
}

template <int kLanes>
INLINE float sum(const Lanes<kLanes>& lanes) {
    float total = 0;
    for (int i = 0; i < kLanes; ++i) total += lanes[i];
    return total;
}

// 0, 1, 2, …
template <int kLanes>
INLINE void count_up(Lanes<kLanes>& lanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i] = (float)i;
}

// 2^x for -126 <= x <= 0, with a relative error below 2e-7; for smaller x, anything.
template <int kLanes>
INLINE void exp2_negative(Lanes<kLanes>& x) {
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    const Lanes<kLanes> rounded = x + magic;
    const Lanes<kLanes> f = x - (rounded - magic); // in [-1/2, 1/2]
    Lanes<kLanes> p = f * 1.327647156e-3f + 9.675541373e-3f; // minimax on that interval
    p = p * f + 5.550713275e-2f;
    p = p * f + 2.402211972e-1f;
    p = p * f + 6.931469671e-1f;
    p = p * f + 1.000000072f;
    typename Vector<kLanes>::Bits exponent, result;
    std::memcpy(&exponent, &rounded, sizeof exponent);
    std::memcpy(&result, &p, sizeof result);
    result += exponent << 23;
    std::memcpy(&x, &result, sizeof x);
}

// t at the pixels from column x on, on the row where v is 0. A pixel's t is the same whichever lane computes it.
template <int kLanes>
INLINE void t_along(const gsr::Whitening& whitening, float distance, float remainder, Lanes<kLanes>& t) {
    Lanes<kLanes> dx;
    count_up<kLanes>(dx);
    dx = (dx + distance) - remainder;
    gsr::t_along(whitening, dx, t);
}

// q and exp(−q/2) at t, on the row at v; where q exceeds kLargestQ, any weight.
template <int kLanes>
INLINE void weights_at(const Lanes<kLanes>& t, float v, Lanes<kLanes>& q, Lanes<kLanes>& weight) {
    gsr::q_of(t, v * v, q);
    weight = q * -gsr::kHalfLog2e;
    exp2_negative<kLanes>(weight);
}

template <int kLanes>
INLINE void keep_where_drawn(const Lanes<kLanes>& q, float q_max, Lanes<kLanes>& weight) {
    weight = q <= q_max - Lanes<kLanes>{} ? weight : Lanes<kLanes>{};
}

template <int kLanes>
INLINE void keep_first(std::int64_t count, Lanes<kLanes>& weight) {
    Lanes<kLanes> index;
    count_up<kLanes>(index);
    weight = index < (float)count - Lanes<kLanes>{} ? weight : Lanes<kLanes>{};
}

// How many vectors cover a row of a Gaussian's box, if it is drawn on its whole box, where q decides which pixels are
// drawn; 0 if its rows are cut to the ellipse first, as those of wide ones are, and all if there is a window.
template <int kLanes>
INLINE int vectors_across(std::int64_t columns, const View& view) {
    const bool whole = columns <= kMostVectors * kLanes && view.window_x == INFINITY && view.window_y == INFINITY;
    return whole ? (int)(columns + kLanes - 1) / kLanes : 0;
}

// ---- projection ----------------------------------------------------------------------------------------

// Gaussians side by side, so that the compiler projects them in vectors, with their boxes, not clipped to the region.
// Those that touch no pixel have empty boxes.
struct Block {
    float x[kBlock], y[kBlock];
    float slope[kBlock], skew[kBlock], inverse_y[kBlock];
    int column[kBlock], row[kBlock];
    int left[kBlock], right[kBlock], top[kBlock], bottom[kBlock];
};

INLINE void project(const float* centre, const float* sigma, const float* rho, const View& view, Block& block) {
    for (int i = 0; i < kBlock; ++i) {
        Gaussian g;
        const bool drawn = gsr::project(centre, sigma, rho, i, view, g);
        block.x[i] = g.x;
        block.y[i] = g.y;
        block.slope[i] = g.whitening.slope;
        block.skew[i] = g.whitening.skew;
        block.inverse_y[i] = g.whitening.inverse_y;
        block.column[i] = g.column;
        block.row[i] = g.row;
        const Range columns = gsr::columns_of(g), rows = gsr::rows_of(g);
        block.left[i] = drawn ? (int)columns.begin : 0;
        block.right[i] = drawn ? (int)columns.end : 0;
        block.top[i] = drawn ? (int)rows.begin : 0;
        block.bottom[i] = drawn ? (int)rows.end : 0;
    }
}

// Project up to kBlock Gaussians at `indices`, ascending; repeat the last.
INLINE void project(const Field& field, const std::int64_t* indices, std::int64_t count, const View& view,
                    Block& block) {
    if (count == kBlock && indices[kBlock - 1] - indices[0] == kBlock - 1) {
        const std::int64_t first = indices[0];
        return project(field.centre + 2 * first, field.sigma + 2 * first, field.rho + first, view, block);
    }
    float centre[2 * kBlock], sigma[2 * kBlock], rho[kBlock];
    for (int i = 0; i < kBlock; ++i) {
        const std::int64_t index = indices[std::min<std::int64_t>(i, count - 1)];
        std::memcpy(centre + 2 * i, field.centre + 2 * index, 2 * sizeof(float));
        std::memcpy(sigma + 2 * i, field.sigma + 2 * index, 2 * sizeof(float));
        rho[i] = field.rho[index];
    }
    project(centre, sigma, rho, view, block);
}

INLINE bool project(const Field& field, std::int64_t index, const View& view, Gaussian& g) {
    return gsr::project(field.centre, field.sigma, field.rho, index, view, g);
}

// ---- forward -------------------------------------------------------------------------------------------

struct Tile {
    std::int64_t batch;
    Range rows, columns;             // of the region
    const std::int64_t *begin, *end; // indices of the Gaussians that reach it, ascending
    float* canvas;                   // (rows, channels, stride), zeroed; lines begin kMargin columns before the tile
    std::int64_t stride;

    INLINE float* line(std::int64_t y, std::int64_t channels) const {
        return canvas + (y - rows.begin) * channels * stride + kMargin - columns.begin;
    }
};

template <int kLanes>
INLINE void add(const Lanes<kLanes>& weight, const float* value, std::int64_t channels, std::int64_t stride,
                float* at) {
    for (std::int64_t c = 0; c < channels; ++c) {
        Lanes<kLanes> pixels;
        load<kLanes>(pixels, at + c * stride);
        pixels += weight * value[c];
        store<kLanes>(at + c * stride, pixels);
    }
}

// Draw a Gaussian of a block on its whole box, kVectors wide.
template <int kLanes, int kVectors>
INLINE void draw_box(const Block& block, int i, float q_max, const float* value, std::int64_t channels,
                     const Tile& tile) {
    const std::int64_t stride = tile.stride;
    const gsr::Whitening whitening = {block.slope[i], block.skew[i], block.inverse_y[i]};
    const std::int64_t begin = std::max<std::int64_t>(block.top[i], tile.rows.begin);
    const std::int64_t end = std::min<std::int64_t>(block.bottom[i], tile.rows.end);
    Lanes<kLanes> start[kVectors];
    for (int n = 0; n < kVectors; ++n) {
        const float distance = (float)(block.left[i] + n * kLanes - block.column[i]);
        t_along<kLanes>(whitening, distance, block.x[i], start[n]);
    }
    float* at = tile.line(begin, channels) + block.left[i];
    const int first = (int)begin - block.row[i], rows = (int)(end - begin);
    const float remainder = block.y[i];
    for (int row = 0; row < rows; ++row, at += channels * stride) {
        const float v = gsr::v_of(whitening, (float)(first + row) - remainder);
        const float shift = gsr::shift_of(whitening, v);
        for (int n = 0; n < kVectors; ++n) {
            Lanes<kLanes> q, weight;
            weights_at<kLanes>(start[n] + shift, v, q, weight);
            keep_where_drawn<kLanes>(q, q_max, weight);
            add<kLanes>(weight, value, channels, stride, at + n * kLanes);
        }
    }
}

// Draw a Gaussian row by row.
template <int kLanes>
INLINE void draw_rows(const Gaussian& g, const View& view, const float* value, std::int64_t channels,
                      const Tile& tile) {
    const Range box = gsr::rows_of(g);
    const std::int64_t end = std::min<std::int64_t>(box.end, tile.rows.end);
    for (std::int64_t y = std::max<std::int64_t>(box.begin, tile.rows.begin); y < end; ++y) {
        const float v = gsr::v_of(g, y), shift = gsr::shift_of(g.whitening, v);
        const Range columns = gsr::columns_of(g, v, view);
        const std::int64_t last = std::min<std::int64_t>(columns.end, tile.columns.end);
        float* line = tile.line(y, channels);
        for (std::int64_t x = std::max<std::int64_t>(columns.begin, tile.columns.begin); x < last; x += kLanes) {
            Lanes<kLanes> t, q, weight;
            t_along<kLanes>(g.whitening, (float)(x - g.column), g.x, t);
            weights_at<kLanes>(t + shift, v, q, weight);
            keep_first<kLanes>(last - x, weight);
            add<kLanes>(weight, value, channels, tile.stride, line + x);
        }
    }
}

// kChannels = 0: the number of channels is known at run time only.
template <int kLanes, int kChannels>
INLINE void draw_tile(const Field& field, const View& view, const Tile& tile) {
    static_assert(kMostVectors * kLanes <= kMargin, "boxes overhang");
    const std::int64_t channels = kChannels ? kChannels : field.channels;
    const float q_max = (float)view.q_max;
    Block block;
    for (const std::int64_t* indices = tile.begin; indices < tile.end; indices += kBlock) {
        const std::int64_t count = std::min<std::int64_t>(kBlock, tile.end - indices);
        project(field, indices, count, view, block);
        for (int i = 0; i < count; ++i) {
            float copy[kChannels ? kChannels : 1]; // in registers: the compiler cannot know that no canvas overlaps it
            const float* value = field.value + indices[i] * channels;
            if (kChannels) {
                std::memcpy(copy, value, sizeof(float) * kChannels);
                value = copy;
            }
            switch (vectors_across<kLanes>(block.right[i] - block.left[i], view)) {
                case 1: draw_box<kLanes, 1>(block, i, q_max, value, channels, tile); break;
                case 2: draw_box<kLanes, 2>(block, i, q_max, value, channels, tile); break;
                case 3: draw_box<kLanes, 3>(block, i, q_max, value, channels, tile); break;
                case 4: draw_box<kLanes, 4>(block, i, q_max, value, channels, tile); break;
                default:
                    Gaussian g;
                    project(field, indices[i], view, g);
                    draw_rows<kLanes>(g, view, value, channels, tile);
            }
        }
    }
}

template <int kLanes>
INLINE void draw_tile_of(const Field& field, const View& view, const Tile& tile) {
    switch (field.channels) {
        case 1: return draw_tile<kLanes, 1>(field, view, tile);
        case 3: return draw_tile<kLanes, 3>(field, view, tile);
        case 4: return draw_tile<kLanes, 4>(field, view, tile);
        case 8: return draw_tile<kLanes, 8>(field, view, tile);
        default: return draw_tile<kLanes, 0>(field, view, tile);
    }
}

// ---- backward ------------------------------------------------------------------------------------------

// Add to the sums of one Gaussian what its pixels from column x on, on the row at v, contribute. image_gradient begins
// at the first of them.
template <int kLanes, int kChannels>
INLINE void gather_at(const Lanes<kLanes>& t, float v, const Lanes<kLanes>& weight, const float* image_gradient,
                      std::int64_t pixels, std::int64_t plane, const float* value, std::int64_t channels,
                      Moments<Lanes<kLanes>>& sums, Lanes<kLanes>* totals, float* value_gradient) {
    Lanes<kLanes> inner = {};
    for (std::int64_t c = 0; c < channels; ++c) {
        Lanes<kLanes> gradient;
        load_first<kLanes>(gradient, image_gradient + c * plane, pixels);
        inner += gradient * value[c];
        if (kChannels) {
            totals[kChannels ? c : 0] += gradient * weight;
        } else {
            value_gradient[c] += sum<kLanes>(gradient * weight);
        }
    }
    const Lanes<kLanes> s = inner * weight;
    sums.add(s, t, v);
}

// Gradients of one Gaussian's values, and the moments that give its geometry's gradients. image_gradient is its batch
// entry's, (channels, height, width).
template <int kLanes, int kChannels, bool kWholeBox>
INLINE void gather(const Field& field, const View& view, const float* image_gradient, std::int64_t index,
                   const Gaussian& g, const Range& box, float* value_gradient, Moments<float>& moments) {
    const std::int64_t channels = kChannels ? kChannels : field.channels;
    const std::int64_t plane = view.height * view.width;
    const float* value = field.value + index * channels;
    Moments<Lanes<kLanes>> sums = {};
    Lanes<kLanes> totals[kChannels ? kChannels : 1] = {};
    const Range rows = gsr::rows_of(g, view);
    for (std::int64_t y = rows.begin; y < rows.end; ++y) {
        const float v = gsr::v_of(g, y), shift = gsr::shift_of(g.whitening, v);
        const Range columns = kWholeBox ? box : gsr::columns_of(g, v, view);
        for (std::int64_t x = columns.begin; x < columns.end; x += kLanes) {
            Lanes<kLanes> t, q, weight;
            t_along<kLanes>(g.whitening, (float)(x - g.column), g.x, t);
            t += shift;
            weights_at<kLanes>(t, v, q, weight);
            if (kWholeBox) {
                keep_where_drawn<kLanes>(q, (float)view.q_max, weight);
            } else {
                keep_first<kLanes>(columns.end - x, weight);
            }
            const float* gradient = image_gradient + y * view.width + x;
            gather_at<kLanes, kChannels>(t, v, weight, gradient, view.width - x, plane, value, channels, sums, totals,
                                         value_gradient);
        }
    }
    for (int c = 0; c < kChannels; ++c) value_gradient[c] = sum<kLanes>(totals[c]);
    moments = {sum<kLanes>(sums.t), sum<kLanes>(sums.v), sum<kLanes>(sums.tt), sum<kLanes>(sums.tv),
               sum<kLanes>(sums.vv)};
}

template <int kLanes, int kChannels>
INLINE void gather_one(const Field& field, const View& view, const float* image_gradient, std::int64_t index,
                       const FieldGradient& out) {
    float* value_gradient = out.value + index * field.channels;
    std::fill_n(value_gradient, field.channels, 0.0f);
    gsr::GeometryGradient gradient = {0, 0, 0, 0, 0};
    Gaussian g;
    if (project(field, index, view, g)) {
        const Range box = gsr::columns_of(g, view);
        Moments<float> moments = {};
        if (vectors_across<kLanes>(box.end - box.begin, view)) {
            gather<kLanes, kChannels, true>(field, view, image_gradient, index, g, box, value_gradient, moments);
        } else {
            gather<kLanes, kChannels, false>(field, view, image_gradient, index, g, box, value_gradient, moments);
        }
        gradient = gsr::chain(moments, g, field.sigma[2 * index], field.sigma[2 * index + 1]);
    }
    out.centre[2 * index] = gradient.centre_x;
    out.centre[2 * index + 1] = gradient.centre_y;
    out.sigma[2 * index] = gradient.sigma_x;
    out.sigma[2 * index + 1] = gradient.sigma_y;
    out.rho[index] = gradient.rho;
}

struct Span {
    const float* image_gradient; // of the Gaussians' batch entry
    Range gaussians;
};

template <int kLanes>
INLINE void gather_span_of(const Field& field, const View& view, const Span& span, const FieldGradient& out) {
    for (std::int64_t index = span.gaussians.begin; index < span.gaussians.end; ++index) {
        switch (field.channels) {
            case 1: gather_one<kLanes, 1>(field, view, span.image_gradient, index, out); break;
            case 3: gather_one<kLanes, 3>(field, view, span.image_gradient, index, out); break;
            case 4: gather_one<kLanes, 4>(field, view, span.image_gradient, index, out); break;
            case 8: gather_one<kLanes, 8>(field, view, span.image_gradient, index, out); break;
            default: gather_one<kLanes, 0>(field, view, span.image_gradient, index, out);
        }
    }
}

// ---- binning -------------------------------------------------------------------------------------------

// The tiles of a region, row by row.
struct Tiling {
    std::int64_t across, down;

    explicit Tiling(const View& view)
        : across((view.width + kTileColumns - 1) / kTileColumns), down((view.height + kTileRows - 1) / kTileRows) {}

    std::int64_t count() const { return across * down; }
};

// The tiles that a Gaussian reaches: rows [top, bottom) and columns [left, right) of tiles.
struct Reach {
    std::int32_t top, bottom, left, right;

    bool operator==(const Reach& other) const {
        return top == other.top && bottom == other.bottom && left == other.left && right == other.right;
    }
};

// Find the tiles that each Gaussian of a range reaches.
INLINE void find_tiles_of(const Field& field, const View& view, const Range& range, Reach* reach) {
    Block block;
    std::int64_t some[kBlock];
    const int height = (int)view.height, width = (int)view.width;
    for (std::int64_t first = range.begin; first < range.end; first += kBlock) {
        const std::int64_t count = std::min<std::int64_t>(kBlock, range.end - first);
        for (int i = 0; i < count; ++i) some[i] = first + i;
        project(field, some, count, view, block);
        Reach tiles[kBlock];
        for (int i = 0; i < kBlock; ++i) {
            const int top = std::max(block.top[i], 0), bottom = std::min(block.bottom[i], height);
            const int left = std::max(block.left[i], 0), right = std::min(block.right[i], width);
            const bool reaches = (top < bottom) & (left < right);
            tiles[i].top = top / kTileRows;
            tiles[i].bottom = reaches ? (bottom + kTileRows - 1) / kTileRows : 0;
            tiles[i].left = left / kTileColumns;
            tiles[i].right = reaches ? (right + kTileColumns - 1) / kTileColumns : 0;
        }
        std::copy_n(tiles, count, reach + first);
    }
}

// ---- one variant of the kernels per instruction set ----------------------------------------------------

struct Kernels {
    const char* name;
    void (*draw_tile)(const Field&, const View&, const Tile&);
    void (*gather_span)(const Field&, const View&, const Span&, const FieldGradient&);
    void (*find_tiles)(const Field&, const View&, const Range&, Reach*);
};

#define GSR_VARIANT(NAME, LANES, ...)                                                                   \
    __VA_ARGS__ void draw_tile_##NAME(const Field& field, const View& view, const Tile& tile) {         \
        draw_tile_of<LANES>(field, view, tile);                                                         \
    }                                                                                                   \
    __VA_ARGS__ void gather_span_##NAME(const Field& field, const View& view, const Span& span,         \
                                        const FieldGradient& out) {                                     \
        gather_span_of<LANES>(field, view, span, out);                                                  \
    }                                                                                                   \
    __VA_ARGS__ void find_tiles_##NAME(const Field& field, const View& view, const Range& range,        \
                                       Reach* reach) {                                                  \
        find_tiles_of(field, view, range, reach);                                                       \
    }                                                                                                   \
    const Kernels kernels_##NAME = {#NAME, draw_tile_##NAME, gather_span_##NAME, find_tiles_##NAME};

GSR_VARIANT(baseline, 4)
#if defined(__x86_64__)
GSR_VARIANT(avx2, 8, __attribute__((target("avx2,fma"))))
GSR_VARIANT(avx512, 16,
            __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512"))))
#endif

const Kernels& best_kernels() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kernels_avx2;
#endif
    return kernels_baseline;
}

const Kernels* kernels = &best_kernels();

// ---- threads -------------------------------------------------------------------------------------------

// Run work(task) for every task in [0, tasks), on up to `threads` threads including this one.
template <class Work>
void parallel(int threads, std::int64_t tasks, const Work& work) {
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> failed{false};
    const auto run = [&] {
        try {
            for (std::int64_t task; (task = next.fetch_add(1)) < tasks;) work(task);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    };
    const auto helpers = std::min<std::int64_t>(threads, tasks) - 1;
    std::vector<std::thread> pool;
    for (std::int64_t i = 0; i < helpers; ++i) {
        try {
            pool.emplace_back(run);
        } catch (const std::exception&) {
            break; // no more threads available: the existing ones do all the work
        }
    }
    run();
    for (auto& helper : pool) helper.join();
    if (failed) throw std::bad_alloc();
}

Range share(std::int64_t total, std::int64_t parts, std::int64_t part) {
    return {total * part / parts, total * (part + 1) / parts};
}

// The Gaussians that reach each bin, in ascending order. A bin is a tile of a batch entry.
class Bins {
  public:
    Bins(const Field& field, const View& view, const Tiling& tiling, int threads) {
        const std::int64_t bins = field.batch * tiling.count(), parts = std::max(1, threads);
        const std::int64_t gaussians = field.batch * field.count;
        const std::unique_ptr<Reach[]> reach(new Reach[gaussians]);
        // ends[part][bin]: first the number of this part's Gaussians in the bin, later the end of its share.
        std::vector<std::int64_t> ends(parts * bins + 1, 0);
        parallel(threads, parts, [&](std::int64_t part) {
            const Range range = share(gaussians, parts, part);
            kernels->find_tiles(field, view, range, reach.get());
            for_each_bin(field.count, tiling, range, reach.get(), [&ends, first = part * bins](auto run, auto bin) {
                ends[first + bin] += run.end - run.begin;
            });
        });
        offsets_.resize(bins + 1);
        std::int64_t total = 0;
        for (std::int64_t bin = 0; bin < bins; ++bin) {
            offsets_[bin] = total;
            for (std::int64_t part = 0; part < parts; ++part) {
                const std::int64_t count = ends[part * bins + bin];
                ends[part * bins + bin] = total;
                total += count;
            }
        }
        offsets_[bins] = total;
        indices_.reset(new std::int64_t[total]);
        parallel(threads, parts, [&](std::int64_t part) {
            const auto put = [this, &ends, first = part * bins](auto run, auto bin) {
                std::int64_t& end = ends[first + bin];
                for (std::int64_t index = run.begin; index < run.end; ++index) indices_[end++] = index;
            };
            for_each_bin(field.count, tiling, share(gaussians, parts, part), reach.get(), put);
        });
    }

    const std::int64_t* begin(std::int64_t bin) const { return indices_.get() + offsets_[bin]; }
    const std::int64_t* end(std::int64_t bin) const { return indices_.get() + offsets_[bin + 1]; }

  private:
    // Call visit(run, bin) for each run of consecutive Gaussians of a range that reach the same tiles, and each bin
    // that it reaches. Models order their Gaussians row by row, so runs are long.
    template <class Visit>
    static void for_each_bin(std::int64_t count, const Tiling& tiling, const Range& range, const Reach* reach,
                             const Visit& visit) {
        Range run = {range.begin, range.begin};
        for (; run.begin < range.end; run.begin = run.end) {
            const std::int64_t batch = run.begin / count, last = std::min<std::int64_t>(range.end, (batch + 1) * count);
            const Reach tiles = reach[run.begin];
            while (run.end < last && reach[run.end] == tiles) ++run.end;
            for (std::int64_t y = tiles.top; y < tiles.bottom; ++y) {
                for (std::int64_t x = tiles.left; x < tiles.right; ++x) {
                    visit(run, batch * tiling.count() + y * tiling.across + x);
                }
            }
        }
    }

    std::vector<std::int64_t> offsets_;
    std::unique_ptr<std::int64_t[]> indices_;
};

Range part_of(std::int64_t number, int length, std::int64_t limit) {
    return {number * length, std::min((number + 1) * length, limit)};
}

void forward(const Field& field, const View& view, float* image, int threads) {
    const Tiling tiling(view);
    const Bins bins(field, view, tiling, threads);
    parallel(threads, field.batch * tiling.count(), [&](std::int64_t bin) {
        thread_local std::vector<float> canvas; // kept between tiles and calls
        const std::int64_t number = bin % tiling.count();
        Tile tile;
        tile.batch = bin / tiling.count();
        tile.rows = part_of(number / tiling.across, kTileRows, view.height);
        tile.columns = part_of(number % tiling.across, kTileColumns, view.width);
        tile.begin = bins.begin(bin);
        tile.end = bins.end(bin);
        const std::int64_t columns = tile.columns.end - tile.columns.begin;
        tile.stride = columns + 2 * kMargin;
        canvas.assign((tile.rows.end - tile.rows.begin) * field.channels * tile.stride, 0.0f);
        tile.canvas = canvas.data();
        kernels->draw_tile(field, view, tile);
        for (std::int64_t y = tile.rows.begin; y < tile.rows.end; ++y) {
            for (std::int64_t c = 0; c < field.channels; ++c) {
                const float* line = tile.line(y, field.channels) + c * tile.stride + tile.columns.begin;
                float* to = image + ((tile.batch * field.channels + c) * view.height + y) * view.width;
                std::copy_n(line, columns, to + tile.columns.begin);
            }
        }
    });
}

void backward(const Field& field, const View& view, const float* image_gradient, const FieldGradient& out,
              int threads) {
    const std::int64_t spans = (field.count + kGaussiansPerTask - 1) / kGaussiansPerTask;
    parallel(threads, field.batch * spans, [&](std::int64_t task) {
        const std::int64_t batch = task / spans, begin = task % spans * kGaussiansPerTask;
        const std::int64_t end = std::min(begin + kGaussiansPerTask, field.count);
        const Span span = {image_gradient + batch * field.channels * view.height * view.width,
                           {batch * field.count + begin, batch * field.count + end}};
        kernels->gather_span(field, view, span, out);
    });
}

View drawable(View view) {
    view.q_max = std::min<double>(view.q_max, kLargestQ);
    return view;
}

} // namespace

extern "C" {

// Incremented when a signature or a struct changes, so that a stale library is never called.
int gsr_abi_version() { return 2; }

const char* gsr_instruction_set() { return kernels->name; }

// Both functions return 0, or 1 if memory ran out.
int gsr_rasterize(const Field* field, const View* view, float* image, int threads) {
    try {
        forward(*field, drawable(*view), image, threads);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}

int gsr_rasterize_backward(const Field* field, const View* view, const float* image_gradient,
                           const FieldGradient* out, int threads) {
    try {
        backward(*field, drawable(*view), image_gradient, *out, threads);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}
}
