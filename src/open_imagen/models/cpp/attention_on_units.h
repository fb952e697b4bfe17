// Attention on the matrix units of a CPU (AMX), in float32.

#pragma once

#include <immintrin.h>

#include <cmath>
#include <memory>
#include <vector>

#include "attention_mask.h"

namespace {

// A tile is 16 rows of 64 bytes: 16 x 16 sums in float32, or 16 x 32 bfloat16 numbers on the left of a
// product; on its right, 32 x 16 with pairs of rows side by side.
// Every number is in two parts; of the four products of parts the smallest is left out, as in fast.py,
// but here all are summed in float32, in the tiles.
const int64_t TILE = 16, DEEP = 32, CELLS = TILE * DEEP;

struct alignas(64) TileShape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileShape() {
        for (int k = 0; k < 8; k++) bytes[k] = 64, rows[k] = 16;
    }
};

// Rows of numbers, [rows, width] with a stride between rows, in two parts, padded with zeros.
struct Rows {
    int64_t rows, width;
    std::vector<uint16_t> high, low;

    Rows(int64_t most, int64_t across)
        : rows(ceil_div(most, DEEP) * DEEP), width(ceil_div(across, DEEP) * DEEP), high(rows * width),
          low(rows * width) {}

    void fill(const float *x, int64_t stride, int64_t number, int64_t across, float scale) {
        for (int64_t r = 0; r < number; r++) {
            const float *from = x + r * stride;
            uint16_t *h = &high[r * width], *l = &low[r * width];
#pragma omp simd
            for (int64_t c = 0; c < across; c++) {
                const float value = scale * from[c];
                h[c] = narrow(value);
                l[c] = rest_of(value, h[c]);
            }
        }
    }
};

// Right sides as tiles: for each 16 across, each 32 down. Of rows that are its columns (keys) ...
void across(const std::vector<uint16_t> &rows, int64_t number, int64_t width, uint16_t *out) {
    for (int64_t a = 0; a < number / TILE; a++)
        for (int64_t d = 0; d < width / DEEP; d++)
            for (int64_t p = 0; p < TILE; p++)
                for (int64_t j = 0; j < TILE; j++, out += 2)
                    std::memcpy(out, &rows[(a * TILE + j) * width + d * DEEP + 2 * p], 4);
}

// ... and of rows that are its rows (values).
void down(const std::vector<uint16_t> &rows, int64_t number, int64_t width, uint16_t *out) {
    for (int64_t a = 0; a < width / TILE; a++)
        for (int64_t d = 0; d < number / DEEP; d++)
            for (int64_t p = 0; p < TILE; p++, out += DEEP) {
                const uint16_t *even = &rows[(d * DEEP + 2 * p) * width + a * TILE];
                for (int64_t j = 0; j < TILE; j++) {
                    out[2 * j] = even[j];
                    out[2 * j + 1] = even[width + j];
                }
            }
}

// One head's keys and values, [keys, width] each with a stride between rows, as right sides.
struct Head {
    std::vector<uint16_t> key_high, key_low, value_high, value_low;

    Head(const float *key, const float *value, int64_t stride, int64_t keys, int64_t width) {
        Rows rows(keys, width);
        for (auto side : {&key_high, &key_low, &value_high, &value_low})
            side->resize(rows.high.size());
        rows.fill(key, stride, keys, width, 1.0f);
        across(rows.high, rows.rows, rows.width, key_high.data());
        across(rows.low, rows.rows, rows.width, key_low.data());
        rows.fill(value, stride, keys, width, 1.0f);
        down(rows.high, rows.rows, rows.width, value_high.data());
        down(rows.low, rows.rows, rows.width, value_low.data());
    }
};

// The left side's tiles 4 and 5, 16 rows each, times two tiles of the right side.
inline void products(const uint16_t *right, const uint16_t *next) {
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(7, next, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
}

// 32 rows of the left side, [32, 32 down] in two parts, times the right side, into `out` [32, stride].
void product(const uint16_t *high, const uint16_t *low, int64_t down, const uint16_t *right_high,
             const uint16_t *right_low, int64_t across, float *out, int64_t stride) {
    const int64_t row = down * DEEP * 2, half = TILE * down * DEEP;
    for (int64_t a = 0; a < across; a += 2) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t d = 0; d < down; d++) {
            const int64_t cell = (a * down + d) * CELLS, next = cell + down * CELLS;
            _tile_loadd(4, high + d * DEEP, row);
            _tile_loadd(5, high + half + d * DEEP, row);
            products(right_low + cell, right_low + next);
            products(right_high + cell, right_high + next);
            _tile_loadd(4, low + d * DEEP, row);
            _tile_loadd(5, low + half + d * DEEP, row);
            products(right_high + cell, right_high + next);
        }
        float *to = out + a * TILE;
        _tile_stored(0, to, stride * 4);
        _tile_stored(1, to + TILE * stride, stride * 4);
        _tile_stored(2, to + TILE, stride * 4);
        _tile_stored(3, to + TILE * stride + TILE, stride * 4);
    }
}

// What one query gives each key, in two parts, from its scores and what hides keys; the sum of it.
inline float softened(float *score, const float *hidden, int64_t keys, uint16_t *high,
                      uint16_t *low) {
    float most = -3e38f, sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t k = 0; k < keys; k++) {
        score[k] += hidden[k];
        most = score[k] > most ? score[k] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < keys; k++) {
        const float behind = score[k] - most;  // below e^-60 only the slow numbers near 0 begin
        const float given = exponential(behind > -60.0f ? behind : -60.0f);
        const uint32_t bits = bits_of(given) + 0x8000, first = bits & 0xffff0000;
        sum += given;
        high[k] = uint16_t(bits >> 16);
        low[k] = uint16_t((bits_of(given - float_of(first)) + 0x8000) >> 16);
    }
    return sum;
}

void attended(const float *query, const float *key_value, const uint8_t *seen, int64_t batch,
              int64_t queries, int64_t keys, int64_t heads, int64_t width, float *out,
              int threads) {
    const int64_t channels = heads * width, all = batch * heads, blocks = ceil_div(queries, DEEP);
    const int64_t deep = ceil_div(width, DEEP), most = ceil_div(keys, DEEP) * DEEP;
    const float scale = 1 / std::sqrt(float(width));
    const std::vector<float> hidden = hiding(seen, batch, keys, most);
    std::vector<std::unique_ptr<Head>> packs(all);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t k = 0; k < all; k++) {
            const float *first = key_value + k / heads * keys * 2 * channels + k % heads * width;
            packs[k].reset(new Head(first, first + channels, 2 * channels, keys, width));
        }
        const TileShape shape;
        _tile_loadconfig(&shape);
        Rows q(DEEP, width);
        std::vector<uint16_t> high(DEEP * most), low(DEEP * most);
        std::vector<float> scores(DEEP * most), found(DEEP * deep * DEEP);
#pragma omp for
        for (int64_t k = 0; k < all * blocks; k++) {
            const int64_t image = k / blocks / heads, head = k / blocks % heads;
            const int64_t first = k % blocks * DEEP;
            const int64_t rows = queries - first < DEEP ? queries - first : DEEP;
            const int64_t at = (image * queries + first) * channels + head * width;
            const Head &of = *packs[k / blocks];
            q.fill(query + at, channels, rows, width, scale);
            product(q.high.data(), q.low.data(), deep, of.key_high.data(), of.key_low.data(),
                    most / TILE, scores.data(), most);
            float sums[DEEP];
            for (int64_t r = 0; r < rows; r++)
                sums[r] = softened(&scores[r * most], &hidden[image * most], most,
                                   &high[r * most], &low[r * most]);
            product(high.data(), low.data(), most / DEEP, of.value_high.data(),
                    of.value_low.data(), deep * 2, found.data(), deep * DEEP);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c++)
                    out[at + r * channels + c] = found[r * deep * DEEP + c] / sums[r];
        }
        _tile_release();
    }
}

}  // namespace
