// A norm, its scale and shift, and its activation in one pass over a map.
//
// Maps are channels_last: `rows` pixels of `channels` numbers for each of `batch` images. Numbers are
// float32 or bfloat16 (`half`). A float32 map can be put out in two parts (parts.cpp).

#include <cmath>
#include <vector>

#include "numbers.h"

namespace {

enum Activation { NONE, SILU, GELU };

// The share of a normal distribution below x, as 1/2 + x P(x^2) / Q(x^2); absolute error below 3e-7.
// Least squares, reweighted towards the largest error, on |x| <= 5.5, beyond which it is 0 or 1.
inline Vector normal_share(Vector x) {
    x = within(Vector{} - 5.5f, x, Vector{} + 5.5f);
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

template <int ACT> inline Vector activated(Vector x) {
    if (ACT == SILU) return x / (1.0f + exponential(-x));
    if (ACT == GELU) return x * normal_share(x);
    return x;
}

// One pixel: the activation of a * x + d, as numbers like x; or, if there are `three`, in two parts.
template <int ACT, typename Number>
inline void pixel(const Number *x, const float *a, const float *d, int64_t channels, void *out,
                  uint16_t *three) {
    to_channels(channels, [=](int64_t c, auto number) {
        const Vector y = activated<ACT>(load(x + c, number) * load(a + c, number) + load(d + c, number));
        if (!three) return store(y, static_cast<Number *>(out) + c, number);
        uint16_t *high = static_cast<uint16_t *>(out) + c;
        store(y, high, number);
        const Vector first = load(high, number);
        store(first, three + c, number);
        store(y - first, three + channels + c, number);
        store(first, three + 2 * channels + c, number);
    });
}

// a and d of one row for a norm over it first: a (x - mean) / deviation + d = times * x + plus.
template <typename In>
inline void normed(const In *x, const float *a, const float *d, float eps, int64_t channels,
                   float *times, float *plus) {
    float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; c++) sum += wide(x[c]);
    const float mean = sum / channels;
#pragma omp simd reduction(+ : square)
    for (int64_t c = 0; c < channels; c++) {
        const float off = wide(x[c]) - mean;
        square += off * off;
    }
    const float inverse = 1 / std::sqrt(square / channels + eps);
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        times[c] = a[c] * inverse;
        plus[c] = d[c] - mean * times[c];
    }
}

// All pixels, as they are, or each normed first (`each`).
template <int ACT, typename Number>
void pixels(const Number *x, const float *a, const float *d, bool each, float eps, int64_t batch,
            int64_t rows, int64_t channels, void *out, uint16_t *three, int threads) {
    const int64_t size = three ? sizeof(uint16_t) : sizeof(Number);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> times(each ? channels : 0), plus(each ? channels : 0);
#pragma omp for
        for (int64_t k = 0; k < batch * rows; k++) {
            const int64_t of = k / rows * channels, at = k * channels;
            if (each) normed(x + at, a + of, d + of, eps, channels, times.data(), plus.data());
            pixel<ACT>(x + at, each ? times.data() : a + of, each ? plus.data() : d + of, channels,
                       static_cast<char *>(out) + at * size, three ? three + 3 * at : three);
        }
    }
}

// Sums and sums of squares over all rows, for each image and channel.
template <typename In>
void sums(const In *x, int64_t batch, int64_t rows, int64_t channels, double *sum, double *square,
          int threads) {
    const int64_t part = 64, parts = (rows + part - 1) / part;
    std::vector<float> found(2 * batch * parts * channels, 0.0f);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < batch * parts; k++) {
        const int64_t image = k / parts, first = k % parts * part;
        const int64_t last = first + part < rows ? first + part : rows;
        float *s = &found[2 * k * channels], *q = s + channels;
        for (int64_t r = first; r < last; r++) {
            const In *at = x + (image * rows + r) * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                const float value = wide(at[c]);
                s[c] += value;
                q[c] += value * value;
            }
        }
    }
    for (int64_t k = 0; k < batch * parts; k++)
        for (int64_t c = 0; c < channels; c++) {
            sum[k / parts * channels + c] += found[2 * k * channels + c];
            square[k / parts * channels + c] += found[(2 * k + 1) * channels + c];
        }
}

// Mean and inverse deviation of each group, told for each of its channels.
template <typename In>
void statistics(const In *x, int64_t batch, int64_t rows, int64_t channels, int64_t groups,
                double eps, std::vector<double> &means, std::vector<double> &inverses,
                int threads) {
    std::vector<double> sum(batch * channels, 0.0), square(batch * channels, 0.0);
    sums(x, batch, rows, channels, sum.data(), square.data(), threads);
    const int64_t width = channels / groups;
    for (int64_t first = 0; first < batch * channels; first += width) {
        double total = 0, squares = 0;
        for (int64_t c = first; c < first + width; c++) total += sum[c], squares += square[c];
        const double number = double(width) * rows, mean = total / number;
        const double variance = squares / number - mean * mean;
        const double inverse = 1 / std::sqrt((variance > 0 ? variance : 0) + eps);
        for (int64_t c = first; c < first + width; c++) means[c] = mean, inverses[c] = inverse;
    }
}

template <typename In>
void normalised(const In *x, int64_t batch, int64_t rows, int64_t channels, int64_t groups,
                double eps, const float *weight, const float *bias, const float *scale,
                const float *shift, int64_t stride, int act, void *out, uint16_t *three, int threads) {
    // What is taken off each channel, and what it is divided by; with no groups, of each row later.
    std::vector<double> means(batch * channels, 0.0), inverses(batch * channels, 1.0);
    if (groups) statistics(x, batch, rows, channels, groups, eps, means, inverses, threads);

    // norm, scale and shift are one multiplication and one addition: a x + d.
    std::vector<float> a(batch * channels), d(batch * channels);
    for (int64_t k = 0; k < batch * channels; k++) {
        const int64_t channel = k % channels, at = k / channels * stride + channel;
        const double factor = scale ? 1.0 + scale[at] : 1.0, times = inverses[k] * weight[channel];
        a[k] = float(times * factor);
        d[k] = float((bias[channel] - means[k] * times) * factor + (shift ? shift[at] : 0.0f));
    }
    auto pass = act == SILU ? pixels<SILU, In> : act == GELU ? pixels<GELU, In> : pixels<NONE, In>;
    pass(x, a.data(), d.data(), groups == 0, float(eps), batch, rows, channels, out, three, threads);
}

}  // namespace

extern "C" {

// act(norm(x) * (1 + scale) + shift); the norm over groups, or over each pixel's channels if `groups`
// is 0. scale and shift, [batch, channels] with a stride between images, may be null. So may `three`: for
// a float32 map in two parts, high, low, high side by side, of which `out` are the first.
void norm_act(const void *x, int half, int64_t batch, int64_t rows, int64_t channels,
              int64_t groups, double eps, const float *weight, const float *bias,
              const float *scale, const float *shift, int64_t stride, int act, void *out,
              uint16_t *three, int threads) {
    if (half)
        normalised(static_cast<const uint16_t *>(x), batch, rows, channels, groups, eps, weight,
                   bias, scale, shift, stride, act, out, three, threads);
    else
        normalised(static_cast<const float *>(x), batch, rows, channels, groups, eps, weight, bias,
                   scale, shift, stride, act, out, three, threads);
}

}  // extern "C"
