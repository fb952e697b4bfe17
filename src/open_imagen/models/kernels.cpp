// Passes over feature maps that torch makes one by one, each made once, on a CPU.
//
// Maps are channels_last: `rows` pixels of `channels` numbers for each of `batch` images. Numbers are
// float32 or bfloat16 (`half`). A float32 map can be put out in two bfloat16 parts, high + low, which
// together carry 16 of its 24 bits: what the matrix units of a CPU multiply (see fast.py).

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

enum Activation { NONE, SILU, GELU };
enum Output { FLOAT, HALF, SPLIT };

inline float wide(float x) { return x; }

inline float wide(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

// To the nearest, ties to even.
inline uint16_t narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x by 2^n (1 + r + r^2 / 2 + ...), |r| <= ln(2) / 2; relative error below 2e-7.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    const float n = std::rint(x * 1.44269504f);
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    const int32_t bits = (int32_t(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return sum * power;
}

// The share of a normal distribution below x, as 1/2 + x P(x^2) / Q(x^2); absolute error below 3e-7.
// Least squares, reweighted towards the largest error, on |x| <= 5.5, beyond which it is 0 or 1.
inline float normal_share(float x) {
    x = x < -5.5f ? -5.5f : (x > 5.5f ? 5.5f : x);
    const float t = x * x;
    float p = 2.274936427e-8f;
    p = p * t + 6.352108203e-6f;
    p = p * t + 1.688255074e-4f;
    p = p * t + 4.677259743e-3f;
    p = p * t + 3.385263997e-2f;
    p = p * t + 3.989422346e-1f;
    float q = 1.197503145e-6f;
    q = q * t + 7.364740033e-5f;
    q = q * t + 1.884444044e-3f;
    q = q * t + 2.864586648e-2f;
    q = q * t + 2.515219030e-1f;
    q = q * t + 1.0f;
    return 0.5f + x * p / q;
}

template <int ACT> inline float activated(float x) {
    if (ACT == SILU) return x / (1.0f + exponential(-x));
    if (ACT == GELU) return x * normal_share(x);
    return x;
}

// One row of pixels' channels: activation of a * x + d, put out as `OUT` says.
template <int OUT, int ACT, typename In>
inline void row(const In *x, const float *a, const float *d, int64_t channels, void *out,
                uint16_t *three) {
    if (OUT == FLOAT) {
        float *y = static_cast<float *>(out);
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) y[c] = activated<ACT>(wide(x[c]) * a[c] + d[c]);
    } else if (OUT == HALF) {
        uint16_t *y = static_cast<uint16_t *>(out);
#pragma omp simd
        for (int64_t c = 0; c < channels; c++)
            y[c] = narrow(activated<ACT>(wide(x[c]) * a[c] + d[c]));
    } else {
        uint16_t *high = static_cast<uint16_t *>(out);
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
            const float y = activated<ACT>(wide(x[c]) * a[c] + d[c]);
            const uint16_t h = narrow(y);
            high[c] = h;
            three[c] = h;
            three[channels + c] = narrow(y - wide(h));
            three[2 * channels + c] = h;
        }
    }
}

template <int OUT, int ACT, typename In>
void rows_of(const In *x, const float *a, const float *d, int64_t batch, int64_t rows,
             int64_t channels, void *out, uint16_t *three, int threads) {
    const int64_t size = OUT == FLOAT ? 4 : 2;
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < batch * rows; k++) {
        const int64_t of = k / rows * channels, at = k * channels;
        row<OUT, ACT>(x + at, a + of, d + of, channels, static_cast<char *>(out) + at * size,
                      three + 3 * at);
    }
}

template <int OUT, typename In>
void chosen(int act, const In *x, const float *a, const float *d, int64_t batch, int64_t rows,
            int64_t channels, void *out, uint16_t *three, int threads) {
    auto pass = act == SILU   ? rows_of<OUT, SILU, In>
                : act == GELU ? rows_of<OUT, GELU, In>
                              : rows_of<OUT, NONE, In>;
    pass(x, a, d, batch, rows, channels, out, three, threads);
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

template <typename In>
void normalised(const In *x, int64_t batch, int64_t rows, int64_t channels, int64_t groups,
                double eps, const float *weight, const float *bias, const float *scale,
                const float *shift, int64_t stride, int act, int kind, void *out, uint16_t *three,
                int threads) {
    std::vector<double> sum(batch * channels, 0.0), square(batch * channels, 0.0);
    sums(x, batch, rows, channels, sum.data(), square.data(), threads);

    // norm, scale and shift are one multiplication and one addition: a x + d.
    std::vector<float> a(batch * channels), d(batch * channels);
    const int64_t width = channels / groups;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t first = b * channels + g * width;
            double total = 0, squares = 0;
            for (int64_t c = first; c < first + width; c++) total += sum[c], squares += square[c];
            const double number = double(width) * rows, mean = total / number;
            const double variance = squares / number - mean * mean;
            const double inverse = 1 / std::sqrt((variance > 0 ? variance : 0) + eps);
            for (int64_t c = first; c < first + width; c++) {
                const int64_t channel = c - b * channels, at = b * stride + channel;
                const double factor = scale ? 1.0 + scale[at] : 1.0;
                const double times = inverse * weight[channel];
                a[c] = float(times * factor);
                d[c] = float((bias[channel] - mean * times) * factor + (shift ? shift[at] : 0.0f));
            }
        }
    auto pass = kind == FLOAT  ? chosen<FLOAT, In>
                : kind == HALF ? chosen<HALF, In>
                               : chosen<SPLIT, In>;
    pass(act, x, a.data(), d.data(), batch, rows, channels, out, three, threads);
}

}  // namespace

extern "C" {

// act(group_norm(x) * (1 + scale) + shift); scale and shift, [batch, channels] with a stride between
// images, may be null. `three` is used if kind is SPLIT: high, low, high side by side.
void norm_act(const void *x, int half, int64_t batch, int64_t rows, int64_t channels,
              int64_t groups, double eps, const float *weight, const float *bias,
              const float *scale, const float *shift, int64_t stride, int act, int kind, void *out,
              uint16_t *three, int threads) {
    if (half)
        normalised(static_cast<const uint16_t *>(x), batch, rows, channels, groups, eps, weight,
                   bias, scale, shift, stride, act, kind, out, three, threads);
    else
        normalised(static_cast<const float *>(x), batch, rows, channels, groups, eps, weight, bias,
                   scale, shift, stride, act, kind, out, three, threads);
}

// x in two parts: high, and high, low, high side by side.
void split(const float *x, int64_t rows, int64_t channels, uint16_t *high, uint16_t *three,
           int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t r = 0; r < rows; r++) {
        const float *at = x + r * channels;
        uint16_t *h = high + r * channels, *t = three + 3 * r * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
            const uint16_t part = narrow(at[c]);
            h[c] = part;
            t[c] = part;
            t[channels + c] = narrow(at[c] - wide(part));
            t[2 * channels + c] = part;
        }
    }
}

// (onto + first + rest + bias) * factor; `onto` may be null, and may be `out`.
void join(const uint16_t *first, const uint16_t *rest, const float *bias, const float *onto,
          float factor, int64_t rows, int64_t channels, float *out, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = r * channels;
        const uint16_t *f = first + at, *s = rest + at;
        float *y = out + at;
        if (onto) {
            const float *o = onto + at;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[c] = (o[c] + (wide(f[c]) + (wide(s[c]) + bias[c]))) * factor;
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[c] = (wide(f[c]) + (wide(s[c]) + bias[c])) * factor;
        }
    }
}

}  // extern "C"
