// Products of float32 matrices, and of pairs of bfloat16 where vectors multiply those.
//
// Numbers lie in cells of four bytes, one float32 or a pair of bfloat16: of a row on the left of a
// product, one cell after the other; on its right in panels of WIDE columns, one row of cells after the
// other. Up to TALL rows on the left make sums of WIDE columns in the registers.

#pragma once

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "numbers.h"

namespace {

#if defined(__AVX512F__)
constexpr int64_t VECTORS = 2, TALL = 12;
#elif defined(__AVX__)
constexpr int64_t VECTORS = 2, TALL = 6;
#else
constexpr int64_t VECTORS = 4, TALL = 6;
#endif
constexpr int64_t WIDE = VECTORS * LANES;

template <typename Number> constexpr int64_t IN_CELL = sizeof(float) / sizeof(Number);

inline Vector plus_products(Vector sum, const float *left, const float *right) {
    Vector row;
    std::memcpy(&row, right, sizeof(row));
    return sum + *left * row;
}

#ifdef __AVX512BF16__
inline Vector plus_products(Vector sum, const uint16_t *left, const uint16_t *right) {
    int32_t cell;
    std::memcpy(&cell, left, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(cell),
                            (__m512bh)_mm512_loadu_si512(right));
}
#endif

// ROWS rows, `stride` numbers apart, times a panel of `cells` rows, into `out` [ROWS, WIDE] with
// `across` numbers from row to row.
template <int64_t ROWS, typename Number>
inline void product(const Number *left, int64_t stride, const Number *panel, int64_t cells,
                    float *out, int64_t across) {
    constexpr int64_t N = IN_CELL<Number>;
    Vector sums[ROWS][VECTORS] = {};
    for (int64_t d = 0; d < cells; d++)
#pragma GCC unroll 16
        for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; v++)
                sums[r][v] = plus_products(sums[r][v], left + r * stride + d * N,
                                           panel + (d * WIDE + v * LANES) * N);
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            store(sums[r][v], out + r * across + v * LANES, LANES);
}

// `out` plus a product whose left side lies the other way round, [cells, ROWS] with `stride` numbers
// from row to row, and whose right side is no panel, but [cells, WIDE] with `apart` numbers.
template <int64_t ROWS>
inline void sum_product(const float *left, int64_t stride, const float *right, int64_t apart,
                        int64_t cells, float *out, int64_t across) {
    Vector sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            sums[r][v] = load(out + r * across + v * LANES, LANES);
    for (int64_t d = 0; d < cells; d++)
#pragma GCC unroll 16
        for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; v++)
                sums[r][v] = plus_products(sums[r][v], left + d * stride + r,
                                           right + d * apart + v * LANES);
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            store(sums[r][v], out + r * across + v * LANES, LANES);
}

// what(r, some) for some rows from r on, until all are done, which may be up to STEP - 1 more than there
// are. STEP rows alone would leave the units waiting for their last sums.
constexpr int64_t STEP = TALL / 3;

template <typename Do> inline void by_rows(int64_t rows, const Do &what) {
    int64_t r = 0;
    const auto next = [&](auto some) {
        what(r, some);
        r += some;
    };
    const int64_t steps = ceil_div(rows, STEP), pairs = steps % 3 == 0 ? 0 : steps % 3 == 2 ? 1 : 2;
    if (steps == 1) return next(std::integral_constant<int64_t, STEP>());
    while (r < rows - 2 * pairs * STEP) next(std::integral_constant<int64_t, TALL>());
    while (r < rows) next(std::integral_constant<int64_t, 2 * STEP>());
}

template <typename Number>
inline void products(const Number *left, int64_t stride, const Number *panel, int64_t cells,
                     float *out, int64_t across, int64_t rows) {
    by_rows(rows, [=](int64_t r, auto some) {
        product<some>(left + r * stride, stride, panel, cells, out + r * across, across);
    });
}

inline void sum_products(const float *left, int64_t stride, const float *right, int64_t apart,
                         int64_t cells, float *out, int64_t across, int64_t rows) {
    by_rows(rows, [=](int64_t r, auto some) {
        sum_product<some>(left + r, stride, right, apart, cells, out + r * across, across);
    });
}

}  // namespace
