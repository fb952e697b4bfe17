// GroupNorm or a norm of each pixel, scale and shift, and the activation, in one pass over a map.

#include <omp.h>

#include <cmath>
#include <vector>

#include "kernels.h"
#include "simd.h"
#include "workspace.h"

namespace {

// The cumulative normal distribution, as 1/2 + x P(x^2) / Q(x^2); absolute error below 3e-7. Coefficients
// by least squares, reweighted towards the largest error, on |x| <= 5.5, beyond which it is 0 or 1.
inline Vector normal_cdf(Vector x) {
    x = clamp(Vector{} - 5.5f, x, Vector{} + 5.5f);
    const Vector t = x * x;
    Vector p = 2.274936427e-8f * t + 6.352108203e-6f;
    p = p * t + 1.688255074e-4f;
    p = p * t + 4.677259743e-3f;
    p = p * t + 3.385263997e-2f;
    p = p * t + 3.989422346e-1f;
    Vector q = 1.197503145e-6f * t + 7.364740033e-5f;
    q = q * t + 1.884444044e-3f;
    q = q * t + 2.864586648e-2f;
    q = q * t + 2.515219030e-1f;
    q = q * t + 1.0f;
    return 0.5f + x * p / q;
}

template <int ACTIVATION> inline Vector activate(Vector x) {
    if (ACTIVATION == SILU) return x / (1.0f + exp_of(-x));
    if (ACTIVATION == GELU) return x * normal_cdf(x);
    return x;
}

// One pixel: the activation of a * x + b, as numbers like x; or in bfloat16 parts, if `stacked` is given.
template <int ACTIVATION, typename Number>
inline void transform_pixel(const Number *x, const float *a, const float *b, int64_t channels,
                            void *out, uint16_t *stacked) {
    for_channels(channels, [=](int64_t c, auto number) {
        const Vector y =
            activate<ACTIVATION>(load(x + c, number) * load(a + c, number) + load(b + c, number));
        if (!stacked) return store(y, static_cast<Number *>(out) + c, number);
        uint16_t *high = static_cast<uint16_t *>(out) + c;
        store(y, high, number);
        const Vector first = load(high, number);
        store(first, stacked + c, number);
        store(y - first, stacked + channels + c, number);
        store(first, stacked + 2 * channels + c, number);
    });
}

// The norm of one pixel's channels joined with a and b: a (x - mean) / deviation + b = pixel_a x + pixel_b.
template <typename Number>
inline void normalise_pixel(const Number *x, const float *a, const float *b, float eps,
                            int64_t channels, float *pixel_a, float *pixel_b) {
    float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; c++) sum += to_float(x[c]);
    const float mean = sum / channels;
#pragma omp simd reduction(+ : square)
    for (int64_t c = 0; c < channels; c++) {
        const float difference = to_float(x[c]) - mean;
        square += difference * difference;
    }
    const float inverse = 1 / std::sqrt(square / channels + eps);
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        pixel_a[c] = a[c] * inverse;
        pixel_b[c] = b[c] - mean * pixel_a[c];
    }
}

// All pixels, each first normalised by its own channels if `per_pixel`.
template <int ACTIVATION, typename Number>
void transform_pixels(const Number *x, const float *a, const float *b, bool per_pixel, float eps,
                      int64_t batch, int64_t pixels, int64_t channels, void *out,
                      uint16_t *stacked, int threads) {
    const int64_t size = stacked ? sizeof(uint16_t) : sizeof(Number);
    std::vector<float> scratch(per_pixel ? threads * 2 * channels : 0);
#pragma omp parallel num_threads(threads)
    {
        float *const pixel_a = scratch.data() + (per_pixel ? omp_get_thread_num() * 2 * channels : 0);
        float *const pixel_b = pixel_a + (per_pixel ? channels : 0);
#pragma omp for
        for (int64_t k = 0; k < batch * pixels; k++) {
            const int64_t image = k / pixels * channels, at = k * channels;
            if (per_pixel)
                normalise_pixel(x + at, a + image, b + image, eps, channels, pixel_a, pixel_b);
            transform_pixel<ACTIVATION>(
                x + at, per_pixel ? pixel_a : a + image, per_pixel ? pixel_b : b + image, channels,
                static_cast<char *>(out) + at * size, stacked ? stacked + 3 * at : stacked);
        }
    }
}

// Sums and sums of squares over all pixels, for each image and channel.
template <typename Number>
void channel_sums(const Number *x, int64_t batch, int64_t pixels, int64_t channels, double *sum,
                  double *square, int threads) {
    const int64_t block = 64, blocks = ceil_div(pixels, block);
    std::vector<float> partial(2 * batch * blocks * channels, 0.0f);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < batch * blocks; k++) {
        const int64_t image = k / blocks, first = k % blocks * block;
        const int64_t last = first + block < pixels ? first + block : pixels;
        float *s = &partial[2 * k * channels], *q = s + channels;
        for (int64_t p = first; p < last; p++) {
            const Number *at = x + (image * pixels + p) * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float value = to_float(at[c]);
                s[c] += value;
                q[c] += value * value;
            }
        }
    }
    for (int64_t k = 0; k < batch * blocks; k++)
        for (int64_t c = 0; c < channels; c++) {
            sum[k / blocks * channels + c] += partial[2 * k * channels + c];
            square[k / blocks * channels + c] += partial[(2 * k + 1) * channels + c];
        }
}

// Mean and inverse deviation of each group, written for each of its channels.
template <typename Number>
void group_statistics(const Number *x, int64_t batch, int64_t pixels, int64_t channels,
                      int64_t groups, double eps, std::vector<double> &means,
                      std::vector<double> &inverses, int threads) {
    std::vector<double> sum(batch * channels, 0.0), square(batch * channels, 0.0);
    channel_sums(x, batch, pixels, channels, sum.data(), square.data(), threads);
    const int64_t width = channels / groups;
    for (int64_t first = 0; first < batch * channels; first += width) {
        double total = 0, squares = 0;
        for (int64_t c = first; c < first + width; c++) total += sum[c], squares += square[c];
        const double number = double(width) * pixels, mean = total / number;
        const double variance = squares / number - mean * mean;
        const double inverse = 1 / std::sqrt((variance < 0 ? 0 : variance) + eps);
        for (int64_t c = first; c < first + width; c++) means[c] = mean, inverses[c] = inverse;
    }
}

template <typename Number>
void normalise(const Number *x, int64_t batch, int64_t pixels, int64_t channels, int64_t groups,
               double eps, const float *weight, const float *bias, const float *scale,
               const float *shift, int64_t scale_stride, int activation, void *out,
               uint16_t *stacked, int threads) {
    // Without groups each pixel is normalised later.
    std::vector<double> means(batch * channels, 0.0), inverses(batch * channels, 1.0);
    if (groups) group_statistics(x, batch, pixels, channels, groups, eps, means, inverses, threads);

    // norm, scale and shift are one multiplication and one addition: a x + b.
    std::vector<float> a(batch * channels), b(batch * channels);
    for (int64_t k = 0; k < batch * channels; k++) {
        const int64_t channel = k % channels, at = k / channels * scale_stride + channel;
        const double factor = scale ? 1.0 + scale[at] : 1.0, times = inverses[k] * weight[channel];
        a[k] = float(times * factor);
        b[k] = float((bias[channel] - means[k] * times) * factor + (shift ? shift[at] : 0.0f));
    }
    auto pass = activation == SILU   ? transform_pixels<SILU, Number>
                : activation == GELU ? transform_pixels<GELU, Number>
                                     : transform_pixels<NO_ACTIVATION, Number>;
    pass(x, a.data(), b.data(), groups == 0, float(eps), batch, pixels, channels, out, stacked,
         threads);
}

}  // namespace

extern "C" int norm_act(const void *x, int bfloat16, int64_t batch, int64_t pixels,
                        int64_t channels, int64_t groups, double eps, const float *weight,
                        const float *bias, const float *scale, const float *shift,
                        int64_t scale_stride, int activation, void *out, uint16_t *stacked,
                        int threads) {
    return guarded([=] {
        if (bfloat16)
            normalise(static_cast<const uint16_t *>(x), batch, pixels, channels, groups, eps,
                      weight, bias, scale, shift, scale_stride, activation, out, stacked, threads);
        else
            normalise(static_cast<const float *>(x), batch, pixels, channels, groups, eps, weight,
                      bias, scale, shift, scale_stride, activation, out, stacked, threads);
    });
}
