// softmax(q k / sqrt(d)) v by SIMD (AVX2, AVX-512), in float32 or, where pairs of it are multiplied, bfloat16.

#ifndef __AMX_BF16__

#include "attention_simd.h"

#include <omp.h>

#include "kernels.h"
#include "workspace.h"

namespace {

thread_local Workspace packed_heads, thread_scratch;

// Blocks of queries meet all keys while their scores stay in the caches.
template <typename Number>
void attend(const Number *query, const Number *keys_values, const uint8_t *mask, int64_t batch,
            int64_t queries, int64_t keys, int64_t heads, int64_t width, Number *out,
            int threads) {
    constexpr int64_t N = PER_CELL<Number>;
    const int64_t channels = heads * width, all = batch * heads;
    const int64_t padded = ceil_div(keys, PANEL) * PANEL, across = ceil_div(width, PANEL) * PANEL;
    const int64_t block = queries_at_a_time(padded), blocks = ceil_div(queries, block);
    const PackedShape<Number> shape(keys, width);
    const int64_t depth = shape.key_cells * N;
    const float scale = LOG2_E / std::sqrt(float(width));
    const std::vector<float> bias = mask_bias(mask, batch, keys, padded);

    Layout head, own;
    head.add(ceil_div(shape.key_size, N));
    const int64_t values_at = head.add(ceil_div(shape.value_size, N));
    const int64_t left_at = own.add(block * shape.key_cells), scores_at = own.add(block * padded);
    const int64_t weights_at = N > 1 ? own.add(ceil_div(block * padded, N)) : scores_at;
    const int64_t attended_at = own.add(block * across), sums_at = own.add(block);
    float *const packed = packed_heads.reserve(all * head.size);
    float *const scratch = thread_scratch.reserve(threads * own.size);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t k = 0; k < all; k++) {
            const Number *key = keys_values + k / heads * keys * 2 * channels + k % heads * width;
            float *to = packed + k * head.size;
            shape.pack_keys(key, 2 * channels, mask + k / heads * keys,
                            reinterpret_cast<Number *>(to));
            shape.pack_values(key + channels, 2 * channels,
                              reinterpret_cast<Number *>(to + values_at));
        }
        float *const mine = scratch + omp_get_thread_num() * own.size;
        std::memset(mine, 0, own.size * sizeof(float));
        Number *const left = reinterpret_cast<Number *>(mine + left_at);
        Number *const weights = reinterpret_cast<Number *>(mine + weights_at);
        float *const scores = mine + scores_at, *const attended = mine + attended_at;
        float *const sums = mine + sums_at;
#pragma omp for schedule(dynamic)
        for (int64_t k = 0; k < all * blocks; k++) {
            const int64_t image = k / blocks / heads, column = k / blocks % heads * width;
            const int64_t first = k % blocks * block, rows = std::min(block, queries - first);
            const int64_t at = (image * queries + first) * channels + column;
            const float *head_at = packed + k / blocks * head.size;
            const Number *key = reinterpret_cast<const Number *>(head_at);
            const Number *value = reinterpret_cast<const Number *>(head_at + values_at);
            for (int64_t r = 0; r < rows; r++)
                std::memcpy(left + r * depth, query + at + r * channels, width * sizeof(Number));
            for (int64_t p = 0; p < padded; p += PANEL)
                gemm(left, depth, key + p * depth, shape.key_cells, scores + p, padded, rows);
            for (int64_t r = 0; r < rows; r++)
                sums[r] = softmax_weights(scores + r * padded, scale, &bias[image * padded],
                                          padded, weights + r * padded);
            for (int64_t c = 0; c < across; c += PANEL)
                gemm(weights, padded, value + c * shape.value_cells * N, shape.value_cells,
                     attended + c, across, rows);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c++)
                    store_one(attended[r * across + c] / sums[r], out + at + r * channels + c);
        }
    }
}

}  // namespace

extern "C" {

int attention_kind(int bfloat16) {
#ifdef __AVX512BF16__
    const bool has_bfloat16 = true;
#else
    const bool has_bfloat16 = false;
#endif
    return bfloat16 && !has_bfloat16 ? NO_ATTENTION : ATTENTION_SIMD;
}

int attention_forward(const void *query, const void *keys_values, const uint8_t *mask,
                      int bfloat16, int64_t batch, int64_t queries, int64_t keys, int64_t heads,
                      int64_t width, void *out, int threads) {
    return guarded([=] {
        (void)bfloat16;  // where it is not compiled: the caller asks attention_kind first
#ifdef __AVX512BF16__
        if (bfloat16)
            return attend(static_cast<const uint16_t *>(query),
                          static_cast<const uint16_t *>(keys_values), mask, batch, queries, keys,
                          heads, width, static_cast<uint16_t *>(out), threads);
#endif
        attend(static_cast<const float *>(query), static_cast<const float *>(keys_values), mask,
               batch, queries, keys, heads, width, static_cast<float *>(out), threads);
    });
}

}  // extern "C"

#endif  // __AMX_BF16__
