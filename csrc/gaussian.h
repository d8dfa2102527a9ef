// One Gaussian of the field as the rasterizers see it: the formula every backend shares.
//
// With d = pixel - centre in output pixels, the exponent of GSASR's eq. 5 is
//     q = (dx²/σx² − 2ρ·dx·dy/(σx·σy) + dy²/σy²) / (1 − ρ²).
// It is evaluated in whitened coordinates,
//     v = dy/σy,   t = (dx/σx − ρ·v) / √(1 − ρ²),   q = t² + v²,
// a sum of squares: unlike the polynomial it loses no digits to cancelling terms of opposite sign, and along a
// row (v fixed) the Gaussian is a one-dimensional one in t. The gradients below are plain sums of t and v.
//
// Compiled as C++17 for the CPU, and as CUDA C++ for the device, by nvcc or at run time by NVRTC, which has no headers.
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

// In output pixels: a Gaussian smaller than this cannot be seen, and its t would overflow.
constexpr float kSmallestSigma = 1e-12f;
constexpr float kLargestFloat = 3.402823466e38f;

// What part of the output is drawn, and which contributions are skipped.
struct View {
    long long height, width;      // of the region, in output pixels
    long long origin_y, origin_x; // its first pixel within the whole output
    double scale_y, scale_x;      // output pixels per LR pixel
    double q_max;                 // pixels with q > q_max are skipped; may be infinite
    double window_y, window_x;    // and so are those farther than this from the centre; may be infinite
};

// A Gaussian projected onto the region. Positions are split into a whole pixel and a remainder in float, which
// keeps every digit of the centre however large the picture, and the same bits wherever the region begins.
struct Gaussian {
    long long column, row;   // the pixel at or before the centre, in pixels of the region
    float x, y;              // the centre from there, in [0, 1): pixel X lies at X
    float reach_x, reach_y;  // half-sides of the box that holds every pixel it touches
    float slope;             // dt/dx = 1/(σx·√(1 − ρ²))
    float skew;              // −dt/dv = ρ/√(1 − ρ²)
    float inverse_y;         // dv/dy = 1/σy
    float lean;              // the row at v has its maximum at dx = lean·v
    float kappa;             // 1/√(1 − ρ²)
};

GSR_FUNCTION float smaller(float a, float b) { return a < b ? a : b; }
GSR_FUNCTION float larger(float a, float b) { return a > b ? a : b; }
GSR_FUNCTION long long smaller(long long a, long long b) { return a < b ? a : b; }
GSR_FUNCTION long long larger(long long a, long long b) { return a > b ? a : b; }

// centre and sigma in LR pixels. False for a Gaussian whose geometry is not finite, or not positive: it touches
// no pixel.
GSR_FUNCTION bool project(float centre_x, float centre_y, float sigma_x, float sigma_y, float rho, const View& view,
                          Gaussian& g) {
    const double x = centre_x * view.scale_x - 0.5, y = centre_y * view.scale_y - 0.5;
    const float sx = (float)(sigma_x * view.scale_x), sy = (float)(sigma_y * view.scale_y);
    const float rest = (1.0f - rho) * (1.0f + rho);
    const bool sized = sx > kSmallestSigma && sx <= kLargestFloat && sy > kSmallestSigma && sy <= kLargestFloat;
    if (!(sized && rest > 0 && fabs(x) < 1e15 && fabs(y) < 1e15)) return false;
    const double column = floor(x), row = floor(y);
    g.column = (long long)column - view.origin_x;
    g.row = (long long)row - view.origin_y;
    g.x = (float)(x - column);
    g.y = (float)(y - row);
    // σ is the marginal deviation, so the bounding box of q <= q_max has half-sides σ·√q_max. A box beyond 2^30
    // pixels is the whole picture.
    const float radius = sqrtf((float)view.q_max);
    g.reach_x = smaller(smaller(radius * sx, (float)view.window_x), 1073741824.0f);
    g.reach_y = smaller(smaller(radius * sy, (float)view.window_y), 1073741824.0f);
    g.kappa = 1.0f / sqrtf(rest);
    g.slope = g.kappa / sx;
    g.skew = rho * g.kappa;
    g.inverse_y = 1.0f / sy;
    g.lean = rho * sx;
    return true;
}

// From the first to one past the last of some pixels.
struct Range {
    long long begin, end;
};

// The pixels in [low, high], counted from `base`, clipped to [0, limit).
GSR_FUNCTION Range pixels_within(long long base, float low, float high, long long limit) {
    Range range;
    range.begin = larger(base + (long long)ceilf(low), 0LL);
    range.end = smaller(base + (long long)floorf(high) + 1, limit);
    return range;
}

GSR_FUNCTION Range rows_of(const Gaussian& g, const View& view) {
    return pixels_within(g.row, g.y - g.reach_y, g.y + g.reach_y, view.height);
}

GSR_FUNCTION Range columns_of(const Gaussian& g, const View& view) {
    return pixels_within(g.column, g.x - g.reach_x, g.x + g.reach_x, view.width);
}

// v on a row of pixels.
GSR_FUNCTION float v_of(const Gaussian& g, long long row) { return ((float)(row - g.row) - g.y) * g.inverse_y; }

// The pixels of the row at v with q <= q_max, inside the window.
GSR_FUNCTION Range columns_of(const Gaussian& g, float v, const View& view) {
    const float room = larger((float)view.q_max - v * v, 0.0f);
    const float middle = g.lean * v, half = smaller(sqrtf(room) / g.slope, 1073741824.0f);
    return pixels_within(g.column, g.x + larger(middle - half, -g.reach_x), g.x + smaller(middle + half, g.reach_x),
                         view.width);
}

// t at dx: slope·dx + shift.
GSR_FUNCTION float shift_of(const Gaussian& g, float v) { return -g.skew * v; }

// Sums over a Gaussian's pixels of s = weight · Σ_c grad_c·value_c, times 1, t and v.
struct Moments {
    float t, v, tt, tv, vv;
};

struct GeometryGradient {
    float centre_x, centre_y, sigma_x, sigma_y, rho;
};

// Chain rule from the moments to the parameters in LR pixels. σ in LR pixels serves throughout, because the
// scale cancels between a parameter's projection and its derivative.
GSR_FUNCTION GeometryGradient chain(const Moments& s, const Gaussian& g, float sigma_x, float sigma_y) {
    GeometryGradient grad;
    grad.centre_x = g.kappa * s.t / sigma_x;
    grad.centre_y = (s.v - g.skew * s.t) / sigma_y;
    grad.sigma_x = (s.tt + g.skew * s.tv) / sigma_x;
    grad.sigma_y = (s.vv - g.skew * s.tv) / sigma_y;
    grad.rho = g.kappa * (s.tv - g.skew * s.tt);
    return grad;
}

} // namespace gsr

#endif // GSR_GAUSSIAN_H
