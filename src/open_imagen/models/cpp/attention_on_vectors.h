// Attention on vectors, in float32 or in bfloat16.

#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention_mask.h"
#include "products.h"

namespace {

constexpr int64_t ROOM = 1 << 16;  // scores at a time: what fits into the caches near a core

inline int64_t queries_at_a_time(int64_t keys) {
    return std::min<int64_t>(8, std::max<int64_t>(1, ROOM / keys / TALL)) * TALL;
}

// One head's keys and values, [keys, width] each with a stride between rows, as right sides.
template <typename Number> struct Head {
    std::vector<Number> keys, values;

    Head(const Number *key, const Number *value, int64_t stride, int64_t number, int64_t width) {
        constexpr int64_t N = IN_CELL<Number>;
        const int64_t deep = ceil_div(width, N), down = ceil_div(number, N);
        keys.resize(ceil_div(number, WIDE) * deep * WIDE * N);
        values.resize(ceil_div(width, WIDE) * down * WIDE * N);
        for (int64_t k = 0; k < number; k++) {
            const Number *from = key + k * stride, *given = value + k * stride;
            Number *to = &keys[(k / WIDE * deep * WIDE + k % WIDE) * N];
            for (int64_t c = 0; c < width; c++) to[c / N * WIDE * N + c % N] = from[c];
            for (int64_t p = 0; p < width; p += WIDE) {
                to = &values[(p * down + k / N * WIDE) * N + k % N];
                for (int64_t c = p; c < std::min(p + WIDE, width); c++) to[(c - p) * N] = given[c];
            }
        }
    }
};

// What one query gives each key, from its scores, times `scale`, and what hides keys, as powers of two;
// the sum of it. `given` may be where the scores are.
template <typename Number>
inline float softened(const float *score, float scale, const float *hidden, int64_t keys,
                      Number *given) {
    Vector most = Vector{} - 3e38f, all = {};
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector one = scale * load(score + k, LANES) + load(hidden + k, LANES);
        most = one > most ? one : most;
    }
    float highest = most[0], sum = 0;
    for (int64_t k = 1; k < LANES; k++) highest = std::max(highest, most[k]);
    const Vector least = Vector{} - 80.0f;
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector one = scale * load(score + k, LANES) + load(hidden + k, LANES) - highest;
        const Vector power = power_of_two(one > least ? one : least);
        all += power;
        store(power, given + k, LANES);
    }
    for (int64_t k = 0; k < LANES; k++) sum += all[k];
    return sum;
}

template <typename Number>
void attended(const Number *query, const Number *key_value, const uint8_t *seen, int64_t batch,
              int64_t queries, int64_t keys, int64_t heads, int64_t width, Number *out,
              int threads) {
    constexpr int64_t N = IN_CELL<Number>;
    const int64_t channels = heads * width, all = batch * heads;
    const int64_t deep = ceil_div(width, N), down = ceil_div(keys, N);
    const int64_t most = ceil_div(keys, WIDE) * WIDE, across = ceil_div(width, WIDE) * WIDE;
    const int64_t high = queries_at_a_time(most);
    const int64_t blocks = ceil_div(queries, high);
    const float scale = 1.44269504f / std::sqrt(float(width));  // to base two
    const std::vector<float> hidden = hiding(seen, batch, keys, most);
    std::vector<std::unique_ptr<Head<Number>>> packs(all);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t k = 0; k < all; k++) {
            const Number *first = key_value + k / heads * keys * 2 * channels + k % heads * width;
            packs[k].reset(
                new Head<Number>(first, first + channels, 2 * channels, keys, width));
        }
        std::vector<Number> left(high * deep * N), narrowed(N > 1 ? high * most : 0);
        std::vector<float> scores(high * most), found(high * across), sums(high);
        Number *given = N > 1 ? narrowed.data() : reinterpret_cast<Number *>(scores.data());
#pragma omp for schedule(dynamic)
        for (int64_t k = 0; k < all * blocks; k++) {
            const int64_t image = k / blocks / heads, head = k / blocks % heads;
            const int64_t first = k % blocks * high, rows = std::min(high, queries - first);
            const int64_t at = (image * queries + first) * channels + head * width;
            const Head<Number> &of = *packs[k / blocks];
            for (int64_t r = 0; r < rows; r++)
                std::memcpy(&left[r * deep * N], query + at + r * channels,
                            width * sizeof(Number));
            for (int64_t p = 0; p < most; p += WIDE)
                products(left.data(), deep * N, &of.keys[p * deep * N], deep, &scores[p], most,
                         rows);
            for (int64_t r = 0; r < rows; r++)
                sums[r] = softened(&scores[r * most], scale, &hidden[image * most], most,
                                   given + r * most);
            for (int64_t c = 0; c < across; c += WIDE)
                products(given, most, &of.values[c * down * N], down, &found[c], across, rows);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c++)
                    put(found[r * across + c] / sums[r], out + at + r * channels + c);
        }
    }
}

}  // namespace
