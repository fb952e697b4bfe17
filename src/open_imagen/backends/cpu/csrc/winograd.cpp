// Winograd convolution F(4x4, 3x3): weight transform, and the convolution by transformed weights.

#include "winograd.h"

#include <omp.h>

#include <vector>

#include "gemm.h"
#include "kernels.h"
#include "workspace.h"

namespace {

thread_local Workspace transformed_inputs, products, thread_scratch;

// A^T times six rows of channels, `from` numbers apart, into four rows `to` apart.
inline void output_transform(const float *m, int64_t from, float *y, int64_t to,
                             int64_t channels) {
    for_channels(channels, [=](int64_t c, auto number) {
        const auto row = [=](int64_t k) { return load(m + k * from + c, number); };
        const Vector m1 = row(1), m2 = row(2), m3 = row(3), m4 = row(4);
        const Vector sum = m1 + m2, gap = m1 - m2, sum2 = m3 + m4, gap2 = m3 - m4;
        store(row(0) + sum + sum2, y + c, number);
        store(gap + 2 * gap2, y + to + c, number);
        store(sum + 4 * sum2, y + 2 * to + c, number);
        store(gap + 8 * gap2 + row(5), y + 3 * to + c, number);
    });
}

// G times three rows of PANEL weights, `from` numbers apart, into six rows `to` apart.
inline void weight_transform(const float *g, int64_t from, float *u, int64_t to) {
    for_channels(PANEL, [=](int64_t c, auto number) {
        const Vector g0 = load(g + c, number), g1 = load(g + from + c, number);
        const Vector g2 = load(g + 2 * from + c, number);
        const Vector even = (g0 + g2) / -6, odd = g1 / -6, even2 = (g0 + 4 * g2) / 24, odd2 = g1 / 12;
        store(g0 / 4, u + c, number);
        store(even + odd, u + to + c, number);
        store(even - odd, u + 2 * to + c, number);
        store(even2 + odd2, u + 3 * to + c, number);
        store(even2 - odd2, u + 4 * to + c, number);
        store(g2, u + 5 * to + c, number);
    });
}

// (residual + A^T m A + bias) * scale of a tile, into the map. m [36, channels], `point_stride` numbers
// from point to point; `columns` has room for 24 rows of channels, `row` for four; `residual` may be null.
template <typename Number>
void transform_output_tile(const float *m, int64_t point_stride, const float *bias,
                           const Number *residual, float scale, const MapShape &map,
                           const TileOrigin &tile, float *columns, float *row, Number *out) {
    const int64_t channels = map.channels;
    for (int64_t j = 0; j < INPUT_TILE; j++)
        output_transform(m + j * point_stride, INPUT_TILE * point_stride, columns + j * channels,
                         INPUT_TILE * channels, channels);
    for (int64_t i = 0; i < TILE && tile.y + i < map.height; i++) {
        output_transform(columns + i * INPUT_TILE * channels, channels, row, channels, channels);
        const int64_t pixel = (tile.image * map.height + tile.y + i) * map.width + tile.x;
        for (int64_t j = 0; j < TILE && tile.x + j < map.width; j++) {
            const float *computed = row + j * channels;
            const Number *r = residual ? residual + (pixel + j) * channels : nullptr;
            Number *y = out + (pixel + j) * channels;
            for_channels(channels, [=](int64_t c, auto number) {
                Vector sum = load(computed + c, number) + load(bias + c, number);
                if (residual) sum = load(r + c, number) + sum;
                store(sum * scale, y + c, number);
            });
        }
    }
}

template <typename Number>
void convolve(const Number *x, const float *weight, const float *bias, const Number *residual,
              float scale, int64_t batch, const MapShape &in, const MapShape &map, Number *out,
              int threads) {
    const int64_t panels = ceil_div(map.channels, PANEL), across = panels * PANEL;
    const int64_t total = number_of_tiles(batch, in);
    const int64_t block = block_size(total, in.channels + across, threads);
    const int64_t point_stride = ceil_div(block, ROW_STEP) * ROW_STEP * across;
    float *const inputs = transformed_inputs.reserve((POINTS * block + ROW_STEP) * in.channels);
    float *const outputs = products.reserve(POINTS * point_stride);
    Layout layout;
    layout.add(POINTS * std::max(in.channels, map.channels));
    const int64_t row_at = layout.add(TILE * map.channels);
    float *const scratch = thread_scratch.reserve(threads * layout.size);
    const std::vector<Number> zeros(in.channels);
#pragma omp parallel num_threads(threads)
    {
        float *const columns = scratch + omp_get_thread_num() * layout.size;
        float *const row = columns + row_at;
        for (int64_t first = 0; first < total; first += block) {
            const int64_t number = std::min(block, total - first);
#pragma omp for
            for (int64_t k = 0; k < number; k++)
                transform_input_tile(x, in, TileOrigin(first + k, in), inputs + k * in.channels,
                                     number * in.channels, columns, zeros.data());
#pragma omp for
            for (int64_t k = 0; k < POINTS * panels; k++)
                gemm(inputs + k / panels * number * in.channels, in.channels,
                     weight + k * in.channels * PANEL, in.channels,
                     outputs + k / panels * point_stride + k % panels * PANEL, across, number);
#pragma omp for
            for (int64_t k = 0; k < number; k++)
                transform_output_tile(outputs + k * across, point_stride, bias, residual, scale,
                                      map, TileOrigin(first + k, map), columns, row, out);
        }
    }
}

}  // namespace

extern "C" {

int64_t winograd_panel_width() { return PANEL; }

int winograd_transform_weights(const float *weight, int64_t outputs, int64_t inputs,
                               int64_t output_stride, int64_t input_stride, int64_t row_stride,
                               int64_t column_stride, float *out, int threads) {
    const int64_t panels = ceil_div(outputs, PANEL);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < panels * inputs; k++) {
        const int64_t panel = k / inputs, c = k % inputs, first = panel * PANEL;
        const float *from = weight + first * output_stride + c * input_stride;
        float g[3 * 3 * PANEL] = {}, columns[INPUT_TILE * 3 * PANEL], all[POINTS * PANEL];
        for (int64_t o = 0; o < std::min(PANEL, outputs - first); o++)
            for (int64_t p = 0; p < 9; p++)
                g[p * PANEL + o] =
                    from[o * output_stride + p / 3 * row_stride + p % 3 * column_stride];
        for (int64_t j = 0; j < 3; j++)
            weight_transform(g + j * PANEL, 3 * PANEL, columns + j * PANEL, 3 * PANEL);
        for (int64_t i = 0; i < INPUT_TILE; i++)
            weight_transform(columns + 3 * i * PANEL, PANEL, all + INPUT_TILE * i * PANEL, PANEL);
        for (int64_t p = 0; p < POINTS; p++)
            std::memcpy(out + ((p * panels + panel) * inputs + c) * PANEL, all + p * PANEL,
                        PANEL * sizeof(float));
    }
    return DONE;
}

int winograd_conv2d(const void *x, const float *weight, const float *bias, const void *residual,
                    int bfloat16, float scale, int64_t batch, int64_t height, int64_t width,
                    int64_t inputs, int64_t outputs, void *out, int threads) {
    const MapShape in = {height, width, inputs}, map = {height, width, outputs};
    return guarded([=] {
        if (bfloat16)
            convolve(static_cast<const uint16_t *>(x), weight, bias,
                     static_cast<const uint16_t *>(residual), scale, batch, in, map,
                     static_cast<uint16_t *>(out), threads);
        else
            convolve(static_cast<const float *>(x), weight, bias,
                     static_cast<const float *>(residual), scale, batch, in, map,
                     static_cast<float *>(out), threads);
    });
}

}  // extern "C"
