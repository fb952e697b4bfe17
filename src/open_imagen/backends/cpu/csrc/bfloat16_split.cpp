// Split-bfloat16 arithmetic (bf16x3): float32 numbers as two bfloat16 parts, high + low, which together
// carry 16 of their 24 bits; what AMX multiplies. See SplitBfloat16Conv2d in layers.py.

#include "kernels.h"
#include "simd.h"

extern "C" {

int bfloat16_split(const float *x, int64_t pixels, int64_t channels, uint16_t *high,
                   uint16_t *stacked, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = x + p * channels;
        uint16_t *h = high + p * channels, *s = stacked + 3 * p * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
            const uint16_t part = to_bfloat16(from[c]);
            h[c] = part;
            s[c] = part;
            s[channels + c] = low_part(from[c], part);
            s[2 * channels + c] = part;
        }
    }
    return DONE;
}

int bfloat16_merge(const uint16_t *first, const uint16_t *rest, const float *bias,
                   const float *residual, float scale, int64_t pixels, int64_t channels,
                   float *out, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t p = 0; p < pixels; p++) {
        const int64_t at = p * channels;
        const uint16_t *f = first + at, *r = rest + at;
        float *y = out + at;
        if (residual) {
            const float *x = residual + at;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[c] = (x[c] + (to_float(f[c]) + (to_float(r[c]) + bias[c]))) * scale;
        } else {
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                y[c] = (to_float(f[c]) + (to_float(r[c]) + bias[c])) * scale;
        }
    }
    return DONE;
}

}  // extern "C"
