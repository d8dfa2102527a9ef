// The formula of a Gaussian, which all backends share.
//
// With d = pixel - centre in output pixels, the exponent of GSASR's eq. 5 is
//     q = (dx²/σx² − 2ρ·dx·dy/(σx·σy) + dy²/σy²) / (1 − ρ²).
// It is evaluated in whitened coordinates,
//     v = dy/σy,   t = (dx/σx − ρ·v) / √(1 − ρ²),   q = t² + v²,
// a sum of squares: unlike in the polynomial, no digits are lost to cancelling terms, and along a row (fixed v) the
// Gaussian is one-dimensional in t. The gradients below are plain sums of t and v.
//
// The functions on T work on one pixel if T is float, or on as many pixels as a vector of floats has lanes. Vectors are
// passed by reference, because passing and returning them by value depends on the instruction set.
//
// Compiled as C++17 for the CPU, and as CUDA C++ for the GPU, by nvcc or at run time by NVRTC, which has no headers.
#ifndef GSR_GAUSSIAN_H
#define GSR_GAUSSIAN_H

#ifndef __CUDACC_RTC__
#include <math.h>
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define GSR_FUNCTION __host__ __device__ __forceinline__
#else
#define GSR_FUNCTION inline __attribute__((always_inline))
#endif

namespace gsr {

constexpr float kLargestFloat = 3.402823466e38f;
constexpr int kFarthest = 1 << 30; // pixels: a box reaches no farther, and one centred farther off touches nothing
constexpr float kHalfLog2e = 0.72134752f;     // exp(−q/2) = 2^(−q·this); each backend has its own 2^x
constexpr float kRootHalfLog2e = 0.84932180f; // its square root: scaling t and v by it saves the factor on q

// The part of the output to draw, and the cutoffs, in the order of gsrcli.rasterizer.View.numbers.
struct View {
    long long height, width;      // of the region, in output pixels
    long long origin_y, origin_x; // its first pixel in the whole output
    double scale_y, scale_x;      // output pixels per LR pixel
    double q_max;                 // pixels with q > q_max are skipped; may be infinite
    double window_y, window_x;    // pixels farther than this from the centre are skipped; may be infinite
    double smallest_sigma;        // in output pixels; Gaussians this small or smaller are skipped
};

// From a pixel's offset from the centre, (dx, dy), to whitened coordinates: v = dy·inverse_y, t = dx·slope − skew·v.
struct Whitening {
    float slope;     // 1/(σx·√(1 − ρ²))
    float skew;      // ρ/√(1 − ρ²)
    float inverse_y; // 1/σy
};

// A Gaussian projected onto the region. Positions are split into a whole pixel and a remainder in float, which keeps
// all digits of the centre in pictures of any size, and gives the same bits wherever the region begins.
struct Gaussian {
    int column, row;        // the pixel at or before the centre, in pixels of the region
    float x, y;             // the centre relative to that pixel, in [0, 1): pixel X lies at X
    float reach_x, reach_y; // half-sides of the box that contains every pixel it touches
    Whitening whitening;
    float lean;             // on the row at v, the maximum is at dx = lean·v
    float kappa;            // 1/√(1 − ρ²)
};

GSR_FUNCTION float smaller(float a, float b) { return a < b ? a : b; }
GSR_FUNCTION float larger(float a, float b) { return a > b ? a : b; }
GSR_FUNCTION long long smaller(long long a, long long b) { return a < b ? a : b; }
GSR_FUNCTION long long larger(long long a, long long b) { return a > b ? a : b; }

// Project the Gaussian at `index` of a field: centre (…, 2) and sigma (…, 2) in LR pixels, rho (…). Return false if its
// geometry is not finite or not positive: it then touches no pixel. Does not branch, so that a loop becomes vectors.
GSR_FUNCTION bool project(const float* centre, const float* sigma, const float* rhos, long long index,
                          const View& view, Gaussian& g) {
    const double x = centre[2 * index] * view.scale_x - 0.5, y = centre[2 * index + 1] * view.scale_y - 0.5;
    const float sx = (float)(sigma[2 * index] * view.scale_x), sy = (float)(sigma[2 * index + 1] * view.scale_y);
    const float rho = rhos[index], rest = (1.0f - rho) * (1.0f + rho), smallest = (float)view.smallest_sigma;
    const double column = floor(x), row = floor(y);
    const double across = column - (double)view.origin_x, down = row - (double)view.origin_y;
    // Two pixels less than the farthest, so that no end of a box overflows.
    const bool near = (fabs(across) < kFarthest - 2) & (fabs(down) < kFarthest - 2);
    const bool sized = (sx > smallest) & (sx <= kLargestFloat) & (sy > smallest) & (sy <= kLargestFloat);
    g.column = near ? (int)across : 0;
    g.row = near ? (int)down : 0;
    g.x = (float)(x - column);
    g.y = (float)(y - row);
    // σ is the marginal deviation, so the bounding box of q <= q_max has half-sides σ·√q_max.
    const float radius = sqrtf((float)view.q_max);
    g.reach_x = smaller(smaller(radius * sx, (float)view.window_x), (float)kFarthest);
    g.reach_y = smaller(smaller(radius * sy, (float)view.window_y), (float)kFarthest);
    g.kappa = 1.0f / sqrtf(rest);
    g.whitening.slope = g.kappa / sx;
    g.whitening.skew = rho * g.kappa;
    g.whitening.inverse_y = 1.0f / sy;
    g.lean = rho * sx;
    return near & sized & (rest > 0);
}

// Consecutive pixels: the first, and one past the last.
struct Range {
    long long begin, end;
};

// The pixels in [low, high], counted from `base`.
GSR_FUNCTION Range pixels_within(int base, float low, float high) {
    Range range;
    range.begin = base + (int)ceilf(low);
    range.end = base + (int)floorf(high) + 1;
    return range;
}

// The part of a range in [0, limit).
GSR_FUNCTION Range clip(const Range& range, long long limit) {
    return {larger(range.begin, 0LL), smaller(range.end, limit)};
}

// The Gaussian's box, not clipped to the region.
GSR_FUNCTION Range rows_of(const Gaussian& g) { return pixels_within(g.row, g.y - g.reach_y, g.y + g.reach_y); }
GSR_FUNCTION Range columns_of(const Gaussian& g) { return pixels_within(g.column, g.x - g.reach_x, g.x + g.reach_x); }

// The Gaussian's box, clipped to the region.
GSR_FUNCTION Range rows_of(const Gaussian& g, const View& view) { return clip(rows_of(g), view.height); }
GSR_FUNCTION Range columns_of(const Gaussian& g, const View& view) { return clip(columns_of(g), view.width); }

// v at dy, or on a row of pixels.
GSR_FUNCTION float v_of(const Whitening& whitening, float dy) { return dy * whitening.inverse_y; }
GSR_FUNCTION float v_of(const Gaussian& g, long long row) {
    return v_of(g.whitening, (float)(row - g.row) - g.y);
}

// The pixels of the row at v with q <= q_max, inside the window.
GSR_FUNCTION Range columns_of(const Gaussian& g, float v, const View& view) {
    const float room = larger((float)view.q_max - v * v, 0.0f);
    const float middle = g.lean * v, half = smaller(sqrtf(room) / g.whitening.slope, (float)kFarthest);
    const float low = larger(middle - half, -g.reach_x), high = smaller(middle + half, g.reach_x);
    if (!(low <= high)) return {0, 0};
    return clip(pixels_within(g.column, g.x + low, g.x + high), view.width);
}

// t at dx on the row where v is 0, and the term to add on the row at v.
template <class T>
GSR_FUNCTION void t_along(const Whitening& whitening, const T& dx, T& t) {
    t = dx * whitening.slope;
}
GSR_FUNCTION float shift_of(const Whitening& whitening, float v) { return -whitening.skew * v; }

template <class T>
GSR_FUNCTION void q_of(const T& t, float v_squared, T& q) {
    q = t * t + v_squared;
}

// Sums over a Gaussian's pixels of s = weight · Σ_c grad_c·value_c, times t, v and their products.
template <class T>
struct Moments {
    T t, v, tt, tv, vv;

    GSR_FUNCTION void add(const T& s, const T& at_t, float at_v) {
        const T s_t = s * at_t, s_v = s * at_v;
        t += s_t;
        v += s_v;
        tt += s_t * at_t;
        tv += s_t * at_v;
        vv += s_v * at_v;
    }
};

struct GeometryGradient {
    float centre_x, centre_y, sigma_x, sigma_y, rho;
};

// Apply the chain rule from the moments to the parameters in LR pixels. σ in LR pixels suffices, because the scale
// cancels between a parameter's projection and its derivative.
GSR_FUNCTION GeometryGradient chain(const Moments<float>& s, const Gaussian& g, float sigma_x, float sigma_y) {
    const float skew = g.whitening.skew;
    GeometryGradient grad;
    grad.centre_x = g.kappa * s.t / sigma_x;
    grad.centre_y = (s.v - skew * s.t) / sigma_y;
    grad.sigma_x = (s.tt + skew * s.tv) / sigma_x;
    grad.sigma_y = (s.vv - skew * s.tv) / sigma_y;
    grad.rho = g.kappa * (s.tv - skew * s.tt);
    return grad;
}

} // namespace gsr

#endif // GSR_GAUSSIAN_H
