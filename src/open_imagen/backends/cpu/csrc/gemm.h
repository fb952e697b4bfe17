// GEMM micro-kernels: products of float32 matrices, and of bfloat16 pairs where AVX-512 multiplies those.
//
// Numbers lie in cells of four bytes, one float32 or a pair of bfloat16. A left side has its cells row by
// row; a right side is packed in panels of PANEL columns, one row of cells after the other. Up to MAX_ROWS
// rows of the left side keep their PANEL sums in registers.

#pragma once

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "simd.h"

namespace {

#if defined(__AVX512F__)
constexpr int64_t VECTORS = 2, MAX_ROWS = 12;
#elif defined(__AVX__)
constexpr int64_t VECTORS = 2, MAX_ROWS = 6;
#else
constexpr int64_t VECTORS = 4, MAX_ROWS = 6;
#endif
constexpr int64_t PANEL = VECTORS * LANES;

template <typename Number> constexpr int64_t PER_CELL = sizeof(float) / sizeof(Number);

inline Vector multiply_add(Vector sum, const float *left, const float *right) {
    Vector row;
    std::memcpy(&row, right, sizeof(row));
    return sum + *left * row;
}

#ifdef __AVX512BF16__
inline Vector multiply_add(Vector sum, const uint16_t *left, const uint16_t *right) {
    int32_t cell;
    std::memcpy(&cell, left, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(cell),
                            (__m512bh)_mm512_loadu_si512(right));
}
#endif

// ROWS rows of a left side, `left_stride` numbers apart, times a panel of `cells` rows, into `out`
// [ROWS, PANEL] with `out_stride` numbers from row to row.
template <int64_t ROWS, typename Number>
inline void gemm_tile(const Number *left, int64_t left_stride, const Number *panel, int64_t cells,
                      float *out, int64_t out_stride) {
    constexpr int64_t N = PER_CELL<Number>;
    Vector sums[ROWS][VECTORS] = {};
    for (int64_t d = 0; d < cells; d++)
#pragma GCC unroll 16
        for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; v++)
                sums[r][v] = multiply_add(sums[r][v], left + r * left_stride + d * N,
                                          panel + (d * PANEL + v * LANES) * N);
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            store(sums[r][v], out + r * out_stride + v * LANES, LANES);
}

// out += left^T right: the left side is transposed, [depth, ROWS], and the right side no panel, but
// [depth, PANEL] with a stride of its own.
template <int64_t ROWS>
inline void gemm_accumulate_tile(const float *left, int64_t left_stride, const float *right,
                                 int64_t right_stride, int64_t depth, float *out,
                                 int64_t out_stride) {
    Vector sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            sums[r][v] = load(out + r * out_stride + v * LANES, LANES);
    for (int64_t d = 0; d < depth; d++)
#pragma GCC unroll 16
        for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; v++)
                sums[r][v] = multiply_add(sums[r][v], left + d * left_stride + r,
                                          right + d * right_stride + v * LANES);
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; v++)
            store(sums[r][v], out + r * out_stride + v * LANES, LANES);
}

// body(row, number) for tiles of rows, as integral constants, until all rows are done: up to
// ROW_STEP - 1 rows more than there are. Tiles of one ROW_STEP alone would wait for their last sums.
constexpr int64_t ROW_STEP = MAX_ROWS / 3;

template <typename Body> inline void for_row_tiles(int64_t rows, const Body &body) {
    int64_t r = 0;
    const auto next = [&](auto number) {
        body(r, number);
        r += number;
    };
    const int64_t steps = ceil_div(rows, ROW_STEP);
    const int64_t pairs = steps % 3 == 0 ? 0 : steps % 3 == 2 ? 1 : 2;
    if (steps == 1) return next(std::integral_constant<int64_t, ROW_STEP>());
    while (r < rows - 2 * pairs * ROW_STEP) next(std::integral_constant<int64_t, MAX_ROWS>());
    while (r < rows) next(std::integral_constant<int64_t, 2 * ROW_STEP>());
}

// All rows of a left side times one panel.
template <typename Number>
inline void gemm(const Number *left, int64_t left_stride, const Number *panel, int64_t cells,
                 float *out, int64_t out_stride, int64_t rows) {
    for_row_tiles(rows, [=](int64_t r, auto number) {
        gemm_tile<number>(left + r * left_stride, left_stride, panel, cells, out + r * out_stride,
                          out_stride);
    });
}

inline void gemm_accumulate(const float *left, int64_t left_stride, const float *right,
                            int64_t right_stride, int64_t depth, float *out, int64_t out_stride,
                            int64_t rows) {
    for_row_tiles(rows, [=](int64_t r, auto number) {
        gemm_accumulate_tile<number>(left + r, left_stride, right, right_stride, depth,
                                     out + r * out_stride, out_stride);
    });
}

}  // namespace
