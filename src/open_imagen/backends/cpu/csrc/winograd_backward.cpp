// The gradient of a 3x3 convolution's weights, by Winograd's F(3x3, 4x4).
//
// It is a convolution itself, of 6x6 inputs with 4x4 gradients of outputs, whose result is the 3x3 weights:
// it shares B^T d B of the inputs with the forward pass, and has G and A of other lengths for the same points.

#include <omp.h>

#include <vector>

#include "gemm.h"
#include "kernels.h"
#include "winograd.h"
#include "workspace.h"

namespace {

thread_local Workspace transformed_inputs, transformed_grads, accumulators, thread_scratch;

// G times four rows of channels, into six.
template <typename Number>
inline void grad_transform(const Number *const *d, float *const *out, int64_t channels) {
    const Number *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
    for_channels(channels, [=](int64_t c, auto number) {
        const Vector d0 = load(r0 + c, number), d1 = load(r1 + c, number);
        const Vector d2 = load(r2 + c, number), d3 = load(r3 + c, number);
        const Vector even = (d0 + d2) * (-1.0f / 6), odd = (d1 + d3) * (-1.0f / 6);
        const Vector even2 = (d0 + 4 * d2) * (1.0f / 24), odd2 = (d1 + 4 * d3) * (1.0f / 12);
        store(d0 * 0.25f, y0 + c, number);
        store(even + odd, y1 + c, number);
        store(even - odd, y2 + c, number);
        store(even2 + odd2, y3 + c, number);
        store(even2 - odd2, y4 + c, number);
        store(d3, y5 + c, number);
    });
}

// A^T times six rows of PANEL weights, `from` numbers apart, into three rows `to` apart.
inline void weight_grad_transform(const float *m, int64_t from, float *y, int64_t to) {
    for_channels(PANEL, [=](int64_t c, auto number) {
        const auto row = [=](int64_t k) { return load(m + k * from + c, number); };
        const Vector m1 = row(1), m2 = row(2), m3 = row(3), m4 = row(4);
        store(row(0) + m1 + m2 + m3 + m4, y + c, number);
        store(m1 - m2 + 2 * (m3 - m4), y + to + c, number);
        store(m1 + m2 + 4 * (m3 + m4) + row(5), y + 2 * to + c, number);
    });
}

// G d G^T of a tile of gradients, [36, channels], `point_stride` numbers from point to point.
template <typename Number>
void transform_grad_tile(const Number *grad, const MapShape &map, const TileOrigin &tile,
                         float *out, int64_t point_stride, float *columns, const Number *zeros) {
    const Number *pixels[TILE];
    const float *from[TILE];
    float *to[INPUT_TILE];
    for (int64_t j = 0; j < TILE; j++) {
        for (int64_t i = 0; i < TILE; i++)
            pixels[i] = pixel_or_zeros(grad, map, tile, i, j, zeros);
        for (int64_t i = 0; i < INPUT_TILE; i++) to[i] = columns + (i * TILE + j) * map.channels;
        grad_transform(pixels, to, map.channels);
    }
    for (int64_t i = 0; i < INPUT_TILE; i++) {
        for (int64_t j = 0; j < TILE; j++) from[j] = columns + (i * TILE + j) * map.channels;
        for (int64_t j = 0; j < INPUT_TILE; j++) to[j] = out + (i * INPUT_TILE + j) * point_stride;
        grad_transform(from, to, map.channels);
    }
}

// A^T m A of one input channel and one panel of outputs, into out [outputs, 3, 3, inputs].
void transform_weight_grad(const float *m, int64_t row_stride, int64_t point_stride, int64_t number,
                           int64_t inputs, float *out) {
    float rows[3 * INPUT_TILE * PANEL], grad[9 * PANEL];
    for (int64_t j = 0; j < INPUT_TILE; j++)
        weight_grad_transform(m + j * point_stride, row_stride, rows + j * PANEL,
                              INPUT_TILE * PANEL);
    for (int64_t i = 0; i < 3; i++)
        weight_grad_transform(rows + i * INPUT_TILE * PANEL, PANEL, grad + 3 * i * PANEL, PANEL);
    for (int64_t o = 0; o < number; o++)
        for (int64_t p = 0; p < 9; p++) out[(o * 9 + p) * inputs] = grad[p * PANEL + o];
}

template <typename Number>
void weight_grad(const Number *x, const Number *grad, int64_t batch, const MapShape &in,
                 const MapShape &map, float *out, int threads) {
    const int64_t panels = ceil_div(map.channels, PANEL), across = panels * PANEL;
    const int64_t total = number_of_tiles(batch, in);
    const int64_t block = block_size(total, in.channels + across, threads);
    const int64_t rows = ceil_div(in.channels, ROW_STEP) * ROW_STEP, widest = std::max(in.channels, map.channels);
    float *const inputs = transformed_inputs.reserve(POINTS * block * in.channels + ROW_STEP);
    float *const grads = transformed_grads.reserve(POINTS * block * across);
    float *const sums = accumulators.reserve(POINTS * rows * across);
    Layout layout;
    layout.add(POINTS * widest);
    float *const scratch = thread_scratch.reserve(threads * layout.size);
    const std::vector<Number> zeros(widest);
#pragma omp parallel num_threads(threads)
    {
        float *const columns = scratch + omp_get_thread_num() * layout.size;
#pragma omp for
        for (int64_t k = 0; k < POINTS * rows; k++)
            std::memset(sums + k * across, 0, across * sizeof(float));
        for (int64_t first = 0; first < total; first += block) {
            const int64_t number = std::min(block, total - first);
#pragma omp for
            for (int64_t k = 0; k < number; k++) {
                const TileOrigin tile(first + k, in);
                transform_input_tile(x, in, tile, inputs + k * in.channels, number * in.channels,
                                     columns, zeros.data());
                transform_grad_tile(grad, map, tile, grads + k * across, number * across, columns,
                                    zeros.data());
            }
#pragma omp for
            for (int64_t k = 0; k < POINTS * panels; k++) {
                const int64_t point = k / panels, column = k % panels * PANEL;
                gemm_accumulate(inputs + point * number * in.channels, in.channels,
                                grads + point * number * across + column, across, number,
                                sums + point * rows * across + column, across, in.channels);
            }
        }
#pragma omp for
        for (int64_t k = 0; k < panels * in.channels; k++) {
            const int64_t column = k / in.channels * PANEL, c = k % in.channels;
            transform_weight_grad(sums + c * across + column, INPUT_TILE * rows * across,
                                  rows * across, std::min(PANEL, map.channels - column),
                                  in.channels, out + column * 9 * in.channels + c);
        }
    }
}

}  // namespace

extern "C" int winograd_conv2d_weight_grad(const void *x, const void *grad, int bfloat16,
                                           int64_t batch, int64_t height, int64_t width,
                                           int64_t inputs, int64_t outputs, float *out,
                                           int threads) {
    const MapShape in = {height, width, inputs}, map = {height, width, outputs};
    return guarded([=] {
        if (bfloat16)
            weight_grad(static_cast<const uint16_t *>(x), static_cast<const uint16_t *>(grad),
                        batch, in, map, out, threads);
        else
            weight_grad(static_cast<const float *>(x), static_cast<const float *>(grad), batch, in,
                        map, out, threads);
    });
}
