// Float32 maps in two bfloat16 parts, high + low, which together carry 16 of their 24 bits: what the
// matrix units of a CPU multiply (see fast.py).

#include "numbers.h"

extern "C" {

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
            t[channels + c] = rest_of(at[c], part);
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
