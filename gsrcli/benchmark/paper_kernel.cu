// The published rasterization, for comparison: Algorithm 1 of GSASR (arXiv:2501.06838), written from the paper's
// listing. All Gaussians are handled in parallel, one thread each, and each is added to every pixel of a window whose
// size does not depend on the Gaussian. Backward visits the same pixels and gathers the Gaussian's own gradients.
//
// The listing tests every pixel of the picture against the window; here the loops cover the window only, which
// draws the same in less time. Positions are pixel centres, as everywhere in gsrcli.

struct Window {
    long long top, bottom, left, right; // first and last row and column
};

// The pixels no farther than window_y and window_x from a centre, in output pixels, clipped to the picture.
__device__ __forceinline__ Window window_of(float x, float y, float window_x, float window_y, long long height,
                                            long long width) {
    Window window;
    window.top = (long long)fmaxf(ceilf(y - window_y), 0.0f);
    window.left = (long long)fmaxf(ceilf(x - window_x), 0.0f);
    window.bottom = (long long)fminf(floorf(y + window_y), (float)(height - 1));
    window.right = (long long)fminf(floorf(x + window_x), (float)(width - 1));
    return window;
}

// centre, sigma (count, 2), rho (count), value (count, 3) in LR pixels; image (3, height, width), initially zero.
extern "C" __global__ void published_draw(const float* centre, const float* sigma, const float* rho, const float* value,
                                          float* image, long long count, long long height, long long width,
                                          double scale_y, double scale_x, double window_y, double window_x) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float sx = sigma[2 * i] * (float)scale_x, sy = sigma[2 * i + 1] * (float)scale_y, r = rho[i];
    const float x = centre[2 * i] * (float)scale_x - 0.5f, y = centre[2 * i + 1] * (float)scale_y - 0.5f;
    const float a = -0.5f / (1.0f - r * r);
    const float red = value[3 * i], green = value[3 * i + 1], blue = value[3 * i + 2];
    const Window window = window_of(x, y, (float)window_x, (float)window_y, height, width);
    for (long long row = window.top; row <= window.bottom; ++row) {
        for (long long column = window.left; column <= window.right; ++column) {
            const float u = ((float)column - x) / sx, v = ((float)row - y) / sy;
            const float weight = expf(a * (u * u - 2.0f * r * u * v + v * v));
            float* pixel = image + row * width + column;
            atomicAdd(pixel, weight * red);
            atomicAdd(pixel + height * width, weight * green);
            atomicAdd(pixel + 2 * height * width, weight * blue);
        }
    }
}

// Gradients of centre, sigma, rho and value from the image's gradient.
extern "C" __global__ void published_gather(const float* image_gradient, const float* centre, const float* sigma,
                                            const float* rho, const float* value, float* centre_gradient,
                                            float* sigma_gradient, float* rho_gradient, float* value_gradient,
                                            long long count, long long height, long long width, double scale_y,
                                            double scale_x, double window_y, double window_x) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float sx = sigma[2 * i] * (float)scale_x, sy = sigma[2 * i + 1] * (float)scale_y, r = rho[i];
    const float x = centre[2 * i] * (float)scale_x - 0.5f, y = centre[2 * i + 1] * (float)scale_y - 0.5f;
    const float rest = 1.0f / (1.0f - r * r);
    const float red = value[3 * i], green = value[3 * i + 1], blue = value[3 * i + 2];
    float by_x = 0, by_y = 0, by_sx = 0, by_sy = 0, by_rho = 0, by_red = 0, by_green = 0, by_blue = 0;
    const Window window = window_of(x, y, (float)window_x, (float)window_y, height, width);
    for (long long row = window.top; row <= window.bottom; ++row) {
        for (long long column = window.left; column <= window.right; ++column) {
            const float u = ((float)column - x) / sx, v = ((float)row - y) / sy;
            const float q = rest * (u * u - 2.0f * r * u * v + v * v);
            const float weight = expf(-0.5f * q);
            const float* pixel = image_gradient + row * width + column;
            const float g_red = pixel[0], g_green = pixel[height * width], g_blue = pixel[2 * height * width];
            by_red += weight * g_red;
            by_green += weight * g_green;
            by_blue += weight * g_blue;
            // Each parameter's gradient is s times -dq/2.
            const float s = weight * (g_red * red + g_green * green + g_blue * blue);
            const float along = rest * (u - r * v), across = rest * (v - r * u);
            by_x += s * along;
            by_y += s * across;
            by_sx += s * along * u;
            by_sy += s * across * v;
            by_rho += s * rest * (u * v - r * q);
        }
    }
    centre_gradient[2 * i] = by_x / sx * (float)scale_x;
    centre_gradient[2 * i + 1] = by_y / sy * (float)scale_y;
    sigma_gradient[2 * i] = by_sx / sx * (float)scale_x;
    sigma_gradient[2 * i + 1] = by_sy / sy * (float)scale_y;
    rho_gradient[i] = by_rho;
    value_gradient[3 * i] = by_red;
    value_gradient[3 * i + 1] = by_green;
    value_gradient[3 * i + 2] = by_blue;
}
