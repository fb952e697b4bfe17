// Attention by SIMD (AVX2, AVX-512): packing of keys and values, and the softmax of one query.

#pragma once

#include <algorithm>
#include <cmath>

#include "attention_mask.h"
#include "gemm.h"

namespace {

constexpr int64_t SCORES_AT_A_TIME = 1 << 16;  // what fits into the caches near a core
constexpr float LOG2_E = 1.44269504f;

inline int64_t queries_at_a_time(int64_t keys) {
    return std::min<int64_t>(8, std::max<int64_t>(1, SCORES_AT_A_TIME / keys / MAX_ROWS)) * MAX_ROWS;
}

// Sizes of one head's keys and values, [keys, width] each, as panels of right sides, in numbers.
template <typename Number> struct PackedShape {
    static constexpr int64_t N = PER_CELL<Number>;
    int64_t keys, width, key_cells, value_cells, key_size, value_size;

    PackedShape(int64_t keys, int64_t width)
        : keys(keys), width(width), key_cells(ceil_div(width, N)), value_cells(ceil_div(keys, N)),
          key_size(ceil_div(keys, PANEL) * key_cells * PANEL * N),
          value_size(ceil_div(width, PANEL) * value_cells * PANEL * N) {}

    // scores = q keys^T: a panel has PANEL keys. Masked keys, which may hold NaN, are left out;
    // without a mask, none.
    void pack_keys(const Number *key, int64_t stride, const uint8_t *mask, Number *packed) const {
        std::memset(packed, 0, key_size * sizeof(Number));
        for (int64_t k = 0; k < keys; k++) {
            if (mask && !mask[k]) continue;
            const Number *from = key + k * stride;
            Number *to = packed + (k / PANEL * key_cells * PANEL + k % PANEL) * N;
            for (int64_t c = 0; c < width; c++) to[c / N * PANEL * N + c % N] = from[c];
        }
    }

    // output = weights values: a panel has PANEL channels.
    void pack_values(const Number *value, int64_t stride, Number *packed) const {
        std::memset(packed, 0, value_size * sizeof(Number));
        for (int64_t k = 0; k < keys; k++) {
            const Number *from = value + k * stride;
            for (int64_t p = 0; p < width; p += PANEL) {
                Number *to = packed + (p * value_cells + k / N * PANEL) * N + k % N;
                for (int64_t c = p; c < std::min(p + PANEL, width); c++) to[(c - p) * N] = from[c];
            }
        }
    }
};

inline void store_number(Vector x, float *to) { store(x, to, LANES); }

// Of numbers that are not NaN, which costs less to round.
inline void store_number(Vector x, uint16_t *to) {
    const Bfloat16s rounded = __builtin_convertvector(round_to_upper_half(bits_of(x)), Bfloat16s);
    std::memcpy(to, &rounded, sizeof(rounded));
}

// Softmax of one query, in powers of two, without its division: the weights of all keys, from `scale` times
// its scores plus the mask's bias, and their sum, which is NaN if a score is. `weights` may be where the
// scores are.
template <typename Number>
inline float softmax_weights(const float *score, float scale, const float *bias, int64_t keys,
                             Number *weights) {
    Vector most = Vector{} - 3e38f, all = {}, exponents = {};
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector one = scale * load(score + k, LANES) + load(bias + k, LANES);
        most = one > most ? one : most;
    }
    float highest = most[0], sum = 0;
    for (int64_t k = 1; k < LANES; k++) highest = std::max(highest, most[k]);
    const Vector least = Vector{} - 80.0f;
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector one = scale * load(score + k, LANES) + load(bias + k, LANES) - highest;
        const Vector exponent = one < least ? least : one;  // NaN stays
        const Vector weight = exp2_of(exponent);
        all += weight;
        exponents += exponent;
        store_number(weight, weights + k);
    }
    for (int64_t k = 0; k < LANES; k++) sum += all[k];
    for (int64_t k = 0; k < LANES; k++) sum += exponents[k] - exponents[k];  // 0, or NaN
    return sum;
}

}  // namespace
