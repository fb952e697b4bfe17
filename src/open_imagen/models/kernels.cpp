// Passes over feature maps that torch makes one by one, each made once, on a CPU.
//
// Maps are channels_last: `rows` pixels of `channels` numbers for each of `batch` images. Numbers are
// float32 or bfloat16 (`half`). A float32 map can be put out in two bfloat16 parts, high + low, which
// together carry 16 of its 24 bits: what the matrix units of a CPU multiply (see fast.py).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__AMX_BF16__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

enum Activation { NONE, SILU, GELU };
enum Output { FLOAT, HALF, SPLIT };

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline float wide(float x) { return x; }

inline float wide(uint16_t half) { return float_of(uint32_t(half) << 16); }

// To the nearest, ties to even.
inline uint16_t narrow(float x) {
    const uint32_t bits = bits_of(x);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline void put(float x, float *to) { *to = x; }

inline void put(float x, uint16_t *to) { *to = narrow(x); }

// The second part of x, whose first is given.
inline uint16_t rest_of(float x, uint16_t first) { return narrow(x - wide(first)); }

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
    return sum * float_of(uint32_t(int32_t(n) + 127) << 23);
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
            three[channels + c] = rest_of(y, h);
            three[2 * channels + c] = h;
        }
    }
}

// a and d of one row for a norm over it first: a (x - mean) / deviation + d = times * x + plus.
template <typename In>
inline void normed(const In *x, const float *a, const float *d, float eps, int64_t channels,
                   float *times, float *plus) {
    float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels; c++) sum += wide(x[c]);
    const float mean = sum / channels;
#pragma omp simd reduction(+ : square)
    for (int64_t c = 0; c < channels; c++) {
        const float off = wide(x[c]) - mean;
        square += off * off;
    }
    const float inverse = 1 / std::sqrt(square / channels + eps);
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        times[c] = a[c] * inverse;
        plus[c] = d[c] - mean * times[c];
    }
}

// All rows, as they are, or each normed first (`each`).
template <int OUT, int ACT, typename In>
void rows_of(const In *x, const float *a, const float *d, bool each, float eps, int64_t batch,
             int64_t rows, int64_t channels, void *out, uint16_t *three, int threads) {
    const int64_t size = OUT == FLOAT ? 4 : 2;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> times(each ? channels : 0), plus(each ? channels : 0);
#pragma omp for
        for (int64_t k = 0; k < batch * rows; k++) {
            const int64_t of = k / rows * channels, at = k * channels;
            if (each) normed(x + at, a + of, d + of, eps, channels, times.data(), plus.data());
            row<OUT, ACT>(x + at, each ? times.data() : a + of, each ? plus.data() : d + of,
                          channels, static_cast<char *>(out) + at * size, three + 3 * at);
        }
    }
}

template <int OUT, typename In>
void chosen(int act, const In *x, const float *a, const float *d, bool each, float eps,
            int64_t batch, int64_t rows, int64_t channels, void *out, uint16_t *three,
            int threads) {
    auto pass = act == SILU   ? rows_of<OUT, SILU, In>
                : act == GELU ? rows_of<OUT, GELU, In>
                              : rows_of<OUT, NONE, In>;
    pass(x, a, d, each, eps, batch, rows, channels, out, three, threads);
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

// Mean and inverse deviation of each group, told for each of its channels.
template <typename In>
void statistics(const In *x, int64_t batch, int64_t rows, int64_t channels, int64_t groups,
                double eps, std::vector<double> &means, std::vector<double> &inverses,
                int threads) {
    std::vector<double> sum(batch * channels, 0.0), square(batch * channels, 0.0);
    sums(x, batch, rows, channels, sum.data(), square.data(), threads);
    const int64_t width = channels / groups;
    for (int64_t first = 0; first < batch * channels; first += width) {
        double total = 0, squares = 0;
        for (int64_t c = first; c < first + width; c++) total += sum[c], squares += square[c];
        const double number = double(width) * rows, mean = total / number;
        const double variance = squares / number - mean * mean;
        const double inverse = 1 / std::sqrt((variance > 0 ? variance : 0) + eps);
        for (int64_t c = first; c < first + width; c++) means[c] = mean, inverses[c] = inverse;
    }
}

template <typename In>
void normalised(const In *x, int64_t batch, int64_t rows, int64_t channels, int64_t groups,
                double eps, const float *weight, const float *bias, const float *scale,
                const float *shift, int64_t stride, int act, int kind, void *out, uint16_t *three,
                int threads) {
    // What is taken off each channel, and what it is divided by; with no groups, of each row later.
    std::vector<double> means(batch * channels, 0.0), inverses(batch * channels, 1.0);
    if (groups) statistics(x, batch, rows, channels, groups, eps, means, inverses, threads);

    // norm, scale and shift are one multiplication and one addition: a x + d.
    std::vector<float> a(batch * channels), d(batch * channels);
    for (int64_t k = 0; k < batch * channels; k++) {
        const int64_t channel = k % channels, at = k / channels * stride + channel;
        const double factor = scale ? 1.0 + scale[at] : 1.0, times = inverses[k] * weight[channel];
        a[k] = float(times * factor);
        d[k] = float((bias[channel] - means[k] * times) * factor + (shift ? shift[at] : 0.0f));
    }
    auto pass = kind == FLOAT  ? chosen<FLOAT, In>
                : kind == HALF ? chosen<HALF, In>
                               : chosen<SPLIT, In>;
    pass(act, x, a.data(), d.data(), groups == 0, float(eps), batch, rows, channels, out, three,
         threads);
}

inline int64_t tiles(int64_t number, int64_t of) { return (number + of - 1) / of; }

// For each image and key 0, or what hides a key that is not seen; [batch, most], padded with the latter.
inline std::vector<float> hiding(const uint8_t *seen, int64_t batch, int64_t keys, int64_t most) {
    std::vector<float> hidden(batch * most, -1e30f);
    for (int64_t k = 0; k < batch * keys; k++)
        if (seen[k]) hidden[k / keys * most + k % keys] = 0.0f;
    return hidden;
}

#ifdef __AMX_BF16__

// Attention on the matrix units. A tile is 16 rows of 64 bytes: 16 x 16 sums in float32, or 16 x 32
// bfloat16 numbers on the left of a product; on its right, 32 x 16 with pairs of rows side by side.
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
        : rows(tiles(most, DEEP) * DEEP), width(tiles(across, DEEP) * DEEP), high(rows * width),
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
    const int64_t channels = heads * width, all = batch * heads, blocks = tiles(queries, DEEP);
    const int64_t deep = tiles(width, DEEP), most = tiles(keys, DEEP) * DEEP;
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

#elif defined(__AVX512F__)

// Attention on vectors of 16. Numbers lie in cells of four bytes, one float32 or a pair of bfloat16:
// of a row on the left of a product, one cell after the other; on its right in panels of WIDE columns,
// one row of cells after the other. TALL rows on the left make TALL x WIDE sums, in registers.
constexpr int64_t LANES = 16, VECTORS = 2, WIDE = VECTORS * LANES, TALL = 12;
constexpr int64_t ROOM = 1 << 16;  // scores at a time: what fits into the caches near a core

template <typename Number> constexpr int64_t IN_CELL = sizeof(float) / sizeof(Number);

inline __m512 plus_products(__m512 sum, const float *left, const float *right) {
    return _mm512_fmadd_ps(_mm512_set1_ps(*left), _mm512_loadu_ps(right), sum);
}

#ifdef __AVX512BF16__
inline __m512 plus_products(__m512 sum, const uint16_t *left, const uint16_t *right) {
    int32_t cell;
    std::memcpy(&cell, left, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(cell),
                            (__m512bh)_mm512_loadu_si512(right));
}
#endif

// TALL rows, `stride` numbers apart, times a panel of `cells` rows, into `out` [TALL, across].
template <typename Number>
void product(const Number *left, int64_t stride, const Number *panel, int64_t cells, float *out,
             int64_t across) {
    constexpr int64_t N = IN_CELL<Number>;
    __m512 sums[TALL][VECTORS] = {};
    for (int64_t d = 0; d < cells; d++)
#pragma GCC unroll 16
        for (int64_t r = 0; r < TALL; r++)
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; v++)
                sums[r][v] = plus_products(sums[r][v], left + r * stride + d * N,
                                           panel + (d * WIDE + v * LANES) * N);
#pragma GCC unroll 16
    for (int64_t r = 0; r < TALL; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            _mm512_storeu_ps(out + r * across + v * LANES, sums[r][v]);
}

// One head's keys and values, [keys, width] each with a stride between rows, as right sides.
template <typename Number> struct Head {
    std::vector<Number> keys, values;

    Head(const Number *key, const Number *value, int64_t stride, int64_t number, int64_t width) {
        constexpr int64_t N = IN_CELL<Number>;
        const int64_t deep = tiles(width, N), down = tiles(number, N);
        keys.resize(tiles(number, WIDE) * deep * WIDE * N);
        values.resize(tiles(width, WIDE) * down * WIDE * N);
        for (int64_t k = 0; k < number; k++)
            for (int64_t c = 0; c < width; c++) {
                const int64_t key_cell = (k / WIDE * deep + c / N) * WIDE + k % WIDE;
                const int64_t value_cell = (c / WIDE * down + k / N) * WIDE + c % WIDE;
                keys[key_cell * N + c % N] = key[k * stride + c];
                values[value_cell * N + k % N] = value[k * stride + c];
            }
    }
};

// What one query gives each key, from its scores and what hides keys; the sum of it. `given` may be
// where the scores are.
template <typename Number>
inline float softened(const float *score, float scale, const float *hidden, int64_t keys,
                      Number *given) {
    float most = -3e38f, sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t k = 0; k < keys; k++) {
        const float one = scale * score[k] + hidden[k];
        most = one > most ? one : most;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < keys; k++) {
        const float behind = scale * score[k] + hidden[k] - most;
        const float one = exponential(behind > -60.0f ? behind : -60.0f);
        sum += one;
        put(one, given + k);
    }
    return sum;
}

template <typename Number>
void attended(const Number *query, const Number *key_value, const uint8_t *seen, int64_t batch,
              int64_t queries, int64_t keys, int64_t heads, int64_t width, Number *out,
              int threads) {
    constexpr int64_t N = IN_CELL<Number>;
    const int64_t channels = heads * width, all = batch * heads;
    const int64_t deep = tiles(width, N), down = tiles(keys, N);
    const int64_t most = tiles(keys, WIDE) * WIDE, across = tiles(width, WIDE) * WIDE;
    const int64_t high = std::min<int64_t>(8, std::max<int64_t>(1, ROOM / most / TALL)) * TALL;
    const int64_t blocks = tiles(queries, high);
    const float scale = 1 / std::sqrt(float(width));
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
        std::vector<float> scores(high * most), found(TALL * across), sums(high);
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
                for (int64_t r = 0; r < rows; r += TALL)
                    product(&left[r * deep * N], deep * N, &of.keys[p * deep * N], deep,
                            &scores[r * most + p], most);
            for (int64_t r = 0; r < rows; r++)
                sums[r] = softened(&scores[r * most], scale, &hidden[image * most], most,
                                   given + r * most);
            for (int64_t r = 0; r < rows; r += TALL) {
                for (int64_t c = 0; c < across; c += WIDE)
                    product(given + r * most, most, &of.values[c * down * N], down, &found[c],
                            across);
                for (int64_t i = r; i < std::min(rows, r + TALL); i++)
                    for (int64_t c = 0; c < width; c++)
                        put(found[(i - r) * across + c] / sums[i], out + at + i * channels + c);
            }
        }
    }
}

#endif

// Winograd's F(4x4, 3x3) (Lavin and Gray 2016): a tile of 4x4 results of a 3x3 convolution wants 36
// products of each pair of channels in place of 144, after its 6x6 inputs d have become B^T d B and
// before its results become A^T m A. Both go by columns and then by rows.

constexpr int64_t SIDE = 4, REACH = 6, PLACES = REACH * REACH;

// Which pixels a tile begins at: their image, row and column.
struct Tile {
    int64_t image, y, x;
    Tile(int64_t number, int64_t height, int64_t width) {
        const int64_t across = (width + SIDE - 1) / SIDE, down = (height + SIDE - 1) / SIDE;
        image = number / (down * across);
        y = number / across % down * SIDE;
        x = number % across * SIDE;
    }
};

// B^T times six rows of channels.
template <typename In>
inline void into(const In *const *d, float *const *out, int64_t channels) {
    const In *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3], *r4 = d[4], *r5 = d[5];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        const float d0 = wide(r0[c]), d1 = wide(r1[c]), d2 = wide(r2[c]);
        const float d3 = wide(r3[c]), d4 = wide(r4[c]), d5 = wide(r5[c]);
        const float even = d4 - 4 * d2, odd = d3 - 4 * d1;
        const float near = d4 - d2, far = 2 * (d3 - d1);
        y0[c] = 4 * d0 - 5 * d2 + d4;
        y1[c] = even + odd;
        y2[c] = even - odd;
        y3[c] = near + far;
        y4[c] = near - far;
        y5[c] = 4 * d1 - 5 * d3 + d5;
    }
}

// A^T times six rows of channels.
inline void out_of(const float *const *m, float *const *out, int64_t channels) {
    const float *m0 = m[0], *m1 = m[1], *m2 = m[2], *m3 = m[3], *m4 = m[4], *m5 = m[5];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3];
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        const float sum = m1[c] + m2[c], gap = m1[c] - m2[c];
        const float sum2 = m3[c] + m4[c], gap2 = m3[c] - m4[c];
        y0[c] = m0[c] + sum + sum2;
        y1[c] = gap + 2 * gap2;
        y2[c] = sum + 4 * sum2;
        y3[c] = gap + 8 * gap2 + m5[c];
    }
}

// B^T d B of the tiles first .. first + number - 1 of maps x [batch, height, width, channels], with
// zeros around them: out [36, number, channels].
template <typename In>
void to_tiles(const In *x, int64_t height, int64_t width, int64_t channels, int64_t first,
              int64_t number, float *out, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> halfway(PLACES * channels);
        const std::vector<In> nothing(channels);
        const In *pixels[REACH];
        const float *from[REACH];
        float *to[REACH];
#pragma omp for
        for (int64_t k = 0; k < number; k++) {
            const Tile tile(first + k, height, width);
            for (int64_t j = 0; j < REACH; j++) {
                const int64_t column = tile.x + j - 1;
                for (int64_t i = 0; i < REACH; i++) {
                    const int64_t line = tile.y + i - 1;
                    const bool inside =
                        line >= 0 && line < height && column >= 0 && column < width;
                    const int64_t pixel = (tile.image * height + line) * width + column;
                    pixels[i] = inside ? x + pixel * channels : nothing.data();
                    to[i] = &halfway[(i * REACH + j) * channels];
                }
                into(pixels, to, channels);
            }
            for (int64_t i = 0; i < REACH; i++) {
                for (int64_t j = 0; j < REACH; j++) {
                    from[j] = &halfway[(i * REACH + j) * channels];
                    to[j] = out + ((i * REACH + j) * number + k) * channels;
                }
                into(from, to, channels);
            }
        }
    }
}

// (onto + A^T m A + bias) * factor of these tiles' m [36, number, channels], into the maps out [batch,
// height, width, channels]; `onto` may be null.
template <typename Out>
void from_tiles(const float *m, const float *bias, const Out *onto, float factor, int64_t height,
                int64_t width, int64_t channels, int64_t first, int64_t number, Out *out,
                int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> halfway(SIDE * REACH * channels), found(SIDE * channels);
        const float *from[REACH];
        float *to[SIDE];
#pragma omp for
        for (int64_t k = 0; k < number; k++) {
            const Tile tile(first + k, height, width);
            for (int64_t j = 0; j < REACH; j++) {
                for (int64_t i = 0; i < REACH; i++)
                    from[i] = m + ((i * REACH + j) * number + k) * channels;
                for (int64_t i = 0; i < SIDE; i++) to[i] = &halfway[(i * REACH + j) * channels];
                out_of(from, to, channels);
            }
            for (int64_t i = 0; i < SIDE && tile.y + i < height; i++) {
                for (int64_t j = 0; j < REACH; j++) from[j] = &halfway[(i * REACH + j) * channels];
                for (int64_t j = 0; j < SIDE; j++) to[j] = &found[j * channels];
                out_of(from, to, channels);
                const int64_t pixel = (tile.image * height + tile.y + i) * width + tile.x;
                for (int64_t j = 0; j < SIDE && tile.x + j < width; j++) {
                    const float *made = to[j];
                    const Out *o = onto + (pixel + j) * channels;
                    Out *y = out + (pixel + j) * channels;
                    if (onto) {
#pragma omp simd
                        for (int64_t c = 0; c < channels; c++)
                            put((wide(o[c]) + (made[c] + bias[c])) * factor, y + c);
                    } else {
#pragma omp simd
                        for (int64_t c = 0; c < channels; c++)
                            put((made[c] + bias[c]) * factor, y + c);
                    }
                }
            }
        }
    }
}

}  // namespace

extern "C" {

// Maps x to the tiles of `to_tiles`, and tiles to maps by `from_tiles`; maps are halves if `half`.
void tiles_in(const void *x, int half, int64_t height, int64_t width, int64_t channels,
              int64_t first, int64_t number, float *out, int threads) {
    if (half)
        to_tiles(static_cast<const uint16_t *>(x), height, width, channels, first, number, out,
                 threads);
    else
        to_tiles(static_cast<const float *>(x), height, width, channels, first, number, out,
                 threads);
}

void tiles_out(const float *m, const float *bias, const void *onto, int half, float factor,
               int64_t height, int64_t width, int64_t channels, int64_t first, int64_t number,
               void *out, int threads) {
    if (half)
        from_tiles(m, bias, static_cast<const uint16_t *>(onto), factor, height, width, channels,
                   first, number, static_cast<uint16_t *>(out), threads);
    else
        from_tiles(m, bias, static_cast<const float *>(onto), factor, height, width, channels,
                   first, number, static_cast<float *>(out), threads);
}

// Whether `attention` is there, of halves or of float32: 2 on matrix units, for which the system must
// give leave, 1 on vectors, 0 not at all.
int has_attention(int half) {
#if defined(__AMX_BF16__)
    return half ? 0 : 2;
#elif defined(__AVX512BF16__)
    return 1;
#elif defined(__AVX512F__)
    return half ? 0 : 1;
#else
    return 0;
#endif
}

// softmax(q k / sqrt(width)) v of every head over the keys that are seen. query and out [batch,
// queries, heads * width]; key_value [batch, keys, 2 * heads * width], keys first; seen [batch, keys].
void attention(const void *query, const void *key_value, const uint8_t *seen, int half,
               int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t width,
               void *out, int threads) {
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    if (half)
        attended(static_cast<const uint16_t *>(query), static_cast<const uint16_t *>(key_value),
                 seen, batch, queries, keys, heads, width, static_cast<uint16_t *>(out), threads);
#endif
#if defined(__AMX_BF16__) || defined(__AVX512F__)
    if (!half)
        attended(static_cast<const float *>(query), static_cast<const float *>(key_value), seen,
                 batch, queries, keys, heads, width, static_cast<float *>(out), threads);
#endif
}

// act(norm(x) * (1 + scale) + shift); the norm over groups, or over each pixel's channels if `groups`
// is 0. scale and shift, [batch, channels] with a stride between images, may be null. `three` is used
// if kind is SPLIT: high, low, high side by side.
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
