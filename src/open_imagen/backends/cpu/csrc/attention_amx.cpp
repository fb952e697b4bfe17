// softmax(q k / sqrt(d)) v by AMX, in float32 as split-bfloat16 (bf16x3).

#ifdef __AMX_BF16__

#include <immintrin.h>
#include <omp.h>

#include <cmath>
#include <vector>

#include "attention_mask.h"
#include "kernels.h"
#include "workspace.h"

namespace {

// An AMX tile is 16 rows of 64 bytes: 16 x 16 sums in float32, or 16 x 32 bfloat16 numbers on the left of a
// product; on its right, 32 x 16 with pairs of rows side by side. Every number is split in two parts; of the
// four products of parts the smallest is left out, and the rest are summed in float32, in the tiles.
constexpr int64_t ROWS = 16, DEPTH = 32, TILE_NUMBERS = ROWS * DEPTH;

thread_local Workspace packed_heads, thread_scratch;

struct alignas(64) TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    TileConfig() {
        for (int k = 0; k < 8; k++) bytes[k] = 64, rows[k] = ROWS;
    }
};

// A matrix in two bfloat16 parts.
struct Split {
    uint16_t *high, *low;

    // float32 numbers of scratch memory that both parts take.
    static int64_t room(int64_t numbers) { return ceil_div(numbers, LINE_FLOATS) * LINE_FLOATS; }

    Split(float *scratch, int64_t numbers)
        : high(reinterpret_cast<uint16_t *>(scratch)), low(high + room(numbers)) {}
};

// Rows of `width` numbers, `stride` apart, times `scale`, into rows `padded` apart.
void split_rows(const float *x, int64_t stride, int64_t rows, int64_t width, float scale,
                int64_t padded, Split to) {
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * stride;
        uint16_t *h = to.high + r * padded, *l = to.low + r * padded;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) {
            const float value = scale * from[c];
            h[c] = to_bfloat16(value);
            l[c] = low_part(value, h[c]);
        }
    }
}

// Right sides as AMX tiles: for each 16 columns, each 32 rows. Of a matrix whose rows are the columns
// (keys) ...
void pack_transposed(const uint16_t *matrix, int64_t rows, int64_t width, uint16_t *out) {
    for (int64_t a = 0; a < rows / ROWS; a++)
        for (int64_t d = 0; d < width / DEPTH; d++)
            for (int64_t p = 0; p < ROWS; p++)
                for (int64_t j = 0; j < ROWS; j++, out += 2)
                    std::memcpy(out, matrix + (a * ROWS + j) * width + d * DEPTH + 2 * p, 4);
}

// ... and of one whose rows are the rows (values).
void pack(const uint16_t *matrix, int64_t rows, int64_t width, uint16_t *out) {
    for (int64_t a = 0; a < width / ROWS; a++)
        for (int64_t d = 0; d < rows / DEPTH; d++)
            for (int64_t p = 0; p < ROWS; p++, out += DEPTH) {
                const uint16_t *even = matrix + (d * DEPTH + 2 * p) * width + a * ROWS;
                for (int64_t j = 0; j < ROWS; j++) {
                    out[2 * j] = even[j];
                    out[2 * j + 1] = even[width + j];
                }
            }
}

// The left side's tiles 4 and 5, 16 rows each, times two tiles of the right side.
inline void multiply_tiles(const uint16_t *right, const uint16_t *next) {
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(7, next, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
}

// GEMM of 32 rows: left [32, 32 * depth] times right, into `out` [32, stride]; `across` tiles of 16 columns,
// an even number.
void gemm_amx(Split left, int64_t depth, Split right, int64_t across, float *out, int64_t stride) {
    const int64_t row = depth * DEPTH * 2, half = ROWS * depth * DEPTH;
    for (int64_t a = 0; a < across; a += 2) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t d = 0; d < depth; d++) {
            const int64_t tile = (a * depth + d) * TILE_NUMBERS, next = tile + depth * TILE_NUMBERS;
            _tile_loadd(4, left.high + d * DEPTH, row);
            _tile_loadd(5, left.high + half + d * DEPTH, row);
            multiply_tiles(right.low + tile, right.low + next);
            multiply_tiles(right.high + tile, right.high + next);
            _tile_loadd(4, left.low + d * DEPTH, row);
            _tile_loadd(5, left.low + half + d * DEPTH, row);
            multiply_tiles(right.high + tile, right.high + next);
        }
        float *to = out + a * ROWS;
        _tile_stored(0, to, stride * 4);
        _tile_stored(1, to + ROWS * stride, stride * 4);
        _tile_stored(2, to + ROWS, stride * 4);
        _tile_stored(3, to + ROWS * stride + ROWS, stride * 4);
    }
}

// Softmax of one query without its division: the weights of all keys, in two parts, and their sum, NaN if a
// score of a visible key is. What a masked key holds is not looked at: it may be NaN.
inline float softmax_weights(float *score, const float *bias, int64_t keys, uint16_t *high,
                             uint16_t *low) {
    float most = -3e38f, sum = 0, exponents = 0;
#pragma omp simd reduction(max : most)
    for (int64_t k = 0; k < keys; k++) {
        score[k] = bias[k] == 0.0f ? score[k] : bias[k];
        most = score[k] > most ? score[k] : most;
    }
#pragma omp simd reduction(+ : sum, exponents)
    for (int64_t k = 0; k < keys; k++) {
        const float behind = score[k] - most;  // below e^-60 only the slow numbers near 0 begin
        const float exponent = behind < -60.0f ? -60.0f : behind;
        const float weight = exp_of(exponent);
        const uint32_t bits = bits_of(weight) + 0x8000, first = bits & 0xffff0000;
        sum += weight;
        exponents += exponent;
        high[k] = uint16_t(bits >> 16);
        low[k] = uint16_t((bits_of(weight - float_of(first)) + 0x8000) >> 16);
    }
    return sum + (exponents - exponents);  // plus 0, or NaN
}

void attend(const float *query, const float *keys_values, const uint8_t *mask, int64_t batch,
            int64_t queries, int64_t keys, int64_t heads, int64_t width, float *out, int threads) {
    const int64_t channels = heads * width, all = batch * heads, blocks = ceil_div(queries, DEPTH);
    const int64_t depth = ceil_div(width, DEPTH), across = depth * DEPTH;
    const int64_t padded = ceil_div(keys, DEPTH) * DEPTH, size = padded * across;
    const float scale = 1 / std::sqrt(float(width));
    const std::vector<float> bias = mask_bias(mask, batch, keys, padded);

    Layout head, own;
    head.add(Split::room(size));
    const int64_t values_at = head.add(Split::room(size));
    const int64_t rows_at = own.add(Split::room(size));
    const int64_t left_at = own.add(Split::room(DEPTH * across));
    const int64_t weights_at = own.add(Split::room(DEPTH * padded));
    const int64_t scores_at = own.add(DEPTH * padded), attended_at = own.add(DEPTH * across);
    float *const packed = packed_heads.reserve(all * head.size);
    float *const scratch = thread_scratch.reserve(threads * own.size);
#pragma omp parallel num_threads(threads)
    {
        float *const mine = scratch + omp_get_thread_num() * own.size;
        std::memset(mine, 0, own.size * sizeof(float));
        const Split rows_of(mine + rows_at, size), left(mine + left_at, DEPTH * across);
        const Split weights(mine + weights_at, DEPTH * padded);
        float *const scores = mine + scores_at, *const attended = mine + attended_at;
#pragma omp for
        for (int64_t k = 0; k < all; k++) {
            const float *key = keys_values + k / heads * keys * 2 * channels + k % heads * width;
            const Split key_tiles(packed + k * head.size, size);
            const Split value_tiles(packed + k * head.size + values_at, size);
            split_rows(key, 2 * channels, keys, width, 1.0f, across, rows_of);
            pack_transposed(rows_of.high, padded, across, key_tiles.high);
            pack_transposed(rows_of.low, padded, across, key_tiles.low);
            split_rows(key + channels, 2 * channels, keys, width, 1.0f, across, rows_of);
            pack(rows_of.high, padded, across, value_tiles.high);
            pack(rows_of.low, padded, across, value_tiles.low);
        }
        const TileConfig config;
        _tile_loadconfig(&config);
#pragma omp for
        for (int64_t k = 0; k < all * blocks; k++) {
            const int64_t image = k / blocks / heads, column = k / blocks % heads * width;
            const int64_t first = k % blocks * DEPTH;
            const int64_t rows = queries - first < DEPTH ? queries - first : DEPTH;
            const int64_t at = (image * queries + first) * channels + column;
            float *const head_at = packed + k / blocks * head.size;
            split_rows(query + at, channels, rows, width, scale, across, left);
            gemm_amx(left, depth, Split(head_at, size), padded / ROWS, scores, padded);
            float sums[DEPTH];
            for (int64_t r = 0; r < rows; r++)
                sums[r] = softmax_weights(scores + r * padded, &bias[image * padded], padded,
                                          weights.high + r * padded, weights.low + r * padded);
            gemm_amx(weights, padded / DEPTH, Split(head_at + values_at, size), depth * 2, attended,
                     across);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < width; c++)
                    out[at + r * channels + c] = attended[r * across + c] / sums[r];
        }
        _tile_release();
    }
}

}  // namespace

extern "C" {

int attention_kind(int bfloat16) { return bfloat16 ? NO_ATTENTION : ATTENTION_AMX; }

int attention_forward(const void *query, const void *keys_values, const uint8_t *mask,
                      int bfloat16, int64_t batch, int64_t queries, int64_t keys, int64_t heads,
                      int64_t width, void *out, int threads) {
    (void)bfloat16;  // the caller asks attention_kind first
    return guarded([=] {
        attend(static_cast<const float *>(query), static_cast<const float *>(keys_values), mask,
               batch, queries, keys, heads, width, static_cast<float *>(out), threads);
    });
}

}  // extern "C"

#endif  // __AMX_BF16__
