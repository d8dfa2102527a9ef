// The rasterizer on the CPU: a plain C ABI over pointers and sizes, loaded with ctypes.
//
// Forward: Gaussians are binned into bands of rows (count, scan, fill), and one thread draws each band into its own
// buffer, with the Gaussians in the given order. Backward: each Gaussian gathers from its pixels. Threads share
// nothing, so results are the same, bit for bit, with any number of threads and any division into strips of rows.
//
// The inner loops use 16-lane vectors; the compiler lowers them to AVX-512, AVX2, SSE or NEON, and the best x86 variant
// is chosen at load time.
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

constexpr int kLanes = 16;
constexpr std::int64_t kBandRows = 32;
constexpr std::int64_t kGaussiansPerTask = 4096;

typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t UintLanes __attribute__((vector_size(4 * kLanes)));

const Lanes kIota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

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

INLINE void load(Lanes& lanes, const float* from) { std::memcpy(&lanes, from, sizeof lanes); }

INLINE void load_first(Lanes& lanes, const float* from, std::int64_t count) {
    if (count >= kLanes) return load(lanes, from);
    lanes = Lanes{};
    std::memcpy(&lanes, from, sizeof(float) * count);
}

INLINE void store(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof lanes); }

INLINE float sum(const Lanes& lanes) {
    float total = 0;
    for (int i = 0; i < kLanes; ++i) total += lanes[i];
    return total;
}

// 2^x for x <= 0, with a relative error below 2e-7; results below 2^-126 become 2^-126.
INLINE void exp2_negative(Lanes& x) {
    const Lanes lowest = Lanes{} - 126.0f;
    x = x < lowest ? lowest : x;
    const Lanes magic = Lanes{} + 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    const Lanes rounded = x + magic;
    const Lanes f = x - (rounded - magic); // in [-1/2, 1/2]
    Lanes p = f * 1.327647156e-3f + 9.675541373e-3f; // minimax on that interval
    p = p * f + 5.550713275e-2f;
    p = p * f + 2.402211972e-1f;
    p = p * f + 6.931469671e-1f;
    p = p * f + 1.000000072f;
    UintLanes exponent, result;
    std::memcpy(&exponent, &rounded, sizeof exponent);
    std::memcpy(&result, &p, sizeof result);
    result += exponent << 23;
    std::memcpy(&x, &result, sizeof x);
}

// One row of one Gaussian.
struct Row {
    float v, shift; // t = slope·dx + shift at distance dx from the centre
    Range columns;
};

// Most Gaussians are no wider than one vector. For those, a row spans the box's columns, and q decides which pixels are
// drawn; for wider ones, each row is first cut to the ellipse, which saves whole vectors.
INLINE bool is_narrow(const Range& box, const View& view) {
    return box.end - box.begin <= kLanes && view.window_x == INFINITY && view.window_y == INFINITY;
}

template <bool kNarrow>
INLINE void cut_row(const Gaussian& g, std::int64_t y, const Range& box, const View& view, Row& row) {
    row.v = gsr::v_of(g, y);
    row.shift = gsr::shift_of(g.whitening, row.v);
    row.columns = kNarrow ? box : gsr::columns_of(g, row.v, view);
}

// t at the 16 pixels from column x on, on the row where shift is 0.
INLINE void t_along(const Gaussian& g, std::int64_t x, Lanes& t) {
    const Lanes dx = kIota + ((float)(x - g.column) - g.x);
    gsr::t_along(g.whitening, dx, t);
}

// exp(−q/2) at t, zero at pixels that are not drawn.
template <bool kNarrow>
INLINE void weights_at(const Lanes& t, const Row& row, std::int64_t x, float q_max, Lanes& weight) {
    Lanes q;
    gsr::q_of(t, row.v * row.v, q);
    weight = q * -gsr::kHalfLog2e;
    exp2_negative(weight);
    if (kNarrow) {
        weight = q <= Lanes{} + q_max ? weight : Lanes{};
    } else {
        weight = kIota < Lanes{} + (float)(row.columns.end - x) ? weight : Lanes{};
    }
}

INLINE bool project(const Field& field, std::int64_t index, const View& view, Gaussian& g) {
    return gsr::project(field.centre, field.sigma, field.rho, index, view, g);
}

// ---- forward -------------------------------------------------------------------------------------------

struct Band {
    std::int64_t batch;
    Range rows;
    const std::int64_t *begin, *end; // indices of the Gaussians that reach it, ascending
    float* canvas;                   // (rows, channels, stride), zeroed
    std::int64_t stride;             // width, plus room for an overhanging vector
};

// kChannels = 0: the number of channels is known at run time only.
template <int kChannels, bool kNarrow>
INLINE void draw(const Field& field, const View& view, const Band& band, std::int64_t index, const Gaussian& g,
                 const Range& box) {
    const std::int64_t channels = kChannels ? kChannels : field.channels;
    const float* value = field.value + index * channels;
    const Range rows = gsr::rows_of(g, view);
    const std::int64_t last = std::min<std::int64_t>(rows.end, band.rows.end);
    Lanes start;
    t_along(g, box.begin, start);
    for (std::int64_t y = std::max<std::int64_t>(rows.begin, band.rows.begin); y < last; ++y) {
        Row row;
        cut_row<kNarrow>(g, y, box, view, row);
        float* line = band.canvas + (y - band.rows.begin) * channels * band.stride;
        for (std::int64_t x = row.columns.begin; x < row.columns.end; x += kLanes) {
            if (!kNarrow) t_along(g, x, start);
            const Lanes t = start + row.shift;
            Lanes weight;
            weights_at<kNarrow>(t, row, x, (float)view.q_max, weight);
            for (std::int64_t c = 0; c < channels; ++c) {
                Lanes pixels;
                load(pixels, line + c * band.stride + x);
                pixels += weight * value[c];
                store(line + c * band.stride + x, pixels);
            }
            if (kNarrow) break;
        }
    }
}

template <int kChannels>
INLINE void draw_band(const Field& field, const View& view, const Band& band) {
    for (const std::int64_t* index = band.begin; index != band.end; ++index) {
        Gaussian g;
        if (!project(field, *index, view, g)) continue;
        const Range box = gsr::columns_of(g, view);
        if (is_narrow(box, view)) {
            draw<kChannels, true>(field, view, band, *index, g, box);
        } else {
            draw<kChannels, false>(field, view, band, *index, g, box);
        }
    }
}

INLINE void draw_band_of(const Field& field, const View& view, const Band& band) {
    switch (field.channels) {
        case 1: return draw_band<1>(field, view, band);
        case 3: return draw_band<3>(field, view, band);
        case 4: return draw_band<4>(field, view, band);
        case 8: return draw_band<8>(field, view, band);
        default: return draw_band<0>(field, view, band);
    }
}

// ---- backward ------------------------------------------------------------------------------------------

// Gradients of one Gaussian's values, and the moments that give its geometry's gradients. image_gradient is its batch
// entry's, (channels, height, width).
template <int kChannels, bool kNarrow>
INLINE void gather(const Field& field, const View& view, const float* image_gradient, std::int64_t index,
                   const Gaussian& g, const Range& box, float* value_gradient, Moments<float>& moments) {
    const std::int64_t channels = kChannels ? kChannels : field.channels;
    const std::int64_t plane = view.height * view.width;
    const float* value = field.value + index * channels;
    Moments<Lanes> sums = {};
    Lanes totals[kChannels ? kChannels : 1] = {};
    const Range rows = gsr::rows_of(g, view);
    Lanes start;
    t_along(g, box.begin, start);
    for (std::int64_t y = rows.begin; y < rows.end; ++y) {
        Row row;
        cut_row<kNarrow>(g, y, box, view, row);
        const float* line = image_gradient + y * view.width;
        for (std::int64_t x = row.columns.begin; x < row.columns.end; x += kLanes) {
            if (!kNarrow) t_along(g, x, start);
            const Lanes t = start + row.shift;
            Lanes weight, inner = {};
            weights_at<kNarrow>(t, row, x, (float)view.q_max, weight);
            for (std::int64_t c = 0; c < channels; ++c) {
                Lanes gradient;
                load_first(gradient, line + c * plane + x, view.width - x);
                inner += gradient * value[c];
                if (kChannels) {
                    totals[kChannels ? c : 0] += gradient * weight;
                } else {
                    value_gradient[c] += sum(gradient * weight);
                }
            }
            const Lanes s = inner * weight;
            sums.add(s, t, row.v);
            if (kNarrow) break;
        }
    }
    for (int c = 0; c < kChannels; ++c) value_gradient[c] = sum(totals[c]);
    moments = {sum(sums.t), sum(sums.v), sum(sums.tt), sum(sums.tv), sum(sums.vv)};
}

template <int kChannels>
INLINE void gather_one(const Field& field, const View& view, const float* image_gradient, std::int64_t index,
                       const FieldGradient& out) {
    float* value_gradient = out.value + index * field.channels;
    std::fill_n(value_gradient, field.channels, 0.0f);
    gsr::GeometryGradient gradient = {0, 0, 0, 0, 0};
    Gaussian g;
    if (project(field, index, view, g)) {
        const Range box = gsr::columns_of(g, view);
        Moments<float> moments = {};
        if (is_narrow(box, view)) {
            gather<kChannels, true>(field, view, image_gradient, index, g, box, value_gradient, moments);
        } else {
            gather<kChannels, false>(field, view, image_gradient, index, g, box, value_gradient, moments);
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

INLINE void gather_span_of(const Field& field, const View& view, const Span& span, const FieldGradient& out) {
    for (std::int64_t index = span.gaussians.begin; index < span.gaussians.end; ++index) {
        switch (field.channels) {
            case 1: gather_one<1>(field, view, span.image_gradient, index, out); break;
            case 3: gather_one<3>(field, view, span.image_gradient, index, out); break;
            case 4: gather_one<4>(field, view, span.image_gradient, index, out); break;
            case 8: gather_one<8>(field, view, span.image_gradient, index, out); break;
            default: gather_one<0>(field, view, span.image_gradient, index, out);
        }
    }
}

// ---- binning -------------------------------------------------------------------------------------------

// Count the Gaussians of a range in each bin that they reach (if indices is null), or store their indices there. A bin
// is a band of rows of a batch entry, and ends[bin] is the position of its next index.
INLINE void bin_span_of(const Field& field, const View& view, const Range& range, std::int64_t bands,
                        std::int64_t* ends, std::int64_t* indices) {
    std::int64_t batch = range.begin / std::max<std::int64_t>(field.count, 1);
    for (std::int64_t index = range.begin; index < range.end; ++index) {
        if (index == (batch + 1) * field.count) ++batch;
        Gaussian g;
        if (!project(field, index, view, g)) continue;
        const Range rows = gsr::rows_of(g, view), columns = gsr::columns_of(g, view);
        if (rows.begin >= rows.end || columns.begin >= columns.end) continue;
        std::int64_t* end = ends + batch * bands;
        for (std::int64_t band = rows.begin / kBandRows; band <= (rows.end - 1) / kBandRows; ++band) {
            if (indices) {
                indices[end[band]++] = index;
            } else {
                ++end[band];
            }
        }
    }
}

// ---- one variant of the kernels per instruction set ----------------------------------------------------

struct Kernels {
    const char* name;
    void (*draw_band)(const Field&, const View&, const Band&);
    void (*gather_span)(const Field&, const View&, const Span&, const FieldGradient&);
    void (*bin_span)(const Field&, const View&, const Range&, std::int64_t, std::int64_t*, std::int64_t*);
};

#define GSR_VARIANT(NAME, ...)                                                                          \
    __VA_ARGS__ void draw_band_##NAME(const Field& field, const View& view, const Band& band) {         \
        draw_band_of(field, view, band);                                                                \
    }                                                                                                   \
    __VA_ARGS__ void gather_span_##NAME(const Field& field, const View& view, const Span& span,         \
                                        const FieldGradient& out) {                                     \
        gather_span_of(field, view, span, out);                                                         \
    }                                                                                                   \
    __VA_ARGS__ void bin_span_##NAME(const Field& field, const View& view, const Range& range,         \
                                     std::int64_t bands, std::int64_t* ends, std::int64_t* indices) {   \
        bin_span_of(field, view, range, bands, ends, indices);                                          \
    }                                                                                                   \
    const Kernels kernels_##NAME = {#NAME, draw_band_##NAME, gather_span_##NAME, bin_span_##NAME};

GSR_VARIANT(baseline)
#if defined(__x86_64__)
GSR_VARIANT(avx2, __attribute__((target("avx2,fma"))))
GSR_VARIANT(avx512, __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512"))))
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

// The bands of rows of every batch entry, and the Gaussians that reach each.
class Bins {
  public:
    Bins(const Field& field, const View& view, int threads)
        : bands_((view.height + kBandRows - 1) / kBandRows), parts_(std::max(1, threads)) {
        const std::int64_t bins = field.batch * bands_;
        // ends[part][bin]: first the number of this part's Gaussians in the bin, later the end of its share.
        std::vector<std::int64_t> ends(parts_ * bins + 1, 0);
        const std::int64_t total_gaussians = field.batch * field.count;
        parallel(threads, parts_, [&](std::int64_t part) {
            kernels->bin_span(field, view, share(total_gaussians, parts_, part), bands_, &ends[part * bins], nullptr);
        });
        offsets_.resize(bins + 1);
        std::int64_t total = 0;
        for (std::int64_t bin = 0; bin < bins; ++bin) {
            offsets_[bin] = total;
            for (std::int64_t part = 0; part < parts_; ++part) {
                const std::int64_t count = ends[part * bins + bin];
                ends[part * bins + bin] = total;
                total += count;
            }
        }
        offsets_[bins] = total;
        indices_.reset(new std::int64_t[total]);
        parallel(threads, parts_, [&](std::int64_t part) {
            kernels->bin_span(field, view, share(total_gaussians, parts_, part), bands_, &ends[part * bins],
                              indices_.get());
        });
    }

    std::int64_t bands() const { return bands_; }
    const std::int64_t* begin(std::int64_t bin) const { return indices_.get() + offsets_[bin]; }
    const std::int64_t* end(std::int64_t bin) const { return indices_.get() + offsets_[bin + 1]; }

  private:
    std::int64_t bands_, parts_;
    std::vector<std::int64_t> offsets_;
    std::unique_ptr<std::int64_t[]> indices_;
};

void forward(const Field& field, const View& view, float* image, int threads) {
    const Bins bins(field, view, threads);
    const std::int64_t stride = view.width + kLanes;
    parallel(threads, field.batch * bins.bands(), [&](std::int64_t bin) {
        thread_local std::vector<float> canvas; // kept between bands and calls
        Band band;
        band.batch = bin / bins.bands();
        band.rows.begin = bin % bins.bands() * kBandRows;
        band.rows.end = std::min<std::int64_t>(band.rows.begin + kBandRows, view.height);
        band.begin = bins.begin(bin);
        band.end = bins.end(bin);
        canvas.assign((band.rows.end - band.rows.begin) * field.channels * stride, 0.0f);
        band.canvas = canvas.data();
        band.stride = stride;
        kernels->draw_band(field, view, band);
        for (std::int64_t y = band.rows.begin; y < band.rows.end; ++y) {
            for (std::int64_t c = 0; c < field.channels; ++c) {
                const float* line = canvas.data() + ((y - band.rows.begin) * field.channels + c) * stride;
                std::copy_n(line, view.width,
                            image + ((band.batch * field.channels + c) * view.height + y) * view.width);
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

} // namespace

extern "C" {

// Incremented when a signature or a struct changes, so that a stale library is never called.
int gsr_abi_version() { return 2; }

const char* gsr_instruction_set() { return kernels->name; }

// Both functions return 0, or 1 if memory ran out.
int gsr_rasterize(const Field* field, const View* view, float* image, int threads) {
    try {
        forward(*field, *view, image, threads);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}

int gsr_rasterize_backward(const Field* field, const View* view, const float* image_gradient,
                           const FieldGradient* out, int threads) {
    try {
        backward(*field, *view, image_gradient, *out, threads);
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}
}
