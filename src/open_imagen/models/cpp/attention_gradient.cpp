// The gradients of softmax(q k / sqrt(d)) v, on vectors, in float32.

#include "attention_on_vectors.h"

namespace {

// Rows of `width` numbers, side by side, with zeros behind them.
void copy_rows(const float *from, int64_t stride, int64_t rows, int64_t width, float *to,
               int64_t across, int64_t high) {
    std::memset(to, 0, high * across * sizeof(float));
    for (int64_t r = 0; r < rows; r++)
        std::memcpy(to + r * across, from + r * stride, width * sizeof(float));
}

// One query: from its powers of two, whose sum is given, and the gradient of its shares of the keys, the
// shares, in place of the first, and the gradient of its scores, in place of the other.
void score_gradient(float *power, float sum, float *gradient, float scale, int64_t keys) {
    Vector all = {};
    for (int64_t k = 0; k < keys; k += LANES) {
        const Vector share = load(power + k, LANES) / sum;
        all += share * load(gradient + k, LANES);
        store(share, power + k, LANES);
    }
    float mean = 0;
    for (int64_t k = 0; k < LANES; k++) mean += all[k];
    for (int64_t k = 0; k < keys; k += LANES)
        store(load(power + k, LANES) * (load(gradient + k, LANES) - mean) * scale, gradient + k,
              LANES);
}

}  // namespace

extern "C" {

// Of `attention` and the gradient of what it puts out, [batch, queries, heads * width], those of query
// and key_value, each laid out like what it is of.
void attention_gradient(const float *query, const float *key_value, const uint8_t *seen,
                        const float *gradient, int64_t batch, int64_t queries, int64_t keys,
                        int64_t heads, int64_t width, float *of_query, float *of_key_value,
                        int threads) {
    const int64_t channels = heads * width;
    const int64_t most = ceil_div(keys, WIDE) * WIDE, across = ceil_div(width, WIDE) * WIDE;
    const int64_t high = queries_at_a_time(most);
    const float scale = 1 / std::sqrt(float(width));
    const std::vector<float> hidden = hiding(seen, batch, keys, most);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> q(high * across), g(high * across), found(high * across);
        std::vector<float> scores(high * most), shares(high * most);
        std::vector<float> of_keys(most * across), of_values(most * across);
#pragma omp for schedule(dynamic)
        for (int64_t k = 0; k < batch * heads; k++) {
            const int64_t image = k / heads, column = k % heads * width;
            const int64_t at = image * keys * 2 * channels + column;
            const float *key = key_value + at, *value = key + channels;
            const Head<float> by_key(key, key, 2 * channels, keys, width);
            const Head<float> by_value(value, value, 2 * channels, keys, width);
            std::fill(of_keys.begin(), of_keys.end(), 0.0f);
            std::fill(of_values.begin(), of_values.end(), 0.0f);
            for (int64_t first = 0; first < queries; first += high) {
                const int64_t rows = std::min(high, queries - first);
                const int64_t begin = (image * queries + first) * channels + column;
                copy_rows(query + begin, channels, rows, width, q.data(), across, high);
                copy_rows(gradient + begin, channels, rows, width, g.data(), across, high);
                for (int64_t p = 0; p < most; p += WIDE) {
                    products(q.data(), across, &by_key.keys[p * width], width, &scores[p], most,
                             rows);
                    products(g.data(), across, &by_value.keys[p * width], width, &shares[p], most,
                             rows);
                }
                for (int64_t r = 0; r < rows; r++) {
                    float *score = &scores[r * most];
                    const float sum = softened(score, 1.44269504f * scale, &hidden[image * most],
                                               most, score);
                    score_gradient(score, sum, &shares[r * most], scale, most);
                }
                for (int64_t c = 0; c < across; c += WIDE) {
                    products(shares.data(), most, &by_key.values[c * keys], keys, &found[c], across,
                             rows);
                    sum_products(scores.data(), most, &g[c], across, rows, &of_values[c], across,
                                 keys);
                    sum_products(shares.data(), most, &q[c], across, rows, &of_keys[c], across,
                                 keys);
                }
                for (int64_t r = 0; r < rows; r++)
                    std::memcpy(of_query + begin + r * channels, &found[r * across],
                                width * sizeof(float));
            }
            for (int64_t r = 0; r < keys; r++) {
                float *to = of_key_value + at + r * 2 * channels;
                if (!seen[image * keys + r]) {
                    std::memset(to, 0, width * sizeof(float));
                    std::memset(to + channels, 0, width * sizeof(float));
                    continue;
                }
                std::memcpy(to, &of_keys[r * across], width * sizeof(float));
                std::memcpy(to + channels, &of_values[r * across], width * sizeof(float));
            }
        }
    }
}

}  // extern "C"
