// The gradients of softmax(q k / sqrt(d)) v by SIMD, in float32. Scores are computed again.

#include <omp.h>

#include "attention_simd.h"
#include "kernels.h"
#include "workspace.h"

namespace {

thread_local Workspace thread_scratch;

// Rows of `width` numbers, `stride` apart, side by side, with zeros behind them.
void copy_rows(const float *from, int64_t stride, int64_t rows, int64_t width, float *to,
               int64_t across, int64_t block) {
    std::memset(to, 0, block * across * sizeof(float));
    for (int64_t r = 0; r < rows; r++)
        std::memcpy(to + r * across, from + r * stride, width * sizeof(float));
}

// The backward pass of one query's softmax: `weights` without their division by `sum` become those with it,
// and the gradient of the weights becomes that of the scores.
void softmax_backward(float *weights, float sum, float *grad, float scale, int64_t keys) {
    Vector all = {};
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector weight = load(weights + k, LANES) / sum;
        all += weight * load(grad + k, LANES);
        store(weight, weights + k, LANES);
    }
    float mean = 0;
    for (int64_t k = 0; k < LANES; k++) mean += all[k];
    for (int64_t k = 0; k < keys; k += LANES)
        store(load(weights + k, LANES) * (load(grad + k, LANES) - mean) * scale, grad + k, LANES);
}

struct Shape {
    int64_t queries, keys, heads, width;
    int64_t channels = heads * width;
    int64_t padded = ceil_div(keys, PANEL) * PANEL, across = ceil_div(width, PANEL) * PANEL;
    int64_t block = queries_at_a_time(padded);
    PackedShape<float> packed = PackedShape<float>(keys, width);
};

// One thread's scratch memory.
struct Buffers {
    float *query, *grad, *grad_query, *scores, *grad_weights, *grad_keys, *grad_values;
    float *keys_by_key, *values_by_key, *keys_by_channel;

    static Layout layout(const Shape &s, int64_t *at) {
        Layout own;
        for (int64_t k = 0; k < 3; k++) at[k] = own.add(s.block * s.across);
        for (int64_t k = 3; k < 5; k++) at[k] = own.add(s.block * s.padded);
        for (int64_t k = 5; k < 7; k++) at[k] = own.add(s.padded * s.across);
        for (int64_t k = 7; k < 9; k++) at[k] = own.add(s.packed.key_size);
        at[9] = own.add(s.packed.value_size);
        return own;
    }

    Buffers(float *own, const int64_t *at)
        : query(own + at[0]), grad(own + at[1]), grad_query(own + at[2]), scores(own + at[3]),
          grad_weights(own + at[4]), grad_keys(own + at[5]), grad_values(own + at[6]),
          keys_by_key(own + at[7]), values_by_key(own + at[8]), keys_by_channel(own + at[9]) {}
};

// A block of queries of one head: the gradient of the queries, and what they add to those of keys and values.
void backward_of_block(const Shape &s, const Buffers &own, const float *bias, int64_t rows) {
    const float scale = 1 / std::sqrt(float(s.width));
    for (int64_t p = 0; p < s.padded; p += PANEL) {
        gemm(own.query, s.across, own.keys_by_key + p * s.width, s.width, own.scores + p, s.padded,
             rows);
        gemm(own.grad, s.across, own.values_by_key + p * s.width, s.width, own.grad_weights + p,
             s.padded, rows);
    }
    for (int64_t r = 0; r < rows; r++) {
        float *score = own.scores + r * s.padded;
        const float sum = softmax_weights(score, LOG2_E * scale, bias, s.padded, score);
        softmax_backward(score, sum, own.grad_weights + r * s.padded, scale, s.padded);
    }
    for (int64_t c = 0; c < s.across; c += PANEL) {
        gemm(own.grad_weights, s.padded, own.keys_by_channel + c * s.keys, s.keys,
             own.grad_query + c, s.across, rows);
        gemm_accumulate(own.scores, s.padded, own.grad + c, s.across, rows, own.grad_values + c,
                        s.across, s.keys);
        gemm_accumulate(own.grad_weights, s.padded, own.query + c, s.across, rows,
                        own.grad_keys + c, s.across, s.keys);
    }
}

// The gradients of one head's keys and values, from `own`. A masked key has none; but where all are masked,
// weights are equal whatever the scores are: values have gradients, keys and queries have not.
void store_keys_values(const Shape &s, const Buffers &own, const uint8_t *mask, bool all_masked,
                       float *out) {
    for (int64_t r = 0; r < s.keys; r++) {
        float *key = out + r * 2 * s.channels, *value = key + s.channels;
        const int64_t bytes = s.width * sizeof(float);
        if (mask[r]) std::memcpy(key, own.grad_keys + r * s.across, bytes);
        else std::memset(key, 0, bytes);
        if (mask[r] || all_masked) std::memcpy(value, own.grad_values + r * s.across, bytes);
        else std::memset(value, 0, bytes);
    }
}

void backward(const float *query, const float *keys_values, const uint8_t *mask, const float *grad,
              int64_t batch, const Shape &s, float *grad_query, float *grad_keys_values,
              int threads) {
    const std::vector<float> bias = mask_bias(mask, batch, s.keys, s.padded);
    int64_t at[10];
    const Layout layout = Buffers::layout(s, at);
    float *const scratch = thread_scratch.reserve(threads * layout.size);
#pragma omp parallel num_threads(threads)
    {
        float *const mine = scratch + omp_get_thread_num() * layout.size;
        std::memset(mine, 0, layout.size * sizeof(float));
        const Buffers own(mine, at);
#pragma omp for schedule(dynamic)
        for (int64_t k = 0; k < batch * s.heads; k++) {
            const int64_t image = k / s.heads, column = k % s.heads * s.width;
            const int64_t stride = 2 * s.channels, begin_keys = image * s.keys * stride + column;
            const float *key = keys_values + begin_keys, *value = key + s.channels;
            const uint8_t *visible = mask + image * s.keys;
            const bool all_masked = std::all_of(visible, visible + s.keys, [](int m) { return !m; });
            s.packed.pack_keys(key, stride, visible, own.keys_by_key);
            s.packed.pack_keys(value, stride, nullptr, own.values_by_key);
            s.packed.pack_values(key, stride, own.keys_by_channel);
            std::memset(own.grad_keys, 0, s.padded * s.across * sizeof(float));
            std::memset(own.grad_values, 0, s.padded * s.across * sizeof(float));
            for (int64_t first = 0; first < s.queries; first += s.block) {
                const int64_t rows = std::min(s.block, s.queries - first);
                const int64_t begin = (image * s.queries + first) * s.channels + column;
                copy_rows(query + begin, s.channels, rows, s.width, own.query, s.across, s.block);
                copy_rows(grad + begin, s.channels, rows, s.width, own.grad, s.across, s.block);
                backward_of_block(s, own, &bias[image * s.padded], rows);
                for (int64_t r = 0; r < rows; r++) {
                    float *to = grad_query + begin + r * s.channels;
                    if (all_masked) std::memset(to, 0, s.width * sizeof(float));
                    else std::memcpy(to, own.grad_query + r * s.across, s.width * sizeof(float));
                }
            }
            store_keys_values(s, own, visible, all_masked, grad_keys_values + begin_keys);
        }
    }
}

}  // namespace

extern "C" int attention_backward(const float *query, const float *keys_values,
                                  const uint8_t *mask, const float *grad, int64_t batch,
                                  int64_t queries, int64_t keys, int64_t heads, int64_t width,
                                  float *grad_query, float *grad_keys_values, int threads) {
    return guarded([=] {
        backward(query, keys_values, mask, grad, batch, Shape{queries, keys, heads, width},
                 grad_query, grad_keys_values, threads);
    });
}
