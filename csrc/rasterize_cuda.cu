// The rasterizer on NVIDIA GPUs. Compiled at run time by NVRTC for GSR_CHANNELS channels; the loader,
// gsrcli/rasterizer/cuda.py, replaces the #include by gaussian.h and defines the constants that it shares with the
// kernels, the names in capitals.
//
// Forward: the field is a tree of boxes. A Gaussian's box contains its pixels; 32 consecutive boxes make one box of the
// next level, and so on, three levels up. A warp draws a tile of 8×8 pixels: it walks down the boxes that meet its
// tile, 32 at a time, and adds the Gaussians that it reaches, in the order of the field, in registers. Nothing is
// sorted, no lists are kept, the host never waits for a size, and no two warps write the same pixel, so results repeat
// bit for bit. Models order their Gaussians row by row, so boxes are tight. Tiles are aligned to multiples of 8 in the
// whole picture, wherever the drawn region begins, so a strip's pixels equal the whole picture's bit for bit.
//
// Backward: 8 lanes gather from the pixels of one Gaussian's box, and their sums are added in a fixed order.
//
// Warps never wait for each other: every collective operation below is within a warp. Kernels take only pointers,
// `long long` and `double`, each 8 bytes wide, so that a launch need not know their types.
#include "gaussian.h"

namespace {

using gsr::Gaussian;
using gsr::Moments;
using gsr::Range;
using gsr::View;

constexpr int kChannels = GSR_CHANNELS;
constexpr int kWarp = GSR_WARP;
constexpr int kTile = GSR_TILE;
constexpr int kTilesAcross = GSR_TILES_ACROSS;
constexpr int kLevels = GSR_LEVELS;
constexpr int kGathering = GSR_GATHERING;
constexpr unsigned kAll = 0xffffffffu; // all lanes of a warp

static_assert(kTile * kTile == 2 * kWarp, "a lane draws two pixels");
static_assert(kLevels == 4, "the kernels' parameters name each level");

// Pixels from (x0, y0) to (x1, y1) of the region, inclusive; empty if x0 > x1. May lie outside the region.
struct __align__(16) Box {
    int x0, y0, x1, y1;
};
static_assert(sizeof(Box) == GSR_BOX * sizeof(int), "as allocated");

// What drawing a Gaussian needs, except its values. t and v are √(½·log2 e) times gaussian.h's.
struct __align__(16) Record {
    float x, y;
    gsr::Whitening whitening;
    int column, row;
    int unused;
};
static_assert(sizeof(Record) == GSR_RECORD * sizeof(float), "as allocated");

__device__ __forceinline__ int lane_of_warp() { return threadIdx.x % kWarp; }

__device__ __forceinline__ long long warp_of_grid() {
    return ((long long)blockIdx.x * blockDim.x + threadIdx.x) / kWarp;
}

__device__ __forceinline__ Box empty_box() { return {0x7fffffff, 0x7fffffff, -0x7fffffff, -0x7fffffff}; }

__device__ __forceinline__ bool meet(const Box& a, const Box& b) {
    return a.x0 <= b.x1 && b.x0 <= a.x1 && a.y0 <= b.y1 && b.y0 <= a.y1;
}

// The smallest box that contains the boxes of a warp's lanes.
__device__ __forceinline__ Box hull(Box box) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
        box.x0 = min(box.x0, __shfl_xor_sync(kAll, box.x0, step));
        box.y0 = min(box.y0, __shfl_xor_sync(kAll, box.y0, step));
        box.x1 = max(box.x1, __shfl_xor_sync(kAll, box.x1, step));
        box.y1 = max(box.y1, __shfl_xor_sync(kAll, box.y1, step));
    }
    return box;
}

// The number of boxes one level up.
__device__ __forceinline__ long long parents(long long count) { return (count + kWarp - 1) / kWarp; }

__device__ __forceinline__ int to_int(long long x) {
    return (int)gsr::larger(gsr::smaller(x, 0x7ffffffeLL), -0x7ffffffeLL);
}

// 2^−x for 0 <= x < 126.
__device__ __forceinline__ float exp2_of_minus(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(-x));
    return y;
#else
    return exp2f(-x);
#endif
}

// ---- the tree ------------------------------------------------------------------------------------------

// The box of pixels that a Gaussian touches, not clipped to the region, so that what is drawn in a tile does not depend
// on where the region cuts it.
__device__ __forceinline__ Box box_of(const Gaussian& g) {
    const Range rows = gsr::rows_of(g), columns = gsr::columns_of(g);
    const Box box = {to_int(columns.begin), to_int(rows.begin), to_int(columns.end - 1), to_int(rows.end - 1)};
    return box.x0 <= box.x1 && box.y0 <= box.y1 ? box : empty_box();
}

__device__ __forceinline__ Record record_of(const Gaussian& g) {
    Record record;
    record.x = g.x;
    record.y = g.y;
    record.whitening = g.whitening;
    record.whitening.slope *= gsr::kRootHalfLog2e;
    record.whitening.inverse_y *= gsr::kRootHalfLog2e;
    record.column = g.column;
    record.row = g.row;
    record.unused = 0;
    return record;
}

// The boxes of one batch entry by level; a box of a level contains 32^level Gaussians.
struct Tree {
    const Box* boxes[kLevels];
    long long counts[kLevels];
};

__device__ __forceinline__ Tree tree_of(const Box* level0, const Box* level1, const Box* level2, const Box* level3,
                                        long long batch, long long count) {
    Tree tree;
    tree.boxes[0] = level0;
    tree.boxes[1] = level1;
    tree.boxes[2] = level2;
    tree.boxes[3] = level3;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
        tree.counts[level] = count;
        tree.boxes[level] += batch * count;
        count = parents(count);
    }
    return tree;
}

// ---- forward -------------------------------------------------------------------------------------------

// A tile while its warp draws it: each lane holds two neighbouring pixels of a row.
template <bool kWindowed>
struct Canvas {
    // A staged Gaussian: x and y from the tile's first pixel, slope, skew, 1/σy, values, and its box if windowed.
    static constexpr int kGeometry = 5, kBox = kWindowed ? 4 : 0;
    static constexpr int kStride = (kGeometry + kChannels + kBox + 3) / 4 * 4;

    Box tile; // in pixels of the region
    const Record* records;
    const float* values; // from the first drawn channel on
    long long channels;  // channels of the field
    float limit;         // q_max, times ½·log2 e
    float* staged;       // (kWarp, kStride), private to this warp
    float x, y;          // the lane's first pixel, relative to the tile's
    float sums[2][kChannels];

    __device__ void start() {
        x = (float)(2 * lane_of_warp() % kTile);
        y = (float)(2 * lane_of_warp() / kTile);
#pragma unroll
        for (int c = 0; c < kChannels; ++c) sums[0][c] = sums[1][c] = 0;
    }

    // Draw the Gaussians among the 32 from `first` on that meet the tile.
    __device__ void draw(long long first, const Box& box, bool meets, unsigned meeting) {
        const int lane = lane_of_warp();
        if (meets) stage(first + lane, box, staged + kStride * __popc(meeting & ((1u << lane) - 1)));
        __syncwarp(kAll);
        const int count = __popc(meeting);
        for (int i = 0; i < count; ++i) add(staged + kStride * i);
        __syncwarp(kAll);
    }

    __device__ __forceinline__ void stage(long long index, const Box& box, float* to) const {
        const Record record = records[index];
        to[0] = (float)(record.column - tile.x0) + record.x;
        to[1] = (float)(record.row - tile.y0) + record.y;
        to[2] = record.whitening.slope;
        to[3] = record.whitening.skew;
        to[4] = record.whitening.inverse_y;
#pragma unroll
        for (int c = 0; c < kChannels; ++c) to[kGeometry + c] = values[index * channels + c];
        if (kWindowed) {
            float* bounds = to + kGeometry + kChannels;
            bounds[0] = (float)(max(box.x0, tile.x0) - tile.x0);
            bounds[1] = (float)(max(box.y0, tile.y0) - tile.y0);
            bounds[2] = (float)(min(box.x1, tile.x1) - tile.x0);
            bounds[3] = (float)(min(box.y1, tile.y1) - tile.y0);
        }
    }

    __device__ __forceinline__ void add(const float* gaussian) {
        float g[kStride];
#pragma unroll
        for (int i = 0; i < kStride; i += 4) {
            const float4 four = *(const float4*)(gaussian + i);
            g[i] = four.x;
            g[i + 1] = four.y;
            g[i + 2] = four.z;
            g[i + 3] = four.w;
        }
        const gsr::Whitening whitening = {g[2], g[3], g[4]};
        const float v = gsr::v_of(whitening, y - g[1]);
        float t;
        gsr::t_along(whitening, x - g[0], t);
        t += gsr::shift_of(whitening, v);
#pragma unroll
        for (int pixel = 0; pixel < 2; ++pixel) {
            float q;
            gsr::q_of(t, v * v, q);
            bool seen = q <= limit;
            if (kWindowed) {
                const float* bounds = g + kGeometry + kChannels;
                const float column = x + (float)pixel;
                seen = seen && bounds[0] <= column && column <= bounds[2] && bounds[1] <= y && y <= bounds[3];
            }
            if (seen) {
                const float weight = exp2_of_minus(q);
#pragma unroll
                for (int c = 0; c < kChannels; ++c) sums[pixel][c] += weight * g[kGeometry + c];
            }
            t += whitening.slope;
        }
    }

    __device__ void store(float* image, long long height, long long width) const {
        const long long row = tile.y0 + (int)y;
        if (row < 0 || row >= height) return;
#pragma unroll
        for (int pixel = 0; pixel < 2; ++pixel) {
            const long long column = tile.x0 + (int)x + pixel;
            if (column < 0 || column >= width) continue;
#pragma unroll
            for (int c = 0; c < kChannels; ++c) image[(c * height + row) * width + column] = sums[pixel][c];
        }
    }
};

// Draw the Gaussians below the boxes [first, first + 32) of a level that meet the tile.
template <int kLevel>
struct Walk {
    template <class Tiles>
    __device__ static __forceinline__ void below(const Tree& tree, long long first, Tiles& canvas) {
        const long long index = first + lane_of_warp();
        const bool meets = index < tree.counts[kLevel] && meet(tree.boxes[kLevel][index], canvas.tile);
        for (unsigned left = __ballot_sync(kAll, meets); left; left &= left - 1) {
            Walk<kLevel - 1>::below(tree, (first + __ffs(left) - 1) * kWarp, canvas);
        }
    }
};

template <>
struct Walk<0> {
    template <class Tiles>
    __device__ static __forceinline__ void below(const Tree& tree, long long first, Tiles& canvas) {
        const long long index = first + lane_of_warp();
        const Box box = index < tree.counts[0] ? tree.boxes[0][index] : empty_box();
        const bool meets = meet(box, canvas.tile);
        const unsigned meeting = __ballot_sync(kAll, meets);
        if (meeting) canvas.draw(first, box, meets, meeting);
    }
};

template <bool kWindowed>
__device__ __forceinline__ void draw_tile(const Box* level0, const Box* level1, const Box* level2, const Box* level3,
                                          const Record* records, const float* value, long long count,
                                          long long channels, long long height, long long width, long long first_y,
                                          long long first_x, long long blocks_y, long long blocks_x, double q_max,
                                          float* image) {
    using Tiles = Canvas<kWindowed>;
    __shared__ __align__(16) float staged[kTilesAcross * kTilesAcross][kWarp * Tiles::kStride];
    const int warp = threadIdx.x / kWarp;
    const long long block = blockIdx.x, batch = block / (blocks_y * blocks_x);
    const long long block_y = block / blocks_x % blocks_y, block_x = block % blocks_x;
    Tiles canvas;
    canvas.tile.x0 = (int)(first_x + (kTilesAcross * block_x + warp % kTilesAcross) * kTile);
    canvas.tile.y0 = (int)(first_y + (kTilesAcross * block_y + warp / kTilesAcross) * kTile);
    canvas.tile.x1 = canvas.tile.x0 + kTile - 1;
    canvas.tile.y1 = canvas.tile.y0 + kTile - 1;
    canvas.records = records + batch * count;
    canvas.values = value + batch * count * channels;
    canvas.channels = channels;
    canvas.limit = (float)q_max * gsr::kHalfLog2e;
    canvas.staged = staged[warp];
    canvas.start();
    const Tree tree = tree_of(level0, level1, level2, level3, batch, count);
    for (long long first = 0; first < tree.counts[kLevels - 1]; first += kWarp) {
        Walk<kLevels - 1>::below(tree, first, canvas);
    }
    canvas.store(image + batch * channels * height * width, height, width);
}

} // namespace

#define GSR_VIEW_PARAMETERS                                                                                   \
    long long height, long long width, long long origin_y, long long origin_x, double scale_y, double scale_x, \
        double q_max, double window_y, double window_x, double smallest_sigma
#define GSR_VIEW                                                                                             \
    View { height, width, origin_y, origin_x, scale_y, scale_x, q_max, window_y, window_x, smallest_sigma }

#define GSR_DRAW_PARAMETERS                                                                                       \
    const Box *level0, const Box *level1, const Box *level2, const Box *level3, const Record *records,            \
        const float *value, long long count, long long channels, long long height, long long width,              \
        long long first_y, long long first_x, long long blocks_y, long long blocks_x, double q_max, float *image
#define GSR_DRAW_ARGUMENTS                                                                                      \
    level0, level1, level2, level3, records, value, count, channels, height, width, first_y, first_x, blocks_y, \
        blocks_x, q_max, image

extern "C" {

// One warp per 32 Gaussians of a batch entry: computes their records, their boxes, and the box around them all.
__global__ void __launch_bounds__(GSR_TREE_THREADS)
    gsr_project(const float* centre, const float* sigma, const float* rho, long long batch, long long count,
                GSR_VIEW_PARAMETERS, Record* records, Box* level0, Box* level1) {
    const long long node = warp_of_grid();
    if (node >= batch * parents(count)) return;
    const long long within = node % parents(count) * kWarp + lane_of_warp();
    const long long index = node / parents(count) * count + within;
    Box box = empty_box();
    if (within < count) {
        const View view = GSR_VIEW;
        Gaussian g;
        if (gsr::project(centre, sigma, rho, index, view, g)) {
            box = box_of(g);
            records[index] = record_of(g);
        }
        level0[index] = box;
    }
    box = hull(box);
    if (lane_of_warp() == 0) level1[node] = box;
}

// One warp per box of a level: computes it from its 32 boxes on the level below, of which a batch entry has `count`.
__global__ void __launch_bounds__(GSR_TREE_THREADS)
    gsr_bound(const Box* below, long long batch, long long count, Box* above) {
    const long long node = warp_of_grid();
    if (node >= batch * parents(count)) return;
    const long long within = node % parents(count) * kWarp + lane_of_warp();
    const Box box = hull(within < count ? below[node / parents(count) * count + within] : empty_box());
    if (lane_of_warp() == 0) above[node] = box;
}

// One block per two by two tiles; the first tile begins at (first_x, first_y) of the region. value and image begin at
// the first channel to draw.
__global__ void __launch_bounds__(GSR_DRAW_THREADS) gsr_draw(GSR_DRAW_PARAMETERS) {
    draw_tile<false>(GSR_DRAW_ARGUMENTS);
}

// The same, but also skips pixels outside a window around the centre.
__global__ void __launch_bounds__(GSR_DRAW_THREADS) gsr_draw_windowed(GSR_DRAW_PARAMETERS) {
    draw_tile<true>(GSR_DRAW_ARGUMENTS);
}

// kGathering lanes per Gaussian. image_gradient, value and value_gradient begin at the first channel to gather; with
// `add`, the geometry's gradients are added to those of earlier passes over other channels.
__global__ void __launch_bounds__(GSR_GATHER_THREADS)
    gsr_gather(const float* image_gradient, const float* centre, const float* sigma, const float* rho,
               const float* value, long long batch, long long count, long long channels, GSR_VIEW_PARAMETERS,
               long long add, float* centre_gradient, float* sigma_gradient, float* rho_gradient,
               float* value_gradient) {
    const long long index = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / kGathering;
    const int lane = threadIdx.x % kGathering;
    const bool exists = index < batch * count;
    float totals[kChannels], values[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
        totals[c] = 0;
        values[c] = exists ? value[index * channels + c] : 0;
    }
    Moments<float> moments = {};
    const View view = GSR_VIEW;
    Gaussian g;
    const bool drawn = exists && gsr::project(centre, sigma, rho, index, view, g);
    if (drawn) {
        const Range rows = gsr::rows_of(g, view), columns = gsr::columns_of(g, view);
        const long long plane = height * width;
        const float* line = image_gradient + (index / count * channels * height + rows.begin) * width + columns.begin;
        // A box that meets the region begins close enough to the centre for int.
        const int extent = (int)(columns.end - columns.begin), start = (int)(columns.begin - g.column);
        for (long long y = rows.begin; y < rows.end; ++y, line += width) {
            const float v = gsr::v_of(g, y), shift = gsr::shift_of(g.whitening, v);
            for (int x = lane; x < extent; x += kGathering) {
                float t, q;
                gsr::t_along(g.whitening, (float)(start + x) - g.x, t);
                t += shift;
                gsr::q_of(t, v * v, q);
                if (q <= (float)q_max) {
                    const float weight = exp2_of_minus(q * gsr::kHalfLog2e);
                    float inner = 0;
#pragma unroll
                    for (int c = 0; c < kChannels; ++c) {
                        const float gradient = line[c * plane + x];
                        inner += gradient * values[c];
                        totals[c] += gradient * weight;
                    }
                    moments.add(inner * weight, t, v);
                }
            }
        }
    }
#pragma unroll
    for (int step = kGathering / 2; step > 0; step /= 2) {
        moments.t += __shfl_xor_sync(kAll, moments.t, step);
        moments.v += __shfl_xor_sync(kAll, moments.v, step);
        moments.tt += __shfl_xor_sync(kAll, moments.tt, step);
        moments.tv += __shfl_xor_sync(kAll, moments.tv, step);
        moments.vv += __shfl_xor_sync(kAll, moments.vv, step);
#pragma unroll
        for (int c = 0; c < kChannels; ++c) totals[c] += __shfl_xor_sync(kAll, totals[c], step);
    }
    if (!exists || lane != 0) return;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) value_gradient[index * channels + c] = totals[c];
    gsr::GeometryGradient gradient = {0, 0, 0, 0, 0};
    if (drawn) gradient = gsr::chain(moments, g, sigma[2 * index], sigma[2 * index + 1]);
    if (add) {
        gradient.centre_x += centre_gradient[2 * index];
        gradient.centre_y += centre_gradient[2 * index + 1];
        gradient.sigma_x += sigma_gradient[2 * index];
        gradient.sigma_y += sigma_gradient[2 * index + 1];
        gradient.rho += rho_gradient[index];
    }
    centre_gradient[2 * index] = gradient.centre_x;
    centre_gradient[2 * index + 1] = gradient.centre_y;
    sigma_gradient[2 * index] = gradient.sigma_x;
    sigma_gradient[2 * index + 1] = gradient.sigma_y;
    rho_gradient[index] = gradient.rho;
}
}
